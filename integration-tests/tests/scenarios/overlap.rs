//! Hosts whose files change at different instants.

use integration_tests::{Cluster, Internal, Rest, eventually};
use tidemill::rotation::{Identity, Way};

/// Every process has a bundle of its own, as on hosts of their own.
const PROCESSES: [&str; 5] = ["blob-server", "jobmanager", "rest-gateway", "taskmanager-1", "taskmanager-2"];

#[tokio::test]
async fn processes_that_rotate_one_after_the_other_within_the_overlap_never_fail_a_handshake() {
    // Flink's recipe at its hardest: one pair is everybody's identity and all of the trust, and the next pair trusts
    // only itself.
    let pairs: Vec<Identity> = (0..3).map(|_| Internal::pair()).collect();
    let builder = Cluster::builder()
        .set("security.ssl.reload", "true")
        .set("security.ssl.reload.overlap", "1 h")
        // For a job that goes on and others beside it.
        .set("taskmanager.numberOfTaskSlots", "2")
        // Nothing but new handshakes.
        .set("security.ssl.reload.established-connections", "renew");
    let rest = Rest::create(&builder.scratch().join("rest"));
    let mut builder = builder.set_all(rest.settings());
    let mut bundles = Vec::new();
    for process in PROCESSES {
        let bundle = Internal::create(&builder.scratch().join(process).join("tls"), &pairs[0], &[&pairs[0]]);
        builder = builder.set_for(process, bundle.settings());
        bundles.push((process, bundle));
    }
    let mut cluster = builder.start().await;
    let endless = cluster.starts_an_endless_job().await;

    for pair in &pairs[1..] {
        // In another order each time.
        bundles.rotate_left(2);
        for (process, bundle) in &mut bundles {
            bundle.replace(pair, &[pair], Way::RenameBeside);
            cluster.process(process).logs(&pair.fingerprint()).await;
            cluster.runs_a_job().await;
        }
    }
    let report = cluster.follows(&pairs[2].fingerprint(), &rest.fingerprint()).await;
    for endpoint in report.processes.iter().flat_map(|process| &process.endpoints) {
        assert_eq!((endpoint.failed_handshakes, endpoint.refused_connects), (0, 0), "{endpoint:?}");
        assert!(endpoint.bundle.as_ref().is_some_and(rotated_twice), "{endpoint:?}");
    }
    // No task was restarted either: the job has been running all the time.
    cluster.job_until(&endless, "it still runs", |job| job.state == "RUNNING").await;
}

#[tokio::test]
async fn a_process_that_is_left_behind_is_shut_out_when_the_overlap_is_over() {
    let [old, new] = [Internal::pair(), Internal::pair()];
    let builder = Cluster::builder()
        .set("security.ssl.reload", "true")
        .set("security.ssl.reload.overlap", "2 s")
        .set("heartbeat.timeout", "3 s")
        .task_managers(1);
    let rest = Rest::create(&builder.scratch().join("rest"));
    let mut builder = builder.set_all(rest.settings());
    let mut bundles = Vec::new();
    for process in &PROCESSES[..4] {
        let bundle = Internal::create(&builder.scratch().join(process).join("tls"), &old, &[&old]);
        builder = builder.set_for(process, bundle.settings());
        bundles.push((*process, bundle));
    }
    let mut cluster = builder.start().await;
    let (left_behind, others) = bundles.split_last_mut().unwrap();
    assert_eq!(left_behind.0, "taskmanager-1");
    for (process, bundle) in others {
        bundle.replace(&new, &[&new], Way::RenameBeside);
        cluster.process(process).logs(&new.fingerprint()).await;
    }
    has_task_managers(&cluster, 0).await;
    // It is let in again as soon as it has followed.
    left_behind.1.replace(&new, &[&new], Way::RenameBeside);
    has_task_managers(&cluster, 1).await;
}

async fn has_task_managers(cluster: &Cluster, count: u64) {
    eventually(&format!("{count} TaskManagers are registered"), async || {
        // On a machine that stalls, the gateway may be shut out for a moment, too.
        let overview =
            cluster.rest().get::<serde_json::Value>("/v1/overview").await.map_err(|error| error.to_string())?;
        if overview["taskmanagers"] == count { Ok(()) } else { Err(overview.to_string()) }
    })
    .await;
}

/// Three sets of files, in three generations.
fn rotated_twice(bundle: &tls_common::BundleStatus) -> bool {
    bundle.bundle == "rest" || bundle.generation == 3
}
