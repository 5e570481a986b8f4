//! `security.ssl.reload` is false unless somebody says otherwise.

use integration_tests::{Client, Cluster, Internal, Secured};
use nix::sys::signal::Signal;
use tidemill::rotation::Way;

#[tokio::test]
async fn without_security_ssl_reload_nothing_is_watched_and_nothing_changes() {
    let (old, new) = (Internal::pair(), Internal::pair());
    let mut secured = Secured::still(Cluster::builder(), &old, &[&old]).await;
    secured.internal.replace(&new, &[&old, &new], Way::InPlace);
    for process in secured.cluster.processes() {
        assert_eq!(process.inotify_instances(), 0, "{}", process.name());
        // Not even when asked.
        process.signal(Signal::SIGHUP);
        process.logs("SIGHUP").await;
    }
    secured.every_port_presents(&Client::new(Some(&old)), &old.fingerprint()).await;
    secured.runs_a_job().await;
    let report = secured.cluster.tls().await;
    for endpoint in report.processes.iter().flat_map(|process| &process.endpoints) {
        let bundle = endpoint.bundle.as_ref().unwrap();
        assert_eq!((bundle.generation, bundle.watching), (1, false), "{endpoint:?}");
    }
}
