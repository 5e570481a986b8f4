//! When a peer that is believed now will not be believed any more by the clock alone.

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{Claim, Judge, memory::Span, parse, usable};
use crate::pins;

impl Judge {
    /// How long the verdict on a peer that is believed now holds.
    pub(super) fn span_of(&self, claim: Claim<'_>) -> Span {
        let Claim { leaf, intermediates, now, .. } = claim;
        let believed_until = self.end_of(leaf, intermediates, now);
        // An overdue list is noted in the log, and refuses everybody where lists are strict.
        let lists = self.criteria.crls.unchanged_until(now);
        // What has no end that can be read is judged anew each time.
        let unreadable = intermediates.iter().any(|der| usable::not_after(der).is_none()).then_some(now);
        let unchanged_until = lists.into_iter().chain(believed_until).chain(unreadable).min();
        Span { from: now, unchanged_until, believed_until }
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
        let by_itself = self.trusted.contains(leaf) && parse(leaf).is_ok_and(|leaf| !self.needs_issuer(&leaf));
        if self.criteria.leniency.expired && by_itself {
            return pinned;
        }
        let own = usable::not_after(leaf).unwrap_or(now);
        let issuers = intermediates.iter().filter(|_| !by_itself).filter_map(usable::not_after);
        // The last second is still good.
        let valid = issuers.filter(|end| *end >= now).fold(own, UnixTime::min);
        Some(pinned.map_or(valid, |pinned| pinned.min(valid)))
    }
}
