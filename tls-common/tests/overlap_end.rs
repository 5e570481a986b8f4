//! The end of an overlap with real files, a real clock and established connections.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::{Bundle, Pair, quick, serves, until};
use tls_common::{BundleOptions, Connection, ConnectionPolicy, Endpoint, HandshakeLimits, Listener, TlsContext, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_overlap_ends_when_it_ends_although_the_files_are_unreadable_by_then() {
    let [own, removed] = [Pair::new(), Pair::new()];
    let bundle = Bundle::new(&own, &[&own, &removed]);
    let options = BundleOptions { overlap: Duration::from_secs(3), ..bundle.options() };
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    let serving = Endpoint::new("test", Some(context.clone()), ConnectionPolicy::default(), HandshakeLimits::default());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (port, stop) = (listener.local_addr().port(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let echo = |mut connection: Connection| async move {
        let info = connection.info().clone();
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                read = connection.read_exact(&mut byte) => if read.is_err() { return },
                _ = info.draining() => return,
            }
            if connection.write_all(&byte).await.is_err() || connection.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(serve(listener, serving.acceptor(&["test"]), stop, echo));
    let theirs = Bundle::new(&removed, &[&own, &removed]);
    let client = TlsContext::load(theirs.options(), None).await.unwrap();
    let client = Endpoint::new("test", Some(client), ConnectionPolicy::default(), HandshakeLimits::default());
    let mut connection = client.connector(&["test"]).connect("127.0.0.1", port).await.unwrap();
    connection.write_all(b"x").await.unwrap();
    connection.flush().await.unwrap();
    connection.read_exact(&mut [0; 1]).await.unwrap();

    bundle.write_in_place(&own, &[&own]);
    until(&context, |status| status.generation == 2).await;
    std::fs::write(bundle.keystore(), b"half a file").unwrap();
    // On a machine that stands still the overlap may end before the file is looked at; then this shows less.
    until(&context, |status| status.generation == 3).await;
    assert_eq!(serves(&context, &own).await, 3);
    // Whoever only the previous trust believed is gone, in spite of the bad file.
    let gone = async { while matches!(connection.read(&mut [0; 1]).await, Ok(1..)) {} };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("nobody removed lives on");
}
