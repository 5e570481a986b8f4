//! Channels whose two ends are in this process: a queue with the same bound and the same ends as a remote channel.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proto::frame::{ChannelId, FRAME_CHARGE_BYTES, PayloadKind};
use tokio::time::{Instant, timeout_at};

use super::error::ChannelError;

/// The local channels of a process, by id: the two ends meet here in either order.
#[derive(Debug)]
pub(super) struct LocalChannels {
    channels: Arc<Mutex<HashMap<ChannelId, Arc<LocalChannel>>>>,
    window_bytes: u64,
    open_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct LocalSender(End);

#[derive(Debug)]
pub(super) struct LocalReceiver(End);

/// What the two ends have in common.
#[derive(Debug)]
struct End {
    id: ChannelId,
    channel: Arc<LocalChannel>,
    channels: Arc<Mutex<HashMap<ChannelId, Arc<LocalChannel>>>>,
    /// When the other end must have appeared.
    deadline: Instant,
    open_timeout: Duration,
}

#[derive(Debug)]
struct LocalChannel {
    window_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(PayloadKind, Bytes)>,
    /// What the queue holds, charged as a remote channel would.
    charged: u64,
    sender: Presence,
    receiver: Presence,
    finished: bool,
    sending: Option<Waker>,
    receiving: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Presence {
    #[default]
    Awaited,
    Here,
    Gone,
}

impl LocalChannels {
    pub(super) fn new(window_bytes: u64, open_timeout: Duration) -> Self {
        Self { channels: Arc::default(), window_bytes, open_timeout }
    }

    pub(super) fn sender(&self, id: ChannelId) -> Result<LocalSender, ChannelError> {
        self.register(id, |state| &mut state.sender).map(LocalSender)
    }

    pub(super) fn receiver(&self, id: ChannelId) -> Result<LocalReceiver, ChannelError> {
        self.register(id, |state| &mut state.receiver).map(LocalReceiver)
    }

    fn register(&self, id: ChannelId, end: impl FnOnce(&mut State) -> &mut Presence) -> Result<End, ChannelError> {
        let mut channels = lock(&self.channels);
        let channel = channels
            .entry(id)
            .or_insert_with(|| Arc::new(LocalChannel { window_bytes: self.window_bytes, state: Mutex::default() }));
        let mut state = lock(&channel.state);
        if mem::replace(end(&mut state), Presence::Here) != Presence::Awaited {
            return Err(ChannelError::AlreadyRegistered(id));
        }
        state.wake();
        drop(state);
        Ok(End {
            id,
            channel: Arc::clone(channel),
            channels: Arc::clone(&self.channels),
            deadline: Instant::now() + self.open_timeout,
            open_timeout: self.open_timeout,
        })
    }
}

impl LocalSender {
    pub(super) async fn send(&mut self, kind: PayloadKind, chunks: Vec<Bytes>) -> Result<(), ChannelError> {
        let mut payload = Some(join(chunks));
        let window_bytes = self.0.channel.window_bytes;
        let send = |state: &mut State, cx: &mut Context<'_>| match state.receiver {
            Presence::Gone => Poll::Ready(Err(ChannelError::ReceiverClosed)),
            Presence::Here if state.charged < window_bytes => {
                let payload = payload.take().unwrap_or_default();
                state.charged += payload.len() as u64 + FRAME_CHARGE_BYTES;
                state.queue.push_back((kind, payload));
                state.wake();
                Poll::Ready(Ok(()))
            }
            Presence::Here | Presence::Awaited => {
                state.sending = Some(cx.waker().clone());
                Poll::Pending
            }
        };
        self.0.poll(|state| state.receiver, send).await
    }

    pub(super) async fn finish(self) -> Result<(), ChannelError> {
        let finish = |state: &mut State, cx: &mut Context<'_>| match state.receiver {
            Presence::Gone => Poll::Ready(Err(ChannelError::ReceiverClosed)),
            Presence::Here => {
                state.finished = true;
                state.wake();
                Poll::Ready(Ok(()))
            }
            Presence::Awaited => {
                state.sending = Some(cx.waker().clone());
                Poll::Pending
            }
        };
        self.0.poll(|state| state.receiver, finish).await
    }
}

impl LocalReceiver {
    pub(super) async fn recv(&mut self) -> Result<Option<(PayloadKind, Bytes)>, ChannelError> {
        let recv = |state: &mut State, cx: &mut Context<'_>| {
            if let Some((kind, payload)) = state.queue.pop_front() {
                state.charged -= payload.len() as u64 + FRAME_CHARGE_BYTES;
                state.wake();
                return Poll::Ready(Ok(Some((kind, payload))));
            }
            match state.sender {
                _ if state.finished => Poll::Ready(Ok(None)),
                Presence::Gone => Poll::Ready(Err(ChannelError::SenderAborted)),
                Presence::Here | Presence::Awaited => {
                    state.receiving = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        };
        self.0.poll(|state| state.sender, recv).await
    }
}

impl End {
    /// Waits until `act` is ready; not for ever for another end that never appears.
    async fn poll<T>(
        &self,
        other: impl Fn(&State) -> Presence,
        mut act: impl FnMut(&mut State, &mut Context<'_>) -> Poll<Result<T, ChannelError>>,
    ) -> Result<T, ChannelError> {
        let mut polled = async |until_it_appears: bool| {
            poll_fn(|cx| {
                let mut state = lock(&self.channel.state);
                let appeared = until_it_appears && other(&state) != Presence::Awaited;
                match act(&mut state, cx) {
                    Poll::Pending if appeared => Poll::Ready(None),
                    polled => polled.map(Some),
                }
            })
            .await
        };
        let first = timeout_at(self.deadline, polled(true)).await;
        let acted = match first {
            Ok(Some(acted)) => Some(acted),
            Ok(None) => polled(false).await,
            Err(_) => None,
        };
        acted.unwrap_or_else(|| {
            Err(ChannelError::NotOpened { peer: "this TaskManager".to_owned(), waited: self.open_timeout, cause: None })
        })
    }

    fn leave(&self, end: impl FnOnce(&mut State) -> &mut Presence) {
        let mut channels = lock(&self.channels);
        let mut state = lock(&self.channel.state);
        *end(&mut state) = Presence::Gone;
        if state.receiver == Presence::Gone {
            state.queue.clear();
        }
        state.wake();
        if state.sender != Presence::Here && state.receiver != Presence::Here {
            channels.remove(&self.id);
        }
    }
}

impl State {
    fn wake(&mut self) {
        self.sending.take().into_iter().chain(self.receiving.take()).for_each(Waker::wake);
    }
}

impl Drop for LocalSender {
    fn drop(&mut self) {
        self.0.leave(|state| &mut state.sender);
    }
}

impl Drop for LocalReceiver {
    fn drop(&mut self) {
        self.0.leave(|state| &mut state.receiver);
    }
}

/// One piece is passed on as it is.
fn join(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        1 => chunks.pop().unwrap_or_default(),
        _ => chunks.concat().into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
