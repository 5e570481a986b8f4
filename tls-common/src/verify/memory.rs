//! Peers that were believed before. The same ones come back with the same certificates, at every resumed session too,
//! and judging a chain costs as much as half a resumed handshake.
//!
//! A [`Judge`](super::Judge) never changes, so its verdict on the same certificates in the same role depends on nothing
//! but the time. What is remembered therefore carries the span of time for which it holds: from when it was passed (a
//! clock that was set back is asked anew) until the first moment at which a certificate that may have counted, a pin or
//! a revocation list ends ([`Span`], made in `end.rs`). A new trust store, pin or list is a new judge, with an empty
//! memory. The host name that a believed peer was last found to be for is remembered beside it, for that never changes
//! either. Refusals are not remembered. The handshake's own signature, which is never the same twice, is verified every
//! time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::pki_types::{ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use super::{Claim, PeerRole};

/// Verdicts remembered at most, of 32 bytes, three times and a name each. When there are more, all are forgotten: only
/// peers that were believed get this far.
const VERDICTS_MAX: usize = 4096;

/// Who was believed, by digest of role and certificates.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Subject, Verdict>>);

#[derive(Debug)]
struct Verdict {
    span: Span,
    /// The name that its own certificate was found to be for; the latest.
    name: Option<ServerName<'static>>,
}

/// When a verdict holds; both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// When it was passed.
    pub(super) from: UnixTime,
    /// Until when nothing can change it; `None` if for ever.
    pub(super) unchanged_until: Option<UnixTime>,
    /// Until when the peer is believed by the clock alone: this, or later; `None` if for ever.
    pub(super) believed_until: Option<UnixTime>,
}

/// What a verdict is about: role and certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject([u8; 32]);

impl Memory {
    /// The verdict on the same, if it was believed before and nothing has ended since.
    pub(super) fn get(&self, subject: Subject, now: UnixTime) -> Option<Span> {
        let span = self.verdicts().get(&subject)?.span;
        (span.from <= now && span.unchanged_until.is_none_or(|until| now <= until)).then_some(span)
    }

    /// `subject` is believed.
    pub(super) fn add(&self, subject: Subject, span: Span) {
        let mut verdicts = self.verdicts();
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.clear();
        }
        verdicts.insert(subject, Verdict { span, name: None });
    }

    /// Whether the peer's own certificate is known to be for `name`.
    pub(super) fn is_for(&self, subject: Subject, name: &ServerName<'_>) -> bool {
        self.verdicts().get(&subject).is_some_and(|verdict| verdict.name.as_ref() == Some(name))
    }

    /// The own certificate of `subject`, if that is remembered, is for `name`.
    pub(super) fn add_name(&self, subject: Subject, name: &ServerName<'_>) {
        if let Some(verdict) = self.verdicts().get_mut(&subject) {
            verdict.name = Some(name.to_owned());
        }
    }

    fn verdicts(&self) -> MutexGuard<'_, HashMap<Subject, Verdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Claim<'_>> for Subject {
    fn from(claim: Claim<'_>) -> Self {
        let mut digest = Sha256::new();
        digest.update(match claim.role {
            PeerRole::Client => b"C",
            PeerRole::Server => b"S",
        });
        for certificate in std::iter::once(claim.leaf).chain(claim.intermediates) {
            // The length keeps one certificate from ending where another begins.
            digest.update((certificate.len() as u64).to_be_bytes());
            digest.update(certificate);
        }
        Self(digest.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use rustls::pki_types::CertificateDer;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_verdict_holds_for_the_same_certificates_in_the_same_role_within_its_time_and_for_nothing_else() {
        let [leaf, other, ca, more] = [b"leaf".as_slice(), b"lea", b"ca", b"fca"].map(CertificateDer::from);
        let issuers = [ca.clone()];
        let claim = Claim { leaf: &leaf, intermediates: &issuers, role: PeerRole::Client, now: at(10) };
        let memory = Memory::default();
        let knows = |claim: Claim<'_>| memory.get(claim.into(), claim.now).is_some();
        let span = |unchanged_until| Span { from: claim.now, unchanged_until, believed_until: None };
        assert!(!knows(claim));
        memory.add(claim.into(), span(Some(at(20))));
        for (now, holds) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(knows(Claim { now: at(now), ..claim }), holds, "at {now}");
        }
        assert!(!knows(Claim { role: PeerRole::Server, ..claim }));
        assert!(!knows(Claim { intermediates: &[], ..claim }));
        assert!(!knows(Claim { intermediates: &[ca.clone(), ca], ..claim }));
        // The same bytes in a row, cut elsewhere.
        assert!(!knows(Claim { leaf: &other, intermediates: &[more], ..claim }));
        let [a, b] = ["a", "b"].map(|name| ServerName::try_from(name).unwrap());
        assert!(!memory.is_for(claim.into(), &a));
        memory.add_name(claim.into(), &a);
        memory.add_name(Claim { role: PeerRole::Server, ..claim }.into(), &b);
        let is_for = |name| memory.is_for(claim.into(), name);
        assert!(is_for(&a) && !is_for(&b) && !memory.is_for(Claim { role: PeerRole::Server, ..claim }.into(), &b));
        memory.add(claim.into(), span(None));
        assert!(knows(Claim { now: at(u64::MAX), ..claim }), "what has no end");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let memory = Memory::default();
        for number in 0..=VERDICTS_MAX as u64 {
            let mut subject = Subject([0; 32]);
            subject.0[..8].copy_from_slice(&number.to_be_bytes());
            memory.add(subject, Span { from: at(0), unchanged_until: None, believed_until: None });
            assert!(memory.get(subject, at(0)).is_some());
        }
        assert!(memory.verdicts().len() <= VERDICTS_MAX);
    }
}
