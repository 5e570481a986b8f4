//! HTTP/1.1 and HTTP/2 over a [`Connection`], with the graceful end that a drain asks for.

use crate::endpoint::acceptor::Acceptor;
use crate::endpoint::connection::Connection;
use crate::endpoint::info::ConnectionInfo;
use crate::listener::Listener;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_service::Service;

/// A request's head, and a connection's first request, must arrive within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP/2 peer that answers no ping for this long is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests under way at once on one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 256;

/// A connection that has not carried a request yet is left this long before a drain ends it: its first request is on
/// the way, and HTTP/1.1 has no way to refuse it that the client could tell from a failure.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);

/// A peer that is not trusted any more gets this long to agree to the end (HTTP/2 asks it to) and for what is on its way;
/// after that it can ask for nothing. The same again, after its last answer, for the bytes to leave.
const UNTRUSTED_GRACE: Duration = Duration::from_millis(300);

/// [`crate::serve`] for an HTTP service: an axum `Router`, tonic's `Routes`, anything of tower's.
///
/// Offer ALPN `h2`, `http/1.1` or both.
pub async fn serve<S, B>(listener: Listener, acceptor: Acceptor, shutdown: CancellationToken, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let handler = move |connection| serve_connection(connection, service.clone());
    crate::serve(listener, acceptor, shutdown, handler).await;
}

/// Serves `service` until the peer goes or the connection drains: HTTP/2 by GOAWAY, HTTP/1.1 by closing after the
/// response. Each request carries the [`ConnectionInfo`] as an extension.
///
/// If the peer is not trusted any more, the connection goes with the last request under way, whatever the peer makes of
/// the GOAWAY, and at once if there is none.
pub async fn serve_connection<S, B>(connection: Connection, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let info = connection.info().clone();
    let (seen, mut first_request) = watch::channel(false);
    let mut silent = first_request.clone();
    let under_way = TaskTracker::new();
    let service = Tagged { service, info: info.clone(), seen: Arc::new(seen), under_way: under_way.clone() };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_TIMEOUT)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS);
    // ALPN has settled the version; without TLS the first bytes tell.
    let builder = match info.alpn() {
        Some(b"h2") => builder.http2_only(),
        Some(b"http/1.1") => builder.http1_only(),
        _ => builder,
    };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service)));
    let time_to_go = async {
        info.draining().await;
        tokio::select! {
            // An error means that the service is gone, and the connection with it.
            _ = timeout(FIRST_REQUEST_GRACE, first_request.wait_for(|seen| *seen)) => {}
            _ = info.untrusted() => {}
        }
    };
    // HTTP/1.1's header timeout does not cover a peer that has not even said which version it speaks.
    let never_asked = async {
        if timeout(HEADER_TIMEOUT, silent.wait_for(|seen| *seen)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = &mut serving => result,
        () = never_asked => {
            tracing::debug!(peer = %info.peer_addr(), "closed: no request within {HEADER_TIMEOUT:?}");
            return;
        }
        () = time_to_go => {
            serving.as_mut().graceful_shutdown();
            // Now, or while it goes for another reason.
            tokio::select! {
                result = &mut serving => result,
                _ = info.untrusted() => dismiss(serving, &under_way, &silent).await,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %info.peer_addr(), %error, "HTTP connection ended");
    }
}

/// The end of a connection whose peer is not trusted any more.
async fn dismiss<E>(
    mut serving: Pin<&mut impl Future<Output = Result<(), E>>>,
    under_way: &TaskTracker,
    asked: &watch::Receiver<bool>,
) -> Result<(), E> {
    if let Ok(ended) = timeout(UNTRUSTED_GRACE, &mut serving).await {
        return ended;
    }
    under_way.close();
    tokio::select! {
        ended = &mut serving => return ended,
        () = under_way.wait() => {}
    }
    if !*asked.borrow() {
        return Ok(()); // nothing is owed
    }
    // Who does not answer our ping is not waited for.
    timeout(UNTRUSTED_GRACE, serving).await.unwrap_or(Ok(()))
}

/// Adds what is known about the connection to each request, and knows which are under way.
#[derive(Clone)]
struct Tagged<S> {
    service: S,
    info: ConnectionInfo,
    seen: Arc<watch::Sender<bool>>,
    /// A token per request; closed once no other may begin.
    under_way: TaskTracker,
}

/// A response's body; the request is under way as long as it is there.
struct Counted<B> {
    body: Pin<Box<B>>,
    _under_way: TaskTrackerToken,
}

impl<S, B> Service<http::Request<Incoming>> for Tagged<S>
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = http::Response<Counted<B>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Incoming>) -> Self::Future {
        if self.under_way.is_closed() {
            return Box::pin(async { Err("the peer is not trusted any more".into()) });
        }
        let under_way = self.under_way.token();
        self.seen.send_if_modified(|seen| !std::mem::replace(seen, true));
        request.extensions_mut().insert(self.info.clone());
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await.map_err(Into::into)?;
            Ok(response.map(|body| Counted { body: Box::pin(body), _under_way: under_way }))
        })
    }
}

impl<B: Body> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.body.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
