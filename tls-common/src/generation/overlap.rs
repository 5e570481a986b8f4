//! Overlap: for a while after a rotation the previous identity can still be shown and the previous trust still counts.
//!
//! Rotations on several hosts never land at the same instant. With Flink's recipe (one self-signed pair, shared by all as
//! identity *and* trust) a host that has rotated and one that has not would refuse each other in both directions, and so
//! would hosts on both sides of a change of their CA. Within `BundleOptions::overlap` after its own rotation a host
//! therefore goes on *believing* what it believed before ([`crate::verify::Judge`]), and *shows* its previous identity to
//! peers that do not believe the new one. Whoever has not rotated needs to do nothing but say what it believes:
//!
//! - A client says it in its ClientHello, as one more ALPN name: [`PREFIX`] and 8 bytes of the SHA-256 of each certificate it
//!   trusts (of each pin, if it has pins). ALPN is there in TLS 1.2, 1.3 and QUIC, and servers skip names they do not
//!   know. It is sent only beside names of a real protocol, because a server with a list of its own refuses a client none
//!   of whose names is in it.
//! - A server says it in its CertificateRequest, as names of authorities that nobody has: `CN=`[`PREFIX`] and the same
//!   bytes in hex, one name per certificate, after the real ones. Clients skip names that issued none of their
//!   certificates.
//! - A peer that says nothing of the kind but lists real authorities (Java, OpenSSL) is shown the previous identity only if
//!   one of these issued that and none issued the current one.
//!
//! In any other case the current identity is shown.
//!
//! # Why this is safe
//!
//! - *What a peer is shown never decides whom we believe.* A hint selects among our own identities; every certificate is
//!   judged by its receiver, under the receiver's own trust, and its key must sign the handshake. A false hint makes us show
//!   a certificate that the receiver refuses or that it would have accepted anyway; showing it gives nothing away but the
//!   certificate.
//! - *No downgrade.* ClientHello and CertificateRequest are covered by the handshake's signatures and Finished
//!   messages: a hint that was changed on the way ends the handshake, in TLS 1.2 and 1.3 alike. A peer that asks for the
//!   previous identity itself gets it only within the overlap, and gains nothing by it: within the overlap that identity
//!   is as good as the current one.
//! - *Never beyond the overlap.* Each previous identity and each previous trust carries its own end, on the monotonic
//!   clock, and is compared with it at each handshake; then a generation without them is published (made from what is in
//!   memory: a bad file cannot delay it), with session stores of its own, and established connections are judged again. Resumed sessions are judged by their stored chain at each
//!   handshake, so none outlives the trust it was made under.
//! - *What overlap cannot know.* A certificate or pin that is gone from the files may be part of a rotation or may have
//!   been taken away from a thief; the previous trust counts on in both cases. An operator who must shut somebody out at
//!   once puts the certificate on a revocation list, which is in force at once for peers of the previous trust too, or
//!   runs without overlap, which is the default.
//! - *What it tells others.* 8 bytes of a hash of each trusted certificate, in the clear as the ClientHello is. Without
//!   overlap nothing is sent.

use std::{fmt, sync::Arc};

use rustls::{
    DistinguishedName, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, UnixTime},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pins::Pin;

/// In front of what we believe; the digit is for another encoding.
const PREFIX: &[u8] = b"tls-trust/1 ";

/// Bytes of a digest that stand for a certificate. Two certificates that share them are as good as one: the wrong
/// identity would be shown, and refused.
const MARK_LEN: usize = 8;

/// Certificates in a hint, so that it fits an ALPN name (255 bytes). Who trusts more than these says nothing; then names
/// of authorities have to do.
const MARKS_MAX: usize = 30;

/// Previous identities and trusts kept at once, however fast the rotation: the newest.
pub(crate) const OUTGOING_MAX: usize = 16;

/// What stands for one certificate in a hint.
pub(crate) type Mark = [u8; MARK_LEN];

/// The beginning of a digest.
pub(crate) fn mark(digest: &[u8]) -> Mark {
    let mut mark = Mark::default();
    mark.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    mark
}

/// What a side of a handshake believes; in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hint(Vec<Mark>);

