//! The one serve loop of every server: a permit, `accept`, a handshake of its own task, the handler; drain at the end.

use crate::endpoint::EndpointInner;
use crate::endpoint::acceptor::Acceptor;
use crate::endpoint::connection::Connection;
use crate::listener::Listener;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`: then nothing more is accepted, live connections are told to drain, and handlers get the
/// endpoint's drain grace to finish.
///
/// The loop never awaits a handshake; handshakes are bounded by the endpoint's permits and timeout, connections by its
/// `max_connections` (a permit is taken *before* `accept`, so that overload waits in the kernel's backlog, not in
/// memory). A listener made by [`Listener::bind_rebinding`] gets a new socket at each generation.
pub async fn serve<H, F>(mut listener: Listener, acceptor: Acceptor, shutdown: CancellationToken, handler: H)
where
    H: Fn(Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let endpoint = Arc::clone(acceptor.endpoint());
    let tasks = TaskTracker::new();
    let mut published = endpoint.tls.as_ref().map(crate::TlsContext::subscribe);
    loop {
        let mut permit = None;
        let accepted = loop {
            let new_generation = async {
                let changed = match &mut published {
                    Some(published) => published.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    std::future::pending::<()>().await;
                }
            };
            let full = permit.is_none();
            tokio::select! {
                () = shutdown.cancelled() => break None,
                free = Arc::clone(&endpoint.connections).acquire_owned(), if full => match free {
                    Ok(free) => permit = Some(free),
                    // Never closed while the endpoint lives.
                    Err(_) => break None,
                },
                () = new_generation => {
                    if listener.rebind() {
                        endpoint.counters.listener_rebinds.fetch_add(1, Ordering::Relaxed);
                    }
                }
                accepted = listener.accept(), if !full => match accepted {
                    Ok(accepted) => break Some(accepted),
                    Err(error) => {
                        tracing::warn!(endpoint = %endpoint.name, %error, "cannot accept");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        let Some((tcp, peer_addr)) = accepted else { break };
        let connection = handle(acceptor.clone(), tcp, peer_addr, handler.clone());
        tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    finish(&endpoint, &tasks).await;
}

/// The end of a serve loop: live connections are told to drain, and handlers get the drain grace to finish.
pub(crate) async fn finish(endpoint: &EndpointInner, tasks: &TaskTracker) {
    tasks.close();
    endpoint.drain_all();
    // Handshakes that were under way become connections after the first call.
    let finished = async {
        while timeout(ACCEPT_PAUSE, tasks.wait()).await.is_err() {
            endpoint.drain_all();
        }
    };
    if timeout(endpoint.policy.drain_grace, finished).await.is_err() {
        tracing::warn!(endpoint = %endpoint.name, left = tasks.len(), "connections did not finish within the drain grace");
    }
}

async fn handle<H, F>(acceptor: Acceptor, tcp: TcpStream, peer_addr: SocketAddr, handler: H)
where
    H: Fn(Connection) -> F,
    F: Future<Output = ()>,
{
    // The acceptor has counted and logged a failure.
    if let Ok(connection) = acceptor.accept(tcp, peer_addr).await {
        handler(connection).await;
    }
}
