//! The data plane: channels between tasks, within this TaskManager and to others, that survive the loss and the
//! replacement of connections.
//!
//! ```text
//!   ChannelSender ─┐                    ┌ connection.rs ═══ TLS ═══ connection.rs ┐                  ┌─▶ ChannelReceiver
//!   ChannelSender ─┼▶ session (peer.rs) ┤  (one, or two while     (at the peer)   ├▶ session (peer) ─┼─▶ ChannelReceiver
//!   ChannelSender ─┘                    └   the traffic moves)                    ┘                  └─▶ ChannelReceiver
//! ```
//!
//! One session per pair of TaskManagers (or as many as [`ShuffleOptions::lanes`] says, each with a share of the
//! channels) carries all their channels, in both directions; of the two, the one with the smaller id dials. `session/`
//! is the protocol without IO, `peer.rs` gives it a clock and connections, `connection.rs`, `server.rs` and `wire.rs`
//! (TCP, TLS or QUIC) are the only files that touch a socket. Payloads are opaque bytes. What must hold: each channel
//! delivers exactly what was sent, in order, or fails with a [`ChannelError`]; a channel whose receiver stops delays no
//! other; every buffer is bounded by [`ShuffleOptions`].
//!
//! A peer may send only on channels that are registered here: [`Shuffle::receiver`] is the authorisation.

mod channel;
mod connection;
mod credit;
mod error;
mod greeting;
mod local;
mod options;
mod peer;
mod server;
mod session;
mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use proto::frame::{ChannelId, PayloadKind};
use proto::frame::{ErrorCode, Hello};
use proto::ids::TaskManagerId;
use tls_common::Endpoint;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use channel::{ChannelReceiver, ChannelSender};
use credit::CreditPool;
pub use error::ChannelError;
use local::LocalChannels;
pub use options::{LANES_MAX, RETAINED_BYTES_MIN, ShuffleOptions};
use peer::RemotePeer;
use session::LinkId;
pub use stats::{PeerStats, ShuffleStats};
use wire::Caller;
pub use wire::DataSocket;

/// The data plane of one TaskManager. Clones share it.
#[derive(Debug, Clone)]
pub struct Shuffle {
    inner: Arc<Inner>,
}

/// One end of a channel: which channel it is, and where the other end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The same at both ends.
    pub id: ChannelId,
    /// Where the other end is.
    pub peer: Peer,
}

/// Where the other end of a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// In this process: payloads are handed over without being copied.
    Local,
    /// In another TaskManager.
    Remote {
        /// Its id.
        id: TaskManagerId,
        /// Name or address its data plane can be reached at.
        host: String,
        /// Port of its data plane.
        data_port: u16,
    },
}

