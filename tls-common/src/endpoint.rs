//! [`Endpoint`]: one of a process's connection kinds, with its counters, its live connections and its policy.

pub(crate) mod acceptor;
pub mod audit;
pub(crate) mod connection;
pub(crate) mod connector;
mod deadline;
pub(crate) mod departure;
pub(crate) mod error;
pub(crate) mod info;
mod judge;
pub(crate) mod latest;
pub(crate) mod policy;

use crate::clock;
use crate::context::{BundleStatus, TlsContext};
use acceptor::Acceptor;
use audit::ByReason;
use connector::Connector;
use departure::DrainReason;
use info::ConnectionState;
use policy::{ConnectionPolicy, EstablishedConnections, HandshakeLimits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// A connection kind of this process, say its API or its replication. Clones share everything.
///
/// Acceptors and connectors made from it count into the same figures and obey the same policy.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<EndpointInner>,
}

#[derive(Debug)]
pub(crate) struct EndpointInner {
    pub(crate) name: String,
    pub(crate) tls: Option<TlsContext>,
    pub(crate) policy: ConnectionPolicy,
    pub(crate) limits: HandshakeLimits,
    pub(crate) counters: Counters,
    pub(crate) handshakes: Semaphore,
    pub(crate) connections: Arc<Semaphore>,
    live: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    /// When the judge comes back by itself.
    judge_due: Mutex<Option<Instant>>,
    /// Woken when the judge has something new to time, and when the endpoint is gone.
    live_changed: Arc<Notify>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handshakes: AtomicU64,
    pub(crate) handshakes_resumed: AtomicU64,
    pub(crate) failed_by_reason: ByReason,
    pub(crate) refused_connects: AtomicU64,
    pub(crate) renewed: AtomicU64,
    pub(crate) drained_by_reason: ByReason,
    pub(crate) killed: AtomicU64,
    pub(crate) listener_rebinds: AtomicU64,
    last_old_byte_ms: AtomicU64,
}

/// An endpoint's state for people and machines. Durations are milliseconds.
///
/// It travels as JSON between processes of different releases: fields that came later may be missing, and unknown
/// ones are passed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its name, as given to [`Endpoint::new`].
    pub endpoint: String,
    /// The bundle it takes its TLS from; `None` = plain TCP.
    pub bundle: Option<BundleStatus>,
    /// Handshakes completed, both sides.
    pub handshakes: u64,
    /// Of these, resumed sessions.
    pub handshakes_resumed: u64,
    /// Handshakes that failed, both sides, late refusals included.
    pub failed_handshakes: u64,
    /// The same by [`crate::HandshakeError::code`].
    #[serde(default)]
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Our own connects that were refused or reset.
    pub refused_connects: u64,
    /// Live connections.
    pub connections: u64,
    /// Live connections by the generation they were made under.
    pub connections_by_generation: BTreeMap<u64, u64>,
    /// Connections told to drain because of a new generation.
    pub renewed: u64,
    /// Connections told to drain for any reason, by [`crate::DrainReason::code`].
    #[serde(default)]
    pub drained_by_reason: BTreeMap<String, u64>,
    /// Connections cut because they did not finish within the drain grace.
    pub killed: u64,
    /// Longest time from the first sign of a change on disk to the publication of its generation.
    pub slowest_reload_ms: u64,
    /// Over all connections: latest byte sent under a generation, counted from the first sign of the change that replaced it.
    /// A QUIC connection, whose datagrams are quinn's to send, counts when it ends, by its closing message.
    pub last_old_byte_ms: u64,
    /// New listening sockets made on the same port.
    pub listener_rebinds: u64,
}

