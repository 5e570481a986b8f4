//! Judges live connections: at each new generation by the policy, and at their deadlines.
//!
//! rustls has neither renegotiation nor post-handshake client authentication, so a connection that must not go on can
//! only be drained and made anew. Those that still pass are left alone.

use super::EndpointInner;
use super::departure::DrainReason;
use super::info::ConnectionState;
use super::policy::EstablishedConnections;
use crate::generation::Generation;
use rustls::pki_types::UnixTime;
use std::sync::{Arc, Weak};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// Starts the endpoint's judge; it ends when the endpoint is gone.
pub(super) fn spawn(endpoint: &Arc<EndpointInner>) {
    let published = endpoint.tls.as_ref().map(super::TlsContext::subscribe);
    tokio::spawn(run(Arc::downgrade(endpoint), Arc::clone(&endpoint.live_changed), published));
}

async fn run(endpoint: Weak<EndpointInner>, live_changed: Arc<Notify>, mut published: Option<watch::Receiver<u64>>) {
    loop {
        // Held only between waits: a judge must not keep its endpoint alive.
        let next = match endpoint.upgrade() {
            Some(endpoint) => endpoint.sweep(Instant::now()),
            None => return,
        };
        let changed = async {
            match &mut published {
                Some(published) => published.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let new_generation = tokio::select! {
            changed = changed => {
                if !changed {
                    return;
                }
                true
            }
            () = live_changed.notified() => false,
            () = sleep_until(next.unwrap_or_else(far_away)), if next.is_some() => false,
        };
        if new_generation
            && let Some(endpoint) = endpoint.upgrade()
            && let Some(tls) = &endpoint.tls
        {
            endpoint.judge_all(&tls.current());
        }
    }
}

impl EndpointInner {
    fn judge_all(&self, generation: &Generation) {
        if self.keeps_connections() {
            return;
        }
        let live: Vec<_> = self.live().values().cloned().collect();
        for state in live {
            self.judge(&state, generation);
        }
    }

    /// Applies the policy to one connection under `generation`.
    pub(super) fn judge(&self, state: &ConnectionState, generation: &Generation) {
        if state.generation >= generation.number() {
            return;
        }
        let verdict = match self.policy.established {
            EstablishedConnections::Keep => return,
            EstablishedConnections::Renew => {
                Some(rejudge(state, generation).map_or(DrainReason::Renewed, DrainReason::Untrusted))
            }
            EstablishedConnections::DrainUntrusted => rejudge(state, generation).map(DrainReason::Untrusted),
        };
        if let Some(reason) = verdict {
            self.drain(state, reason);
        }
    }

    /// Applies the policy to a connection that was established only after `generation` was published, though its handshake
    /// had begun before. No policy keeps such a one if its peer is no longer believed: it was not there.
    pub(super) fn judge_newcomer(&self, state: &ConnectionState, generation: &Generation) {
        match rejudge(state, generation) {
            Some(reason) => self.drain(state, DrainReason::Untrusted(reason)),
            None => self.judge(state, generation),
        }
    }

    /// Drains what reached its deadline, cuts what outlived its grace; returns when to come back.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        // Who is listed from here on is not waited for yet, and has to say so.
        *self.judge_due() = None;
        let live: Vec<_> = self.live().values().cloned().collect();
        let mut next: Option<Instant> = None;
        for state in live {
            if state.deadline.is_some_and(|deadline| deadline <= now) {
                self.drain(&state, DrainReason::MaxAge);
            }
            let at = match state.departure.told() {
                Some(_) if state.departure.is_cut() => continue,
                Some((_, cut_at)) if cut_at <= now => match state.may_go_on_until(now, self.policy.drain_grace) {
                    Some(later) => Some(later),
                    None => {
                        if state.departure.cut() {
                            self.note_cut(&state);
                        }
                        continue;
                    }
                },
                told => told.map(|(_, cut_at)| cut_at).or(state.deadline),
            };
            next = match (next, at) {
                (Some(next), Some(at)) => Some(next.min(at)),
                (next, at) => next.or(at),
            };
        }
        *self.judge_due() = next;
        next
    }
}

/// Why the peer of an established connection would be refused today; `None` if it would not.
fn rejudge(state: &ConnectionState, generation: &Generation) -> Option<String> {
    let chain = state.peer.as_ref()?.chain();
    let verdict = match &state.dialled {
        Some(name) => generation.judge_server(chain, name, UnixTime::now()),
        None => generation.judge_client(chain, UnixTime::now()),
    };
    verdict.err().map(|rejection| rejection.to_string())
}

fn far_away() -> Instant {
    Instant::now() + std::time::Duration::from_secs(24 * 3600)
}