impl Hint {
    /// Of one who trusts `trusted`, or of it only what is pinned at `now`. `None` if that is too much to say.
    pub(crate) fn of<'a>(
        trusted: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        pins: &[Pin],
        now: UnixTime,
    ) -> Option<Self> {
        let mut marks: Vec<Mark> = if pins.is_empty() {
            trusted.into_iter().map(|certificate| mark(&Sha256::digest(certificate))).collect()
        } else {
            pins.iter().filter(|pin| pin.counts(now)).map(|pin| mark(pin.fingerprint().as_bytes())).collect()
        };
        marks.sort_unstable();
        marks.dedup();
        (1..=MARKS_MAX).contains(&marks.len()).then_some(Self(marks))
    }

    /// As an ALPN name.
    pub(crate) fn alpn(&self) -> Vec<u8> {
        [PREFIX, self.0.as_flattened()].concat()
    }

    /// As names of authorities.
    pub(crate) fn names(&self) -> Vec<DistinguishedName> {
        self.0
            .iter()
            .map(|mark| DistinguishedName::from(common_name(&[PREFIX, hex(mark).as_bytes()].concat())))
            .collect()
    }

    fn from_alpn<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut hints = names.filter_map(|name| name.strip_prefix(PREFIX)).map(|marks| marks.as_chunks::<MARK_LEN>());
        hints.find_map(|(marks, rest)| (rest.is_empty() && !marks.is_empty()).then(|| Self(marks.to_vec())))
    }

    fn from_names(names: &[&[u8]]) -> Option<Self> {
        let marks: Vec<Mark> = names.iter().filter_map(|name| mark_in_name(name)).take(MARKS_MAX).collect();
        (!marks.is_empty()).then_some(Self(marks))
    }
}

/// What a peer could say in `names`, of either kind; what is understood comes back from what we would say.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_hints(names: &[&[u8]]) {
    for hint in [Hint::from_alpn(names.iter().copied()), Hint::from_names(names)].into_iter().flatten() {
        let said = hint.names();
        let said: Vec<&[u8]> = said.iter().map(AsRef::as_ref).collect();
        assert_eq!(Hint::from_names(&said).as_ref(), Some(&hint));
        assert_eq!(Hint::from_alpn(std::iter::once(hint.alpn().as_slice())), Some(hint));
    }
}

/// An identity as far as it matters for the choice among several.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) certified: Arc<CertifiedKey>,
    /// Marks of everything by which a peer can come to believe it: itself, its chain, its authorities.
    believed_by: Vec<Mark>,
    /// DER of the issuers' names in its chain.
    issuers: Vec<Vec<u8>>,
}

