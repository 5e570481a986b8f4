//! One session with another TaskManager, and who waits for what in it.

mod dial;

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use proto::frame::{ChannelId, Chunks, ErrorCode, Frame, Hello, PayloadKind};
use proto::ids::TaskManagerId;
use tokio::sync::Notify;

use super::Inner;
use super::credit::CreditPool;
use super::error::{ChannelError, Violation};
use super::options::ShuffleOptions;
use super::session::{Event, LinkId, Next, Read, ReceiverKey, SenderKey, Session};
use super::stats::PeerStats;
use dial::Dialler;

/// A session and everybody around it. Held by the data plane, by the ends of channels and by connections.
#[derive(Debug)]
pub(super) struct RemotePeer {
    id: TaskManagerId,
    /// Which of the sessions with it.
    lane: u16,
    state: Mutex<State>,
    /// The peer's task shall look again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// Where the peer can be reached, as the newest channel says.
    address: Option<(String, u16)>,
    /// Number of the newest link; for the dialling side.
    last_link: u64,
    /// Who waits for [`Event::Writable`], [`Event::Readable`] and [`Event::Transmit`].
    senders: HashMap<SenderKey, Waker>,
    receivers: HashMap<ReceiverKey, Waker>,
    links: HashMap<LinkId, Waker>,
}

