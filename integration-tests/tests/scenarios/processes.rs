//! How processes end.

use integration_tests::{Builder, Client, Cluster, Count, Internal, Port, Process, Secured, eventually, within};
use nix::sys::signal::Signal;
use proto::blob::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upload::Upload;

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

#[tokio::test]
async fn a_blob_half_sent_at_sigterm_is_stored_before_the_blob_server_ends() {
    let identity = Internal::pair();
    let mut secured = Secured::with(patient(), &identity, &[&identity]).await;
    let blobs = secured.cluster.scratch().join("blobs");
    let blob_server = secured.cluster.process("blob-server");
    let (client, address) = (Client::new(Some(&identity)), blob_server.address(Port::Blob));
    let body = vec![7; 3 << 20];
    let upload = Upload::begin(&client, address, body.clone()).await;
    let digest = upload.digest;
    drains(blob_server).await;
    assert_eq!(within("the transfer", upload.finish()).await, Response::Stored);
    let status = blob_server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(std::fs::read(blobs.join(digest.to_string())).unwrap() == body);
}

#[tokio::test]
async fn a_request_half_sent_at_sigterm_is_answered_before_the_rest_gateway_ends() {
    let identity = Internal::pair();
    let mut secured = Secured::with(patient(), &identity, &[&identity]).await;
    let sink = secured.cluster.scratch().join("counts");
    let gateway = secured.cluster.process("rest-gateway");
    let mut connection = Client::new(None).connect(Port::Rest, gateway.address(Port::Rest)).await.unwrap();
    // It waits for slots, which are not needed here.
    let script = Count { rows: 1_000 }.generated("", &sink);
    let (first, second) = script.split_at(script.len() / 2);
    let head = format!(
        "POST /v1/jobs/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        script.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    // The gateway has begun with the request.
    let mut line = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    within("it wants the body", connection.read_exact(&mut line)).await.unwrap();
    assert!(line.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&line));
    connection.write_all(first.as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    drains(gateway).await;
    connection.write_all(second.as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    let mut answer = Vec::new();
    within("the answer", connection.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("jobid"), "{answer}");
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

/// Nothing is cut off however slow the machine.
fn patient() -> Builder {
    Cluster::builder().task_managers(0).set("security.ssl.reload.drain-grace", "1 h")
}

/// Sends SIGTERM and waits until nobody else is let in.
async fn drains(process: &Process) {
    process.signal(Signal::SIGTERM);
    eventually(&format!("{} has stopped listening", process.name()), async || {
        let listening = process.listening();
        if listening.is_empty() { Ok(()) } else { Err(format!("{listening:?}")) }
    })
    .await;
}

async fn ends_by_sigterm(secured: &mut Secured, name: &str) {
    let process = secured.cluster.process(name);
    process.signal(Signal::SIGTERM);
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0), "{name}: {status}");
}