/// What all parts of one data plane share.
#[derive(Debug)]
struct Inner {
    own: TaskManagerId,
    options: Arc<ShuffleOptions>,
    pool: CreditPool,
    caller: Caller,
    /// By id and lane.
    peers: Mutex<HashMap<(TaskManagerId, u16), Arc<RemotePeer>>>,
    local: LocalChannels,
    /// Peers and the connections they dialled.
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Shuffle {
    /// Starts to accept peers on `socket`. The future is the server: it ends after `shutdown`, when all connections
    /// have said goodbye. Channels still open then fail with [`ChannelError::ShutDown`], and their peers learn at once
    /// that this process is gone.
    ///
    /// # Errors
    /// The system has no socket left.
    pub fn start(
        own: TaskManagerId,
        endpoint: Endpoint,
        socket: DataSocket,
        options: ShuffleOptions,
        shutdown: CancellationToken,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let inner = Arc::new(Inner {
            own,
            pool: CreditPool::new(options.receive_buffer_bytes, options.window_bytes, options.min_window_bytes),
            caller: socket.caller(&endpoint)?,
            peers: Mutex::default(),
            local: LocalChannels::new(options.window_bytes, options.open_timeout),
            options: Arc::new(options),
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
        });
        let server = server::run(Arc::clone(&inner), socket, endpoint, shutdown);
        Ok((Self { inner }, server))
    }

    /// Registers the sending end of a channel.
    ///
    /// # Errors
    /// The channel is registered already, a bound is reached, or the process is stopping. That the peer cannot be
    /// reached shows when sending.
    pub fn sender(&self, spec: ChannelSpec) -> Result<ChannelSender, ChannelError> {
        let max_payload_bytes = self.inner.options.max_payload_bytes;
        Ok(match spec.peer {
            Peer::Local => ChannelSender::local(self.inner.local.sender(spec.id)?, max_payload_bytes),
            Peer::Remote { id, host, data_port } => {
                let (peer, key) =
                    self.inner.with_peer(&id, spec.id, |peer| peer.open_sender(spec.id, host, data_port))?;
                ChannelSender::remote(peer, key, max_payload_bytes)
            }
        })
    }

    /// Registers the receiving end of a channel; only then may the peer open it.
    ///
    /// # Errors
    /// As for [`Self::sender`].
    pub fn receiver(&self, spec: ChannelSpec) -> Result<ChannelReceiver, ChannelError> {
        Ok(match spec.peer {
            Peer::Local => ChannelReceiver::local(self.inner.local.receiver(spec.id)?),
            Peer::Remote { id, host, data_port } => {
                let (peer, key) =
                    self.inner.with_peer(&id, spec.id, |peer| peer.open_receiver(spec.id, host, data_port))?;
                ChannelReceiver::remote(peer, key)
            }
        })
    }

    /// What it has done so far.
    pub fn stats(&self) -> ShuffleStats {
        let mut stats = ShuffleStats { receive_buffer_used_bytes: self.inner.pool.held(), ..ShuffleStats::default() };
        for ((id, _), peer) in &*self.inner.peers() {
            stats.peers.entry(id.clone()).or_default().add(&peer.stats());
        }
        stats
    }
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, HashMap<(TaskManagerId, u16), Arc<RemotePeer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a channel with a peer, which begins with its first channel.
    fn with_peer<K>(
        self: &Arc<Self>,
        id: &TaskManagerId,
        channel: ChannelId,
        open: impl FnOnce(&RemotePeer) -> Result<K, ChannelError>,
    ) -> Result<(Arc<RemotePeer>, K), ChannelError> {
        if *id == self.own {
            return Err(ChannelError::RemoteIsSelf(channel));
        }
        if self.shutdown.is_cancelled() {
            return Err(ChannelError::ShutDown);
        }
        // Under the lock, so that the peer is not forgotten for being unused in between.
        let mut peers = self.peers();
        let lane = channel.lane(self.options.lanes);
        let peer = peers.entry((id.clone(), lane)).or_insert_with(|| self.start_peer(id.clone(), lane));
        Ok((Arc::clone(peer), open(peer)?))
    }

    /// The peer that has just said hello, even if no channel leads to it yet, with its connection attached.
    fn greeted_peer(self: &Arc<Self>, hello: &Hello) -> Result<(Arc<RemotePeer>, LinkId), ErrorCode> {
        let key = (hello.task_manager.clone(), hello.lane);
        let mut peers = self.peers();
        if !peers.contains_key(&key) && peers.len() >= self.options.max_peers * usize::from(self.options.lanes) {
            return Err(ErrorCode::TooMany);
        }
        let peer = peers.entry(key).or_insert_with(|| self.start_peer(hello.task_manager.clone(), hello.lane));
        Ok((Arc::clone(peer), peer.admit(hello)?))
    }

    fn start_peer(self: &Arc<Self>, id: TaskManagerId, lane: u16) -> Arc<RemotePeer> {
        let peer = Arc::new(RemotePeer::new(id, lane, Arc::clone(&self.options), self.pool.clone()));
        self.tasks.spawn(peer::run(Arc::clone(&peer), Arc::clone(self)));
        peer
    }

    /// Forgets a peer that nobody needs; says whether it did.
    fn forget_peer(&self, peer: &RemotePeer) -> bool {
        let mut peers = self.peers();
        peer.is_unused() && peers.remove(&(peer.id().clone(), peer.lane())).is_some()
    }
}