impl Candidate {
    /// `vouchers`: those trusted certificates that the identity can be verified with.
    pub(super) fn new(certified: &Arc<CertifiedKey>, vouchers: &[&CertificateDer<'static>]) -> Self {
        let chain = certified.cert.iter().chain(vouchers.iter().copied());
        let mut believed_by: Vec<Mark> = chain.map(|certificate| mark(&Sha256::digest(certificate))).collect();
        // A peer may have pinned the leaf in Flink's way.
        believed_by.extend(certified.cert.first().map(|leaf| mark(&Sha1::digest(leaf))));
        let parsed = certified.cert.iter().filter_map(|certificate| X509Certificate::from_der(certificate).ok());
        let issuers = parsed.map(|(_, certificate)| certificate.issuer().as_raw().to_vec()).collect();
        Self { certified: Arc::clone(certified), believed_by, issuers }
    }

    fn is_believed_by(&self, hint: &Hint) -> bool {
        self.believed_by.iter().any(|mark| hint.0.contains(mark))
    }

    fn is_issued_by(&self, names: &[&[u8]]) -> bool {
        self.issuers.iter().any(|issuer| names.contains(&issuer.as_slice()))
    }
}

/// A previous something, and when it must not be used any more.
#[derive(Clone)]
pub(crate) struct Outgoing<T> {
    pub(crate) what: T,
    pub(crate) until: Instant,
}

impl<T> Outgoing<T> {
    /// Whether it may still be used.
    pub(crate) fn is_alive(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Those whose time is not over.
pub(super) fn alive<T: Clone>(outgoing: &[Outgoing<T>]) -> impl Iterator<Item = Outgoing<T>> {
    outgoing.iter().filter(|outgoing| outgoing.is_alive()).cloned()
}

/// Our identities: the current one, and the previous ones that can still be shown, newest first.
#[derive(Clone)]
pub(super) struct Identities {
    pub(super) current: Candidate,
    pub(super) outgoing: Vec<Outgoing<Candidate>>,
}

impl Identities {
    fn choose(&self, hint: Option<Hint>, names: &[&[u8]]) -> Arc<CertifiedKey> {
        let suits = |candidate: &Candidate| match &hint {
            Some(hint) => candidate.is_believed_by(hint),
            None => candidate.is_issued_by(names),
        };
        let anything_said = hint.is_some() || !names.is_empty();
        let chosen = if !anything_said || suits(&self.current) {
            &self.current
        } else {
            let alive = self.outgoing.iter().filter(|outgoing| outgoing.is_alive()).map(|outgoing| &outgoing.what);
            alive.into_iter().find(|candidate| suits(candidate)).unwrap_or(&self.current)
        };
        Arc::clone(&chosen.certified)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("outgoing", &self.outgoing.len()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let hint = hello.alpn().and_then(Hint::from_alpn);
        let names: Vec<&[u8]> = hello.certificate_authorities().into_iter().flatten().map(AsRef::as_ref).collect();
        Some(self.choose(hint, &names))
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(Hint::from_names(authorities), authorities))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// DER of the distinguished name `CN=text`.
fn common_name(text: &[u8]) -> Vec<u8> {
    let text = der(0x0c, text); // UTF8String
    let attribute = der(0x30, &[COMMON_NAME, &text].concat());
    der(0x30, &der(0x31, &attribute))
}

/// The certificate that a name of [`Hint::names`] stands for.
fn mark_in_name(name: &[u8]) -> Option<Mark> {
    let text = name.get(name.len().checked_sub(2 * MARK_LEN)?..)?;
    let mut mark = Mark::default();
    for (byte, pair) in mark.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    // Exactly as we write it, and nothing else.
    (name == common_name(&[PREFIX, hex(&mark).as_bytes()].concat())).then_some(mark)
}

/// Tag, length below 128, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    debug_assert!(content.len() < 128, "one byte of length");
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[tag, length], content].concat()
}

fn hex(bytes: &[u8]) -> String {
    crate::context::hex(bytes)
}

/// 2.5.4.3, with tag and length.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::Fingerprint;

    fn hint(marks: &[u8]) -> Hint {
        Hint(marks.iter().map(|byte| [*byte; MARK_LEN]).collect())
    }

    #[test]
    fn a_hint_comes_back_from_both_its_forms() {
        let hint = hint(&[1, 0xff, 0x0a]);
        let alpn = hint.alpn();
        assert_eq!(Hint::from_alpn([b"h2".as_slice(), &alpn].into_iter()), Some(hint.clone()));
        let names = hint.names();
        let mut names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
        let real = common_name(b"flink.internal");
        names.insert(1, &real);
        assert_eq!(Hint::from_names(&names), Some(hint));
    }

    #[test]
    fn a_hint_is_a_distinguished_name_that_others_can_read() {
        let [name] = <[DistinguishedName; 1]>::try_from(hint(&[7]).names()).unwrap();
        let (rest, parsed) = x509_parser::x509::X509Name::from_der(name.as_ref()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(parsed.to_string(), "CN=tls-trust/1 0707070707070707");
    }

    #[test]
    fn who_trusts_nobody_or_too_many_says_nothing() {
        let certificates = |count: u8| (0..count).map(|n| CertificateDer::from(vec![n])).collect::<Vec<_>>();
        assert_eq!(Hint::of(&certificates(0), &[], UnixTime::now()), None);
        let longest = Hint::of(&certificates(30), &[], UnixTime::now()).unwrap();
        assert!(longest.alpn().len() <= 255, "{}", longest.alpn().len());
        assert_eq!(Hint::of(&certificates(31), &[], UnixTime::now()), None);
    }

    #[test]
    fn who_has_pins_says_only_those() {
        let certificate = CertificateDer::from(vec![1]);
        let pins = [Fingerprint::sha1_of(b"leaf"), Fingerprint::sha256_of(b"other")].map(Pin::from);
        let hint = Hint::of([&certificate], &pins, UnixTime::now()).unwrap();
        let mut expected = vec![mark(&Sha1::digest(b"leaf")), mark(&Sha256::digest(b"other"))];
        expected.sort_unstable();
        assert_eq!(hint, Hint(expected));
    }

    proptest! {
        #[test]
        fn whatever_a_peer_sends_is_a_hint_or_none(name: Vec<u8>, marks: Vec<u8>) {
            let _ = Hint::from_alpn([name.as_slice(), &[PREFIX, &marks].concat()].into_iter());
            let _ = Hint::from_names(&[&name, &marks, &common_name(&marks[..marks.len().min(100)])]);
        }
    }
}
