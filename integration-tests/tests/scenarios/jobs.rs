//! Jobs: exact whatever happens to certificates, ended with a cause whatever happens to processes.

use std::path::Path;
use std::process::Command;

use integration_tests::{Cluster, Count, Internal, Secured, tool};
use nix::sys::signal::Signal;
use tidemill::rotation::{Rotator, RotatorOptions};
use tls_common::EndpointStatus;

const ROTATIONS: u64 = 200;
const ROWS_PER_ROTATION: u64 = 2_000;

#[tokio::test]
async fn a_job_that_is_idle_through_several_rotations_is_exact() {
    const ROWS: u64 = 20_000;
    const SILENCES: u64 = 2;
    const ROTATIONS: u64 = 4;
    let builder = Cluster::builder();
    let mut rotator = Rotator::create(builder.scratch(), RotatorOptions::default()).unwrap();
    let builder = builder.set_all(rotator.settings()).set("security.ssl.reload", "true");
    let cluster = builder.set("security.ssl.reload.established-connections", "renew").start().await;

    let mut fed = cluster.submit_fed("").await;
    // Once before the first row, and once between rows.
    for _ in 0..SILENCES {
        for _ in 0..ROTATIONS {
            let step = rotator.rotate().unwrap();
            cluster.follows(&step.internal.fingerprint, &step.rest.fingerprint).await;
        }
        fed.feed(ROWS).await;
    }
    fed.ends_exact(&cluster).await;
    for endpoint in cluster.tls().await.processes.iter().flat_map(|process| &process.endpoints) {
        assert_eq!((endpoint.failed_handshakes, endpoint.refused_connects, endpoint.killed), (0, 0, 0), "{endpoint:?}");
        if endpoint.endpoint == "data" {
            assert!(endpoint.handshakes > ROTATIONS, "its connections did not move: {endpoint:?}");
        }
    }
}

#[tokio::test]
async fn a_job_is_exact_while_both_bundles_are_replaced_200_times() {
    let builder = Cluster::builder();
    let mut rotator = Rotator::create(builder.scratch(), RotatorOptions::default()).unwrap();
    let builder = builder.set_all(rotator.settings()).set("security.ssl.reload", "true");
    // Every connection has to move at every rotation.
    let cluster = builder.set("security.ssl.reload.established-connections", "renew").start().await;

    let mut fed = cluster.submit_fed(", 'rows-per-second' = '100000'").await;
    for _ in 0..ROTATIONS {
        fed.feed(ROWS_PER_ROTATION).await;
        let step = rotator.rotate().unwrap();
        cluster.follows(&step.internal.fingerprint, &step.rest.fingerprint).await;
    }
    fed.ends_exact(&cluster).await;

    for process in cluster.tls().await.processes {
        for endpoint in process.endpoints {
            assert!(endpoint.bundle.as_ref().unwrap().generation > ROTATIONS, "{} {endpoint:?}", process.process);
            assert_eq!(endpoint.failed_handshakes, 0, "{} {endpoint:?}", process.process);
            assert_eq!(endpoint.refused_connects, 0, "{} {endpoint:?}", process.process);
            assert_eq!(endpoint.killed, 0, "{} {endpoint:?}", process.process);
            if endpoint.endpoint == "data" {
                assert!(endpoint.handshakes > ROTATIONS / 2, "{} {endpoint:?}", process.process);
            }
        }
    }
}

/// What crosses an exchange between two subtasks, and is exact behind it.
async fn bytes_read(codec: &str, options: &str) -> u64 {
    const ROWS: u64 = 50_000;
    let builder = Cluster::builder().set("parallelism.default", "1");
    let cluster = builder.set("taskmanager.network.compression.codec", codec).start().await;
    let sink = cluster.scratch().join("counts");
    let job = cluster.submit(&Count { rows: ROWS }.generated(options, &sink)).await;
    let ended = cluster.ends(&job, "FINISHED").await;
    Count { rows: ROWS }.assert_exact(&sink);
    ended.vertices[1].metrics.read_bytes
}

#[tokio::test]
async fn rows_that_cross_are_compressed_as_their_script_or_the_task_manager_says_and_are_exact() {
    let apart = ", 'slot-sharing-group' = 'sources'";
    let zstd_by_script = format!("{apart}, 'exchange.compression' = 'zstd'");
    let (plain, lz4, zstd, local) = tokio::join!(
        bytes_read("NONE", apart),
        bytes_read("LZ4", apart),
        bytes_read("LZ4", &zstd_by_script),
        bytes_read("ZSTD", ""),
    );
    // How the rows are cut into batches, and so a few bytes, depends on the clock.
    assert!(zstd < lz4 && lz4 < plain * 9 / 10, "{zstd}, {lz4}, {plain}");
    // Whatever anybody says, rows that stay on their TaskManager are left alone.
    assert!(local > plain * 9 / 10, "{local}, {plain}");
}

