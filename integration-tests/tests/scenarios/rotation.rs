//! Files that change under a running cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use integration_tests::{Client, Cluster, Internal, KEYSTORE, Port, Secured, TRUSTSTORE};
use tidemill::rotation::Way;
use tls_common::EndpointStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An HTTP/1.1 connection is closed after 30 s without a request, whatever its certificate; a third of it is for one
/// request to arrive.
const HTTP_IDLE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_port_presents_the_new_certificate_after_each_way_of_replacing_the_files() {
    let mut current = Internal::pair();
    let mut secured = Secured::start(&current, &[&current]).await;
    // Twice around, so that every way follows every layout that another way has left.
    for way in Way::ALL.into_iter().cycle().take(2 * Way::ALL.len()) {
        let next = Internal::pair();
        let mut presented = BTreeSet::from([secured.rest.fingerprint()]);
        secured.rest.renew(way);
        assert!(presented.insert(secured.rest.fingerprint()));
        secured.rotate(&next, &[&current, &next], way).await;
        secured.every_port_presents(&Client::new(Some(&next)), &next.fingerprint()).await;
        current = next;
    }
    secured.runs_a_job().await;
}

#[tokio::test]
async fn connections_that_sat_out_several_rotations_idle_do_not_fail_the_next_job() {
    let pairs: Vec<_> = (0..5).map(|_| Internal::pair()).collect();
    // Nobody says anything while the certificates change: heartbeats are as good as off, and we ask nothing.
    let builder = Cluster::builder().set("heartbeat.interval", "1 h").set("heartbeat.timeout", "2 h");
    let mut secured = Secured::with(builder, &pairs[0], &[&pairs[0], &pairs[1]]).await;
    secured.runs_a_job().await;
    let gateway = secured.cluster.process("rest-gateway").address(Port::Rest);
    let mut idle = Client::new(None).connect(Port::Rest, gateway).await.unwrap();
    ask(&mut idle).await;
    let asked = Instant::now();

    for step in 1..pairs.len() {
        // Each knows the one before and the one after, so the first connections are not to be trusted any more at the end.
        let trusted: Vec<_> = pairs[step - 1..(step + 2).min(pairs.len())].iter().collect();
        secured.internal.replace(&pairs[step], &trusted, Way::RenameBeside);
        secured.rest.renew(Way::RenameBeside);
        for process in secured.cluster.processes() {
            process.logs(&pairs[step].fingerprint()).await;
        }
        secured.cluster.process("rest-gateway").logs(&secured.rest.fingerprint()).await;
    }

    if asked.elapsed() < HTTP_IDLE {
        ask(&mut idle).await;
    } else {
        eprintln!("not asked again over HTTPS: on a machine this slow the connection has been closed for being idle");
    }
    secured.runs_a_job().await;
}

/// A request on a connection that stays.
async fn ask(connection: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    connection.write_all(b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    connection.flush().await.unwrap();
    let mut answer = vec![0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200");
    // The body is one JSON object without another in it.
    while connection.read_u8().await.unwrap() != b'}' {}
}

#[tokio::test]
async fn an_unrelated_file_in_the_directory_makes_no_generation() {
    let (old, new) = (Internal::pair(), Internal::pair());
    let mut secured = Secured::start(&old, &[&old, &new]).await;
    for round in 0..5 {
        secured.internal.overwrite("unrelated.log", &vec![b'x'; round]);
    }
    // The same bytes again are no change either.
    let keystore = std::fs::read(secured.internal.file(KEYSTORE)).unwrap();
    secured.internal.overwrite(KEYSTORE, &keystore);
    // A real change shows that the events before it have been looked at. It is one change, however long it takes: with two
    // renames a slow machine could rightly see two.
    let report = secured.rotate(&new, &[&old, &new], Way::SymlinkSwap).await;
    for endpoint in report.processes.iter().flat_map(|process| &process.endpoints) {
        let bundle = endpoint.bundle.as_ref().unwrap();
        let (generation, rebinds) = if bundle.bundle == "rest" { (1, 0) } else { (2, 1) };
        assert_eq!(bundle.generation, generation, "{endpoint:?}");
        assert!(endpoint.listener_rebinds <= rebinds, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_keystore_and_a_truststore_written_at_different_moments_end_as_one_generation() {
    let (old, new) = (Internal::pair(), Internal::pair());
    let secured = Secured::start(&old, &[&old]).await;
    // A key that its own truststore does not know yet: nobody may take it over alone.
    secured.internal.overwrite(KEYSTORE, &Internal::keystore(&new));
    secured.cluster.tls_until("everybody waits for the truststore", has_error).await;
    secured.every_port_presents(&Client::new(Some(&old)), &old.fingerprint()).await;
    secured.internal.overwrite(TRUSTSTORE, &Internal::truststore(&[&old, &new]));
    let report = secured.cluster.follows(&new.fingerprint(), &secured.rest.fingerprint()).await;
    for endpoint in report.processes.iter().flat_map(|process| &process.endpoints) {
        let bundle = endpoint.bundle.as_ref().unwrap();
        assert_eq!(bundle.last_error, None);
        assert_eq!(bundle.generation, if bundle.bundle == "rest" { 1 } else { 2 });
    }
    secured.every_port_presents(&Client::new(Some(&new)), &new.fingerprint()).await;
    secured.runs_a_job().await;
}

fn has_error(endpoint: &EndpointStatus) -> bool {
    let bundle = endpoint.bundle.as_ref().unwrap();
    bundle.bundle == "rest" || bundle.last_error.is_some()
}

#[tokio::test]
async fn many_connections_and_rotations_leave_one_inotify_instance_in_each_process() {
    const ROUNDS: usize = 5;
    const CONNECTIONS: usize = 20;
    let pair = Internal::pair();
    let mut current = Internal::pair();
    let mut secured = Secured::start(&current, &[&current, &pair]).await;
    let client = Client::new(Some(&pair));
    for _ in 0..ROUNDS {
        for _ in 0..CONNECTIONS {
            secured.every_port_presents(&client, &current.fingerprint()).await;
        }
        secured.runs_a_job().await;
        let next = Internal::pair();
        secured.rotate(&next, &[&current, &next, &pair], Way::RenameBeside).await;
        current = next;
    }
    for process in secured.cluster.processes() {
        assert_eq!(process.inotify_instances(), 1, "{}", process.name());
    }
}
