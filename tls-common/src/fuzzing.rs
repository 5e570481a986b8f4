//! Entry points for fuzz targets, behind the feature `fuzzing`: bytes as a file or a peer could bring them.
//!
//! Any outcome but a panic is fine, and the message of every error is written out. `tests/seeds.rs` gives each of them
//! what fuzzing has found worth keeping.

use std::{
    iter,
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    Leniency, MaterialError,
    endpoint::audit,
    generation::read_hints,
    options::{Password, StoreOptions},
    pins,
    store::{self, ResolvedPasswords, parse_chain_and_key, parse_identity, parse_trust, parse_trust_directory},
    verify::{Criteria, Judge, PeerRole, crl::Crls},
};

/// Parses `bytes` as keystore, as truststore, as the file of a private key and as one of a directory of certificates,
/// with and without a password.
///
/// What stands behind a checksum or an armour that no random change gets through is reached beside them: JKS with a
/// digest that fits, and encrypted PKCS#8 keys without PEM.
pub fn parse_stores(bytes: &[u8]) {
    let options = StoreOptions::new("fuzz", Password::None);
    for password in [None, Some(crate::Secret::new(STORE_PASSWORD.into()))] {
        let passwords = ResolvedPasswords { store: password.clone(), key: None };
        explain(parse_identity(bytes, &options, &passwords));
        explain(parse_trust(bytes, &options, &passwords));
        explain(parse_chain_and_key(CERTIFICATE, (Path::new("key"), bytes), &options, &passwords));
        explain(parse_chain_and_key(bytes, (Path::new("key"), CERTIFICATE), &options, &passwords));
        if let Some(password) = &password {
            let _ = store::decrypt_pkcs8(bytes, &passwords).map_err(|fault| fault.to_string());
            explain(parse_identity(&store::sign_jks(bytes, password), &options, &passwords));
        }
    }
    explain(parse_trust_directory([(Path::new("one"), bytes), (Path::new("two"), bytes)].into_iter(), &options));
}

/// Parses `bytes` as a file of pins and as one of revocation lists. What is one decides about a certificate.
pub fn parse_trust_files(bytes: &[u8]) {
    if let Some(pins) = explain(pins::parse(bytes, Path::new("fuzz"))) {
        let criteria = Criteria { pins, ..Criteria::default() };
        judge(std::slice::from_ref(&*AUTHORITY), criteria, &LISTED);
    }
    for strict in [false, true] {
        if let Some(crls) = explain(Crls::parse(bytes, strict, Path::new("fuzz"))) {
            let criteria = Criteria { crls: Arc::new(crls), ..Criteria::default() };
            judge(std::slice::from_ref(&*AUTHORITY), criteria, &LISTED);
        }
    }
}

/// Parses `bytes` as what a peer says in its handshake: names of protocols and authorities, each after one byte with
/// its length; the messages of a server, of which the first byte says where they are cut; a certificate.
pub fn parse_handshake(bytes: &[u8]) {
    let mut rest = bytes;
    let names = iter::from_fn(|| {
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        Some(name)
    });
    read_hints(&names.collect::<Vec<_>>());
    #[cfg(feature = "quic")]
    if let Some((cut, messages)) = bytes.split_first() {
        let (first, second) = messages.split_at(messages.len().min(usize::from(*cut)));
        crate::quic::read_server_hello(first, second);
    }
    // Judging takes long: only what can be a certificate, which is a sequence.
    if bytes.first() == Some(&0x30) {
        parse_certificate(bytes);
    }
}

fn parse_certificate(bytes: &[u8]) {
    audit::read_names(bytes);
    let certificate = CertificateDer::from(bytes.to_vec());
    judge(std::slice::from_ref(&*AUTHORITY), Criteria::default(), &certificate);
    judge(std::slice::from_ref(&certificate), Criteria::default(), &certificate);
    let lenient = Criteria { leniency: Leniency::JAVA, ..Criteria::default() };
    judge(std::slice::from_ref(&certificate), lenient, &certificate);
}

/// Judges `leaf`, which presents itself as its issuer too, in both roles.
fn judge(trusted: &[CertificateDer<'static>], criteria: Criteria, leaf: &CertificateDer<'static>) {
    let judge =
        Judge::new(trusted, Arc::new(criteria), aws_lc_rs::default_provider().signature_verification_algorithms);
    let name = ServerName::from(std::net::Ipv4Addr::LOCALHOST);
    for (role, name) in [(PeerRole::Client, None), (PeerRole::Server, Some(&name))] {
        // Twice: the second verdict may come from memory, and is the same.
        let verdicts = [(); 2].map(|()| judge.judge_until(leaf, std::slice::from_ref(leaf), role, name, NOW));
        assert_eq!(verdicts[0], verdicts[1]);
        let _ = verdicts[0].as_ref().map_err(ToString::to_string);
    }
    judge.issuer_names();
    judge.vouchers(std::slice::from_ref(leaf), NOW);
}

fn explain<T>(outcome: Result<T, MaterialError>) -> Option<T> {
    outcome.map_err(|error| error.to_string()).ok()
}

/// Password of the stores in `tests/fixtures`, which are what fuzzing starts from.
const STORE_PASSWORD: &str = "store_password";

/// Looks like PEM and holds nothing.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

/// Within the validity of the fixtures: the same outcome every day.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));

static AUTHORITY: LazyLock<CertificateDer<'static>> =
    LazyLock::new(|| fixture(include_bytes!("../tests/fixtures/trust/ca.pem")));

/// On the authority's list.
static LISTED: LazyLock<CertificateDer<'static>> =
    LazyLock::new(|| fixture(include_bytes!("../tests/fixtures/trust/revoked.pem")));

fn fixture(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap_or_else(|_| CertificateDer::from(Vec::new()))
}
