//! Dialling: at most one attempt at a time, with growing pauses until one leads to a connection that works.

use std::error::Error;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::frame::{Decoder, Frame, Hello, VERSION};
use rand::Rng;
use tokio::time::{Instant, sleep_until, timeout};

use super::RemotePeer;
use crate::shuffle::Inner;
use crate::shuffle::connection::Link;
use crate::shuffle::greeting::{self, GreetingError};
use crate::shuffle::session::LinkId;

/// Makes the connections of one peer.
pub(super) struct Dialler {
    peer: Arc<RemotePeer>,
    shuffle: Arc<Inner>,
    attempt: Option<Attempt>,
    /// Before the next attempt, jittered.
    pause: Duration,
    /// Not before.
    next: Instant,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Link, String>> + Send>>;

impl Dialler {
    pub(super) fn new(peer: Arc<RemotePeer>, shuffle: Arc<Inner>) -> Self {
        let pause = shuffle.options.redial_pause.0;
        Self { peer, shuffle, attempt: None, pause, next: Instant::now() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.attempt.is_none()
    }

    /// The last attempt has led to a connection that works.
    pub(super) fn relax(&mut self) {
        self.pause = self.shuffle.options.redial_pause.0;
    }

    /// Begins an attempt, if there is none and the peer's address is known.
    pub(super) fn start(&mut self) {
        let address = self.peer.with(|state, _| state.address.clone());
        if let (None, Some((host, port))) = (&self.attempt, address) {
            let (peer, shuffle, not_before) = (Arc::clone(&self.peer), Arc::clone(&self.shuffle), self.next);
            self.attempt = Some(Box::pin(async move {
                sleep_until(not_before).await;
                dial(peer, &shuffle, &host, port).await
            }));
        }
    }

    /// Resolves when the attempt has come to its end, whatever that is. Cancel safe.
    pub(super) async fn finished(&mut self) {
        let Some(attempt) = &mut self.attempt else { return pending().await };
        let result = attempt.await;
        self.attempt = None;
        match result {
            Ok(link) => {
                let (shutdown, close_timeout) = (self.shuffle.shutdown.clone(), self.shuffle.options.close_timeout);
                self.shuffle.tasks.spawn(link.run(shutdown, close_timeout));
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer.id, error, "cannot connect");
                self.peer.with(|state, _| state.session.note_error(error));
            }
        }
        self.next = Instant::now() + self.pause.mul_f64(rand::rng().random_range(0.5..1.0));
        // A connection that the peer refuses after our hello is as good as none.
        self.pause = (self.pause * 2).min(self.shuffle.options.redial_pause.1);
    }
}

/// Connects, exchanges hellos, and attaches the connection to the session.
async fn dial(peer: Arc<RemotePeer>, shuffle: &Inner, host: &str, port: u16) -> Result<Link, String> {
    let options = &shuffle.options;
    let called = shuffle.caller.call(host, port).await.map_err(|error| causes(&error))?;
    let mut decoder = Decoder::new(options.max_payload_bytes);
    let limit = options.hello_timeout;
    let info = called.info().clone();
    let greeted = async {
        let mut connection = called.wire().await?;
        let hello = greeting::read_hello(&mut connection, &mut decoder, options.lanes).await?;
        Ok((connection, hello))
    };
    let greeted = tokio::select! {
        greeted = timeout(limit, greeted) => greeted.map_err(|_| GreetingError::Timeout(limit)).flatten(),
        why = info.untrusted() => Err(GreetingError::Untrusted(why)),
    };
    let (mut connection, hello) = greeted.map_err(|error| format!("{host}:{port}: {}", causes(&error)))?;
    if hello.task_manager != peer.id {
        return Err(format!("{host}:{port}: {}", GreetingError::WrongPeer(hello.task_manager)));
    }
    let (id, hello) = peer.with(|state, now| {
        let (session, resumed) = state.session.identity(rand::random());
        state.last_link += 1;
        let id = LinkId(state.last_link);
        state.session.attach(id, now);
        let hello = Hello {
            version: VERSION,
            task_manager: shuffle.own.clone(),
            lane: peer.lane,
            lanes: options.lanes,
            session,
            connection: id.0,
            resumed,
        };
        (id, hello)
    });
    let written = timeout(limit, greeting::write(&mut connection, &Frame::Hello(hello))).await;
    let written = written.map_err(|_| std::io::ErrorKind::TimedOut.into()).flatten();
    if let Err(error) = written {
        let error = format!("{host}:{port}: {error}");
        peer.detach(id, &error);
        return Err(error);
    }
    Ok(Link { connection, decoder, peer, id })
}

/// An error and what it comes from, in one line.
fn causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some errors repeat their source in their own text.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}