#[tokio::test]
async fn real_flights_submitted_with_curl_come_out_as_plain_datafusion_has_them() {
    if !tool("curl", "--version") {
        return;
    }
    let identity = Internal::pair();
    let secured = Secured::start(&identity, &[&identity]).await;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/flights.csv.gz");
    let sink = secured.cluster.scratch().join("departures");
    let sql = format!(
        "CREATE TABLE flights (
             sched_dep TIMESTAMP(3), carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
             dep_delay INT, arr_delay INT, air_time INT, distance INT
         ) WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{data}',
                 'watermark.column' = 'sched_dep', 'watermark.delay' = '24 h');
         CREATE TABLE departures (
             day TIMESTAMP(3), carrier STRING, origin STRING, flights BIGINT, avg_dep_delay DOUBLE, max_arr_delay INT
         ) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '{sink}');
         INSERT INTO departures
             SELECT tumble(sched_dep, INTERVAL '1 day'), carrier, origin, count(*), avg(dep_delay), max(arr_delay)
             FROM flights GROUP BY tumble(sched_dep, INTERVAL '1 day'), carrier, origin;",
        data = data.display(),
        sink = sink.display(),
    );
    let script = secured.cluster.scratch().join("flights.sql");
    std::fs::write(&script, &sql).unwrap();

    let url = format!("{}/v1/jobs/sql", secured.cluster.rest().url());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--header", "Content-Type: text/plain"]);
    curl.arg("--cacert").arg(secured.rest.ca_pem()).arg("--data-binary").arg(format!("@{}", script.display())).arg(url);
    let answer = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let submitted: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    secured.cluster.ends(submitted["jobid"].as_str().unwrap(), "FINISHED").await;

    let oracle = engine::batch::run(&sql).await.unwrap();
    let compared = tokio::task::spawn_blocking(move || engine::batch::compare(&sink, &oracle)).await.unwrap().unwrap();
    assert!(compared.exact, "{compared:?}");
    assert_eq!(compared.rows_in, 336_776);
}

#[tokio::test]
async fn a_running_job_can_be_cancelled() {
    let identity = Internal::pair();
    let secured = Secured::start(&identity, &[&identity]).await;
    let job = secured.cluster.starts_an_endless_job().await;
    secured.cluster.rest().cancel(&job).await.unwrap();
    secured.cluster.ends(&job, "CANCELED").await;
    // Its slots are free again.
    secured.runs_a_job().await;
}

#[tokio::test]
async fn a_task_manager_that_is_killed_fails_its_job_and_is_named_as_the_cause() {
    let identity = Internal::pair();
    // The neighbour would go on waiting for it: what notices the loss is the missing heartbeats.
    let builder =
        Cluster::builder().set("heartbeat.timeout", "5 s").set("taskmanager.network.reconnect-timeout", "1 h");
    let mut secured = Secured::with(builder, &identity, &[&identity]).await;
    let job = secured.cluster.starts_an_endless_job().await;
    secured.cluster.process("taskmanager-2").signal(Signal::SIGKILL);
    secured.cluster.ends(&job, "FAILED").await;
    let cause = secured.cluster.cause(&job).await;
    assert!(cause.contains("taskmanager-2") && cause.contains("heartbeat"), "{cause}");
    assert!(secured.cluster.process("taskmanager-1").is_running());
}

#[tokio::test]
async fn the_keystore_of_flinks_documentation_shuffles_between_two_task_managers() {
    // CN=flink.internal without any subjectAltName, made by keytool, keystore and truststore in one.
    let keystore = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tls-common/tests/fixtures/keytool.p12");
    let settings = Internal::settings_for(&keystore, &keystore, "store_password");
    let cluster = Cluster::builder().set_all(settings).start().await;
    cluster.runs_a_job().await;
    let subject = |endpoint: &EndpointStatus| endpoint.bundle.as_ref().unwrap().subject.clone().unwrap();
    let shuffled = |endpoint: &EndpointStatus| endpoint.endpoint != "data" || endpoint.handshakes > 0;
    let report = cluster.tls_until("the data plane's handshakes are reported", shuffled).await;
    let endpoints = report.processes.iter().flat_map(|process| &process.endpoints);
    let data: Vec<_> = endpoints.filter(|endpoint| endpoint.endpoint == "data").collect();
    assert_eq!(data.len(), 2);
    assert!(data.iter().all(|data| subject(data).contains("flink.internal")), "{data:?}");
}
