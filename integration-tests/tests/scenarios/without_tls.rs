//! No `security.*` option at all.

use integration_tests::{Cluster, Port};

#[tokio::test]
async fn with_tls_off_everything_works_over_plain_tcp() {
    let cluster = Cluster::builder().start().await;
    assert!(cluster.rest().url().starts_with("http://"));
    cluster.runs_a_job().await;
    let report = cluster.tls().await;
    assert_eq!(report.processes.len(), cluster.processes().len());
    for endpoint in report.processes.iter().flat_map(|process| &process.endpoints) {
        assert!(endpoint.bundle.is_none(), "{endpoint:?}");
    }
}

#[tokio::test]
async fn every_server_listens_on_loopback_unless_told_otherwise() {
    let cluster = Cluster::builder().start().await;
    for process in cluster.processes() {
        let listening = process.listening();
        let announced = process.ports().map(|(_, address)| address).collect();
        assert_eq!(listening, announced, "{}", process.name());
        assert!(listening.iter().all(|address| address.ip().is_loopback()), "{}: {listening:?}", process.name());
        assert_eq!(listening.len(), Port::of(process.role()).len(), "{}", process.name());
    }
}
