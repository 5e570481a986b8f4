//! How processes end.

use integration_tests::{Internal, Secured};
use nix::sys::signal::Signal;

#[tokio::test]
async fn sigterm_drains_every_process_and_a_running_job_ends_with_a_cause() {
    let identity = Internal::pair();
    let mut secured = Secured::start(&identity, &[&identity]).await;
    let job = secured.cluster.starts_an_endless_job().await;
    ends_by_sigterm(&mut secured, "taskmanager-1").await;
    secured.cluster.ends(&job, "FAILED").await;
    let cause = secured.cluster.cause(&job).await;
    assert!(cause.contains("taskmanager-1"), "{cause}");
    for name in ["taskmanager-2", "rest-gateway", "jobmanager", "blob-server"] {
        ends_by_sigterm(&mut secured, name).await;
    }
}

#[tokio::test]
async fn sigterm_drains_all_processes_at_once_while_a_job_runs() {
    let identity = Internal::pair();
    let mut secured = Secured::start(&identity, &[&identity]).await;
    secured.cluster.starts_an_endless_job().await;
    for process in secured.cluster.processes() {
        process.signal(Signal::SIGTERM);
    }
    for process in secured.cluster.processes_mut() {
        let status = process.ended().await;
        assert_eq!(status.code(), Some(0), "{}: {status}", process.name());
    }
}

async fn ends_by_sigterm(secured: &mut Secured, name: &str) {
    let process = secured.cluster.process(name);
    process.signal(Signal::SIGTERM);
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0), "{name}: {status}");
}