impl Endpoint {
    /// An endpoint named `name`; without `tls` its connections are plain TCP.
    ///
    /// Call it within a tokio runtime: a task applies the policy at each new generation, until the endpoint is dropped.
    pub fn new(name: &str, tls: Option<TlsContext>, policy: ConnectionPolicy, limits: HandshakeLimits) -> Self {
        let inner = Arc::new(EndpointInner {
            name: name.to_owned(),
            tls,
            policy,
            counters: Counters::default(),
            handshakes: Semaphore::new(limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            connections: Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            limits,
            live: Mutex::default(),
            judge_due: Mutex::default(),
            live_changed: Arc::default(),
            next_id: AtomicU64::new(0),
        });
        judge::spawn(&inner);
        Self { inner }
    }

    /// Accepts connections; `alpn` are the protocols offered, in order of preference.
    pub fn acceptor(&self, alpn: &[&str]) -> Acceptor {
        Acceptor::new(Arc::clone(&self.inner), alpn)
    }

    /// Makes connections, offering `alpn`.
    pub fn connector(&self, alpn: &[&str]) -> Connector {
        Connector::new(Arc::clone(&self.inner), alpn)
    }

    /// Accepts QUIC connections; `alpn` as for [`Self::acceptor`].
    #[cfg(feature = "quic")]
    pub fn quic_acceptor(&self, alpn: &[&str]) -> crate::quic::Acceptor {
        crate::quic::Acceptor::new(Arc::clone(&self.inner), alpn)
    }

    /// Makes QUIC connections, offering `alpn`, from a UDP socket of its own. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The system has no socket left.
    #[cfg(feature = "quic")]
    pub fn quic_connector(&self, alpn: &[&str]) -> std::io::Result<crate::quic::Connector> {
        crate::quic::Connector::new(Arc::clone(&self.inner), alpn)
    }

    /// The context behind it; `None` = plain TCP.
    pub fn tls(&self) -> Option<&TlsContext> {
        self.inner.tls.as_ref()
    }

    /// A snapshot for status pages.
    pub fn status(&self) -> EndpointStatus {
        self.inner.status()
    }
}

impl EndpointInner {
    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge_due(&self) -> MutexGuard<'_, Option<Instant>> {
        self.judge_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enlist(&self, state: &Arc<ConnectionState>) {
        self.live().insert(state.id, Arc::clone(state));
        // A generation published between the handshake and this moment has not seen the connection yet.
        if let Some(tls) = &self.tls {
            let current = tls.current();
            if current.number() != state.generation {
                self.judge_newcomer(state, &current);
            }
        }
        // The judge looks at every connection when it wakes: not once for each that comes, only for those it would miss.
        if let Some(deadline) = state.deadline
            && self.judge_due().is_none_or(|due| deadline < due)
        {
            self.live_changed.notify_one();
        }
    }

    fn delist(&self, id: u64) {
        let gone = self.live().remove(&id);
        if let Some(state) = gone {
            self.counters.last_old_byte_ms.fetch_max(self.old_byte_ms(&state), Ordering::Relaxed);
        }
    }

    /// Tells a connection to drain and sees to it that it is cut after the grace.
    fn drain(&self, state: &ConnectionState, reason: DrainReason) {
        if state.departure.tell(reason.clone(), clock::later(Instant::now(), self.policy.drain_grace)) {
            self.note_drain(state, &reason);
            self.live_changed.notify_one();
        }
    }

    /// Every live connection is told that the process stops.
    pub(crate) fn drain_all(&self) {
        let all: Vec<_> = self.live().values().cloned().collect();
        for state in all {
            self.drain(&state, DrainReason::Shutdown);
        }
    }

    /// How long after the change that replaced its generation this connection last sent a byte.
    fn old_byte_ms(&self, state: &ConnectionState) -> u64 {
        let replaced = self.tls.as_ref().and_then(|tls| tls.replaced_at_ms(state.generation));
        replaced.map_or(0, |replaced| state.last_write_ms().saturating_sub(replaced))
    }

    fn status(&self) -> EndpointStatus {
        let live: Vec<_> = self.live().values().cloned().collect();
        let mut by_generation = BTreeMap::new();
        let mut last_old_byte_ms = self.counters.last_old_byte_ms.load(Ordering::Relaxed);
        for state in &live {
            *by_generation.entry(state.generation).or_insert(0) += 1;
            last_old_byte_ms = last_old_byte_ms.max(self.old_byte_ms(state));
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed_by_reason = self.counters.failed_by_reason.snapshot();
        EndpointStatus {
            endpoint: self.name.clone(),
            bundle: self.tls.as_ref().map(TlsContext::status),
            handshakes: count(&self.counters.handshakes),
            handshakes_resumed: count(&self.counters.handshakes_resumed),
            failed_handshakes: failed_by_reason.values().sum(),
            failed_by_reason,
            refused_connects: count(&self.counters.refused_connects),
            connections: live.len() as u64,
            connections_by_generation: by_generation,
            renewed: count(&self.counters.renewed),
            drained_by_reason: self.counters.drained_by_reason.snapshot(),
            killed: count(&self.counters.killed),
            slowest_reload_ms: self.tls.as_ref().map_or(0, TlsContext::slowest_reload_ms),
            last_old_byte_ms,
            listener_rebinds: count(&self.counters.listener_rebinds),
        }
    }

    /// Whether the policy ever looks at established connections.
    fn keeps_connections(&self) -> bool {
        self.policy.established == EstablishedConnections::Keep
    }
}

impl Drop for EndpointInner {
    fn drop(&mut self) {
        self.live_changed.notify_one();
    }
}
