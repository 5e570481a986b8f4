//! The serve loop over QUIC: as [`crate::serve`], with connection attempts instead of TCP connections.

use super::{Acceptor, Connection};
use crate::serve::finish;
use std::future::Future;
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Serves until `shutdown`: then newcomers are refused, live connections are told to drain, and handlers get the
/// endpoint's drain grace to finish. `socket` is best made by [`Acceptor::bind`].
///
/// Handshakes are bounded by the endpoint's permits and timeout, connections by its `max_connections`; attempts beyond
/// that wait within quinn, which bounds their number and bytes.
pub async fn serve<H, F>(socket: quinn::Endpoint, acceptor: Acceptor, shutdown: CancellationToken, handler: H)
where
    H: Fn(Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let endpoint = Arc::clone(acceptor.endpoint());
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let incoming = socket.accept().await?;
            // Never closed while the endpoint lives.
            Some((Arc::clone(&endpoint.connections).acquire_owned().await.ok()?, incoming))
        };
        let (permit, incoming) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => match next {
                Some(next) => next,
                None => break,
            },
        };
        let (acceptor, handler) = (acceptor.clone(), handler.clone());
        tasks.spawn(async move {
            // The acceptor has counted and logged a failure.
            if let Ok(connection) = acceptor.accept(incoming).await {
                handler(connection).await;
            }
            drop(permit);
        });
    }
    let refuse_newcomers = async {
        while let Some(incoming) = socket.accept().await {
            incoming.refuse();
        }
        std::future::pending().await
    };
    tokio::select! {
        () = finish(&endpoint, &tasks) => {}
        () = refuse_newcomers => {}
    }
    socket.set_server_config(None);
    // The last closing messages leave; a socket that also dials may never be idle.
    let _ = timeout(endpoint.limits.close_notify_timeout, socket.wait_idle()).await;
}