/// The peer's task: keeps the time, and the connection if it is our turn to dial. Ends when nobody needs the peer any
/// more.
pub(super) async fn run(peer: Arc<RemotePeer>, shuffle: Arc<Inner>) {
    let mut dialler = (shuffle.own < peer.id).then(|| Dialler::new(Arc::clone(&peer), Arc::clone(&shuffle)));
    loop {
        let (is_connected, wants_link, next_timeout) = peer.with(|state, now| {
            state.session.handle_timeout(now);
            (state.session.is_connected(), state.session.wants_link(), state.session.next_timeout())
        });
        if let Some(dialler) = &mut dialler {
            if wants_link {
                dialler.start();
            } else if is_connected {
                dialler.relax();
            }
        }
        if dialler.as_ref().is_none_or(Dialler::is_idle) && shuffle.forget_peer(&peer) {
            return;
        }
        let dialled = async {
            match &mut dialler {
                Some(dialler) => dialler.finished().await,
                None => pending().await,
            }
        };
        let timed_out = async {
            match next_timeout {
                Some(time) => tokio::time::sleep_until(time.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = peer.changed.notified() => {}
            () = dialled => {}
            () = timed_out => {}
            () = shuffle.shutdown.cancelled() => break,
        }
    }
    peer.with(|state, _| state.session.shut_down());
}

impl RemotePeer {
    pub(super) fn new(id: TaskManagerId, lane: u16, options: Arc<ShuffleOptions>, pool: CreditPool) -> Self {
        let session = Session::new(id.clone(), options, pool, now());
        let state = State {
            session,
            address: None,
            last_link: 0,
            senders: HashMap::new(),
            receivers: HashMap::new(),
            links: HashMap::new(),
        };
        Self { id, lane, state: Mutex::new(state), changed: Notify::new() }
    }

    pub(super) fn id(&self) -> &TaskManagerId {
        &self.id
    }

    pub(super) fn lane(&self) -> u16 {
        self.lane
    }

    pub(super) fn is_unused(&self) -> bool {
        self.with(|state, _| state.session.is_unused())
    }

    pub(super) fn stats(&self) -> PeerStats {
        self.with(|state, _| state.session.stats())
    }

    // ---- ends of channels ----

    pub(super) fn open_sender(&self, id: ChannelId, host: String, port: u16) -> Result<SenderKey, ChannelError> {
        self.with(|state, now| {
            let key = state.session.open_sender(id, now)?;
            state.address = Some((host, port));
            Ok(key)
        })
    }

    pub(super) fn open_receiver(&self, id: ChannelId, host: String, port: u16) -> Result<ReceiverKey, ChannelError> {
        self.with(|state, now| {
            let key = state.session.open_receiver(id, now)?;
            state.address = Some((host, port));
            Ok(key)
        })
    }

    /// Sends `unsent` once there is credit.
    pub(super) fn poll_send(
        &self,
        key: SenderKey,
        kind: PayloadKind,
        unsent: &mut Option<Chunks>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ChannelError>> {
        self.with(|state, _| {
            let Some(chunks) = unsent.take() else { return Poll::Ready(Ok(())) };
            *unsent = match state.session.send(key, kind, chunks) {
                Ok(unsent) => unsent,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if unsent.is_none() {
                return Poll::Ready(Ok(()));
            }
            state.senders.insert(key, cx.waker().clone());
            Poll::Pending
        })
    }

    pub(super) fn finish(&self, key: SenderKey) {
        self.with(|state, _| state.session.finish(key));
    }

    pub(super) fn poll_finish(&self, key: SenderKey, cx: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        self.with(|state, _| match state.session.poll_finish(key) {
            Ok(false) => {
                state.senders.insert(key, cx.waker().clone());
                Poll::Pending
            }
            done => Poll::Ready(done.map(drop)),
        })
    }

    pub(super) fn close_sender(&self, key: SenderKey) {
        self.with(|state, _| {
            state.senders.remove(&key);
            state.session.close_sender(key);
        });
    }

    /// The next payload; none at the end.
    pub(super) fn poll_read(
        &self,
        key: ReceiverKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(PayloadKind, Bytes)>, ChannelError>> {
        self.with(|state, now| match state.session.read(key, now) {
            Ok(Read::Payload(kind, body)) => Poll::Ready(Ok(Some((kind, body)))),
            Ok(Read::End) => Poll::Ready(Ok(None)),
            Ok(Read::Nothing) => {
                state.receivers.insert(key, cx.waker().clone());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        })
    }

    pub(super) fn close_receiver(&self, key: ReceiverKey) {
        self.with(|state, _| {
            state.receivers.remove(&key);
            state.session.close_receiver(key);
        });
    }

    // ---- connections ----

    /// Whether a connection with this hello belongs to the session; for the accepting side.
    pub(super) fn admit(&self, hello: &Hello) -> Result<LinkId, ErrorCode> {
        self.with(|state, now| state.session.admit(hello, now))
    }

    /// Hands the session what a connection has received; `frames` is empty afterwards.
    pub(super) fn receive(&self, link: LinkId, frames: &mut Vec<Frame>) -> Result<(), Violation> {
        self.with(|state, now| {
            state.session.heard(link, now);
            frames.drain(..).try_for_each(|frame| state.session.handle_frame(link, frame, now))
        })
    }

    /// Takes from the session what a connection shall write. `cx` is woken when there is more.
    pub(super) fn transmit(
        &self,
        link: LinkId,
        budget: usize,
        frames: &mut Vec<Frame<Chunks>>,
        cx: Option<&mut Context<'_>>,
    ) -> Next {
        self.with(|state, now| {
            if let Some(cx) = cx {
                state.links.insert(link, cx.waker().clone());
            }
            state.session.transmit(link, budget as u64, now, frames)
        })
    }

    /// Whether the session has the connection. `cx` is woken when that changes.
    pub(super) fn is_attached(&self, link: LinkId, cx: &mut Context<'_>) -> bool {
        self.with(|state, _| {
            let attached = state.session.is_attached(link);
            if attached {
                state.links.insert(link, cx.waker().clone());
            }
            attached
        })
    }

    /// The connection's certificate is not current any more: traffic shall move to a new connection.
    pub(super) fn leave(&self, link: LinkId) {
        self.with(|state, _| state.session.leave(link));
    }

    /// The peer has ended the connection with an error frame.
    pub(super) fn dismissed(&self, code: ErrorCode, cause: &str) {
        self.with(|state, now| match code {
            ErrorCode::ShuttingDown | ErrorCode::UnknownSession => state.session.reset(cause, now),
            _ => state.session.note_error(cause.to_owned()),
        });
    }

    /// The connection is gone.
    pub(super) fn detach(&self, link: LinkId, cause: &str) {
        self.with(|state, now| {
            state.links.remove(&link);
            state.session.detach(link, cause, now);
        });
    }

    /// Does something with the session, then wakes whoever has waited for what came of it.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut wakers = Vec::new();
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let result = act(state, now());
        while let Some(event) = state.session.poll_event() {
            match event {
                Event::Writable(key) => wakers.extend(state.senders.remove(&key)),
                Event::Readable(key) => wakers.extend(state.receivers.remove(&key)),
                Event::Transmit(link) | Event::Dead(link) => wakers.extend(state.links.remove(&link)),
                Event::Changed => self.changed.notify_one(),
            }
        }
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
