//! When a peer that is believed now will not be believed any more by the clock alone.

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

use super::{Claim, Judge, PeerRole, usable};
use crate::{clock, pins};

impl Judge {
    /// Until when a peer that is accepted now stays so by the clock alone; `None` if for ever.
    pub(crate) fn accepts_until(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: PeerRole,
        now: UnixTime,
    ) -> Option<UnixTime> {
        let claim = Claim { leaf, intermediates, role, now };
        let mut alive = self.outgoing.iter().filter(|outgoing| outgoing.is_alive()).peekable();
        if alive.peek().is_none() || self.believes(claim).is_ok() {
            return self.end_of(leaf, intermediates, now);
        }
        // Only what was before believes it, each as long as its own time lasts.
        let believing = alive.filter(|outgoing| outgoing.what.believes(claim).is_ok());
        let ends = believing.map(|outgoing| {
            let until = clock::unix_after(now, outgoing.until.saturating_duration_since(Instant::now()));
            outgoing.what.end_of(leaf, intermediates, now).map_or(until, |end| end.min(until))
        });
        ends.max().or(Some(now))
    }

    /// The end of the pin, the certificate or one of its presented issuers, whichever comes first. Which path was taken is
    /// not known here: an issuer that has ended already was not on it.
    fn end_of(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<UnixTime> {
        let pinned = pins::end(&self.criteria.pins, leaf, now);
        let is_trusted = self.trusted.contains(leaf);
        if self.criteria.leniency.expired && is_trusted {
            return pinned;
        }
        let own = usable::not_after(leaf)?;
        let issuers = intermediates.iter().filter(|_| !is_trusted).filter_map(usable::not_after);
        let valid = issuers.filter(|end| *end > now).fold(own, UnixTime::min);
        Some(pinned.map_or(valid, |pinned| pinned.min(valid)))
    }
}
