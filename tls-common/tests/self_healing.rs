//! Files that changed and nobody said so: a handshake that fails for it makes us look.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::{PASSWORD, Pair, keystore, options_for, quick, truststore, until};
use tls_common::testing::{Directory, FileSet, Way};
use tls_common::{Connection, ConnectionPolicy, Endpoint, HandshakeLimits, Listener, TlsContext, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// A bundle on a file system without events; the poll is an hour away.
struct Deaf {
    directory: Directory,
    context: TlsContext,
    endpoint: Endpoint,
    _scratch: tempfile::TempDir,
}

fn files(identity: &Pair, trusted: &[&Pair]) -> FileSet {
    FileSet::from([
        ("keystore.p12".to_owned(), keystore(identity, PASSWORD)),
        ("truststore.p12".to_owned(), truststore(trusted, PASSWORD)),
    ])
}

impl Deaf {
    async fn new(identity: &Pair, trusted: &[&Pair]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let directory = Directory::create(&root, Way::HardLink, &files(identity, trusted)).unwrap();
        let options = options_for(&directory.file("keystore.p12"), &directory.file("truststore.p12"));
        let context = TlsContext::load(options, Some(quick())).await.unwrap();
        // The look that follows the start of the watch is over: from here on nothing makes us look but what is tested.
        until(&context, |status| status.checks > 0).await;
        let endpoint =
            Endpoint::new("test", Some(context.clone()), ConnectionPolicy::default(), HandshakeLimits::default());
        Self { directory, context, endpoint, _scratch: scratch }
    }

    fn change(&mut self, identity: &Pair, trusted: &[&Pair]) {
        self.directory.plan(&files(identity, trusted)).unwrap().run().unwrap();
    }

    async fn notices(&self) {
        let status = until(&self.context, |status| status.generation == 2).await;
        assert_eq!(status.last_look_source.as_deref(), Some("handshake"));
    }

    async fn serve(&self) -> (u16, CancellationToken) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (port, stop) = (listener.local_addr().port(), CancellationToken::new());
        let greet = |mut connection: Connection| async move {
            let _ = connection.write_all(b"hello").await;
            let _ = connection.shutdown().await;
        };
        tokio::spawn(serve(listener, self.endpoint.acceptor(&["test"]), stop.clone(), greet));
        (port, stop)
    }

    async fn is_greeted(&self, port: u16) -> bool {
        let Ok(mut connection) = self.endpoint.connector(&["test"]).connect("127.0.0.1", port).await else {
            return false;
        };
        connection.read_exact(&mut [0; 5]).await.is_ok()
    }
}

#[tokio::test]
async fn a_client_that_our_old_truststore_refuses_makes_the_server_look() {
    let [own, guest] = [Pair::new(), Pair::new()];
    let mut server = Deaf::new(&own, &[&own]).await;
    let (port, _stop) = server.serve().await;
    let client = Deaf::new(&guest, &[&own, &guest]).await;
    server.change(&own, &[&own, &guest]);
    assert!(!client.is_greeted(port).await);
    server.notices().await;
    assert!(client.is_greeted(port).await);
}

#[tokio::test]
async fn a_server_that_our_old_truststore_refuses_makes_the_client_look() {
    let [old, new] = [Pair::new(), Pair::new()];
    let server = Deaf::new(&new, &[&old, &new]).await;
    let (port, _stop) = server.serve().await;
    let mut client = Deaf::new(&old, &[&old]).await;
    client.change(&old, &[&old, &new]);
    assert!(!client.is_greeted(port).await);
    client.notices().await;
    assert!(client.is_greeted(port).await);
}

#[tokio::test]
async fn a_server_that_refuses_our_old_certificate_makes_the_client_look() {
    let [own, old, new] = [Pair::new(), Pair::new(), Pair::new()];
    let server = Deaf::new(&own, &[&own, &new]).await;
    let (port, _stop) = server.serve().await;
    let mut client = Deaf::new(&old, &[&own, &old, &new]).await;
    client.change(&new, &[&own, &old, &new]);
    assert!(!client.is_greeted(port).await, "TLS 1.3 says so only at the first read");
    client.notices().await;
    assert!(client.is_greeted(port).await);
}

#[tokio::test]
async fn noise_and_silence_are_no_reason_to_look() {
    let [own, guest] = [Pair::new(), Pair::new()];
    let server = Deaf::new(&own, &[&own, &guest]).await;
    let (port, _stop) = server.serve().await;
    let checks = server.context.status().checks;
    let mut noisy = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    noisy.write_all(&[0x47; 64]).await.unwrap();
    let _ = noisy.read_to_end(&mut Vec::new()).await;
    let client = Deaf::new(&guest, &[&own, &guest]).await;
    assert!(client.is_greeted(port).await);
    assert_eq!((server.endpoint.status().failed_handshakes, server.context.status().checks), (1, checks));
}

#[tokio::test]
async fn a_change_that_nobody_told_of_counts_from_the_moment_it_was_made() {
    let [old, new] = [Pair::new(), Pair::new()];
    let mut bundle = Deaf::new(&old, &[&old, &new]).await;
    bundle.change(&new, &[&old, &new]);
    // Real time has to pass: the moment is the inode's change time, which nobody can set.
    let unnoticed = Duration::from_secs(1);
    tokio::time::sleep(unnoticed).await;
    bundle.context.reload_now();
    until(&bundle.context, |status| status.generation == 2).await;
    let counted = Duration::from_millis(bundle.endpoint.status().slowest_reload_ms);
    assert!(counted >= unnoticed, "{counted:?}");
}
