//! What a session knows of one of its connections.

use std::time::Instant;

/// Names a connection within a session: the dialling side counts them, and the newest is the one to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// ```text
///           attached ──▶ [our credits, Resume] sent ─┐
///                                                    ├─▶ ready: payloads may flow
///                      [peer's credits, Resume] seen ┘
///
///   a newer connection is ready ──▶ Fin sent ──▶ FinAck seen ─┐
///                                                             ├─▶ closed
///                                   Fin seen ──▶ FinAck sent ─┘
/// ```
#[derive(Debug)]
pub(super) struct Link {
    /// Last time any byte came, and any frame was handed out.
    pub(super) heard: Instant,
    pub(super) spoke: Instant,
    pub(super) resume_due: bool,
    /// The peer has said what it has received: payloads may be sent here.
    pub(super) ready: bool,
    /// It should be replaced, by our wish or the peer's.
    pub(super) leaving: bool,
    pub(super) goaway_due: bool,
    pub(super) ping_due: bool,
    pub(super) fin: Half,
    pub(super) peer_fin: Half,
    /// Its task has been told that there is something to do, and has not asked since.
    pub(super) woken: bool,
}

/// The end of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Open,
    /// Ours: a Fin is to be sent. The peer's: its Fin has come, the FinAck is to be sent.
    Due,
    /// Ours: the Fin has been sent.
    Sent,
    /// All that went this way has arrived.
    Done,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            spoke: now,
            resume_due: true,
            ready: false,
            leaving: false,
            goaway_due: false,
            ping_due: false,
            fin: Half::Open,
            peer_fin: Half::Open,
            woken: false,
        }
    }

    /// New payloads may go here.
    pub(super) fn carries(&self) -> bool {
        self.ready && self.fin == Half::Open
    }

    /// Both directions have ended and both sides know it.
    pub(super) fn is_closed(&self) -> bool {
        self.fin == Half::Done && self.peer_fin == Half::Done
    }
}
