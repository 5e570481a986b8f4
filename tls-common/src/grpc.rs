//! gRPC clients that follow the current generation.

use crate::clock;
use crate::endpoint::connection::Connection;
use crate::endpoint::connector::Connector;
use crate::endpoint::error::ConnectError;
use crate::endpoint::info::ConnectionInfo;
use http::Uri;
use hyper_util::rt::TokioIo;
use rand::Rng as _;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower_service::Service;

/// First and longest pause between the attempts of [`retry`]; jittered by a half.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// Pings that find out whether a silent server is still there. A host that came back under another address, as a container
/// does, answers nothing at the old one: calls go there until the ping has failed, and callers are patient for 10 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A lazily connecting channel that is replaced by a fresh one when its connection is told to drain.
///
/// Calls under way finish on the old channel, whose connection closes after the last of them. Clones share the channel.
#[derive(Clone)]
pub struct RotatingChannel {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    host: String,
    port: u16,
    current: Mutex<Current>,
}

struct Current {
    channel: Channel,
    connection: Latest,
}

/// A channel's connection, once it has one, and the task that leaves it.
type Latest = Arc<Mutex<Option<(ConnectionInfo, AbortOnDropHandle<()>)>>>;

impl RotatingChannel {
    /// A channel to `host:port`; `connector` should offer ALPN `h2`. Nothing is connected before the first call.
    pub fn new(connector: Connector, host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let shared = Arc::new_cyclic(|shared| {
            let current = Mutex::new(connect_lazily(&connector, &host, port, shared.clone()));
            Shared { connector, host, port, current }
        });
        Self { shared }
    }

    /// The channel for the next call. Take it per call; do not keep it.
    pub fn channel(&self) -> Channel {
        self.shared.current()
    }
}

impl Shared {
    fn current(self: &Arc<Self>) -> Channel {
        let mut current = lock(&self.current);
        let outdated = lock(&current.connection).as_ref().is_some_and(|(connection, _)| connection.is_draining());
        if outdated {
            *current = connect_lazily(&self.connector, &self.host, self.port, Arc::downgrade(self));
        }
        current.channel.clone()
    }
}

impl fmt::Debug for RotatingChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatingChannel").field("host", &self.shared.host).field("port", &self.shared.port).finish()
    }
}

/// Calls until an attempt succeeds, fails for a reason that another attempt would not change, or `patience` is over.
///
/// Only for idempotent calls: an attempt whose answer got lost may have been carried out.
///
/// # Errors
/// The last attempt's.
pub async fn retry<T, F, Fut>(patience: Duration, mut call: F) -> Result<T, Status>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Status>>,
{
    let give_up = clock::later(Instant::now(), patience);
    let mut pause = RETRY_FIRST;
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if is_transient(&status) => status,
            Err(status) => return Err(status),
        };
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if Instant::now() + jittered >= give_up {
            return Err(status);
        }
        sleep(jittered).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Whether the connection was at fault rather than the call. A service's own statuses have no source.
fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

fn connect_lazily(connector: &Connector, host: &str, port: u16, shared: Weak<Shared>) -> Current {
    let connection = Latest::default();
    let latest = Arc::clone(&connection);
    let dial = Dial { connector: connector.clone(), host: host.to_owned(), port, latest, shared };
    // The scheme is http because TLS is ours; tonic would refuse https without a TLS of its own. The authority only
    // ends up in requests: a host that makes no URI still has its real name in `dial`.
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))
        .unwrap_or_else(|_| Endpoint::from_static("http://unnamed.invalid"))
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Current { channel: endpoint.connect_with_connector_lazy(dial), connection }
}

/// What tonic calls whenever it needs a new connection.
#[derive(Clone)]
struct Dial {
    connector: Connector,
    host: String,
    port: u16,
    latest: Latest,
    shared: Weak<Shared>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Connection>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let connection = dial.connector.connect(&dial.host, dial.port).await?;
            let leaving = AbortOnDropHandle::new(tokio::spawn(leave(connection.info().clone(), dial.shared)));
            *lock(&dial.latest) = Some((connection.info().clone(), leaving));
            Ok(TokioIo::new(connection))
        })
    }
}

/// A connection that drains while nobody calls would stay until it is cut: its channel is what holds it.
async fn leave(connection: ConnectionInfo, shared: Weak<Shared>) {
    connection.draining().await;
    drop(shared.upgrade().map(|shared| shared.current()));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
