//! Whom we believe, and the sessions made under that belief: the half of a generation that decides who gets in.

use std::{sync::Arc, time::Duration};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::time::Instant;

use super::{
    files::Files,
    overlap::{Hint, OUTGOING_MAX, Outgoing, alive},
    validity::Ends,
};
use crate::{
    BundleOptions, ClientAuth, MaterialError, ProtocolVersion,
    error::StorePart,
    pins::{self, Pin},
    session::Sessions,
    store,
    verify::{Criteria, Judge, client::ClientVerifier, crl::Crls, server::ServerVerifier},
};

/// Shared by two generations if their rules are equal, and only then.
pub(super) struct Trust {
    pub(super) rules: Arc<Rules>,
    pub(super) judge: Arc<Judge>,
    pub(super) server_verifier: Arc<ServerVerifier>,
    pub(super) client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) sessions: Sessions,
    /// What our clients tell servers about whom we believe; `None` without overlap.
    pub(super) hint: Option<Hint>,
    /// `None` if nobody is trusted.
    pub(super) ends: Option<Ends>,
}

impl Trust {
    /// Peers are believed by `rules`, and by those of `outgoing` whose time is not over.
    pub(super) fn new(rules: Arc<Rules>, outgoing: Vec<Outgoing<Arc<Judge>>>, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let judge = Judge::new(&rules.trusted, Arc::clone(&rules.criteria), algorithms).with_outgoing(outgoing);
        let judge = Arc::new(judge);
        let hint = (!rules.overlap.is_zero()).then(|| Hint::of(judge.trusted(), judge.pins(), UnixTime::now()));
        let hint = hint.flatten();
        let client_verifier =
            |mandatory| Arc::new(ClientVerifier::new(Arc::clone(&judge), mandatory, hint.as_ref())) as _;
        Self {
            server_verifier: Arc::new(ServerVerifier::new(Arc::clone(&judge), rules.verify_hostname)),
            client_verifier: match rules.client_auth {
                ClientAuth::None => None,
                ClientAuth::Optional => Some(client_verifier(false)),
                ClientAuth::Required => Some(client_verifier(true)),
            },
            sessions: Sessions::new(rules.session_cache_size, rules.session_timeout),
            ends: Ends::of(&rules.trusted),
            judge,
            rules,
            hint,
        }
    }

    /// Who is still believed beside `next`, which follows these: whom these believe, until `until`, judged by the new
    /// criteria. Only what a rotation changes is handed over: a new revocation list is no reason to believe the old one.
    pub(super) fn outgoing_after(&self, next: &Rules, until: Option<Instant>) -> Vec<Outgoing<Arc<Judge>>> {
        let Some(until) = until else { return Vec::new() };
        let same = self.rules.trusted == next.trusted && self.rules.criteria.pins == next.criteria.pins;
        let own = (!same).then(|| Outgoing { what: Arc::clone(&self.judge), until });
        let outgoing = own.into_iter().chain(alive(self.judge.outgoing())).take(OUTGOING_MAX);
        outgoing
            .map(|outgoing| Outgoing { what: Arc::new(outgoing.what.under(&next.criteria)), until: outgoing.until })
            .collect()
    }

    /// The same rules, with sessions of its own, without those whose time is over, or without all that came before.
    pub(super) fn with_outgoing_only(&self, keep: bool, provider: &CryptoProvider) -> Self {
        let outgoing = alive(self.judge.outgoing()).filter(|_| keep).collect();
        Self::new(Arc::clone(&self.rules), outgoing, provider)
    }

    /// When previous trust ends, if there is any.
    pub(super) fn overlap_ends(&self) -> impl Iterator<Item = Instant> + '_ {
        self.judge.outgoing().iter().map(|outgoing| outgoing.until)
    }
}

/// All that a session depends on: equal rules, same sessions.
#[derive(PartialEq)]
pub(super) struct Rules {
    /// Sorted, each once.
    trusted: Vec<CertificateDer<'static>>,
    criteria: Arc<Criteria>,
    client_auth: ClientAuth,
    pub(super) verify_hostname: bool,
    pub(super) protocols: Vec<ProtocolVersion>,
    cipher_suites: Vec<String>,
    session_cache_size: usize,
    session_timeout: Duration,
    overlap: Duration,
}

impl Rules {
    pub(super) fn load(options: &BundleOptions, files: &Files) -> Result<Self, MaterialError> {
        let mut trusted = match &options.truststore {
            Some(truststore) => match files.directory(&truststore.path) {
                Some(listed) => store::parse_trust_directory(listed, truststore)?,
                None => {
                    let passwords = files.passwords(StorePart::Truststore, truststore)?;
                    store::parse_trust(files.get(&truststore.path)?, truststore, &passwords)?
                }
            },
            None => Vec::new(),
        };
        trusted.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        Ok(Self {
            trusted,
            criteria: Arc::new(criteria(options, files)?),
            client_auth: options.client_auth,
            verify_hostname: options.verify_hostname,
            protocols: options.protocols.clone(),
            cipher_suites: options.cipher_suites.clone(),
            session_cache_size: options.session_cache_size,
            session_timeout: options.session_timeout,
            overlap: options.overlap,
        })
    }
}

fn criteria(options: &BundleOptions, files: &Files) -> Result<Criteria, MaterialError> {
    let mut pins: Vec<Pin> = options.pins.iter().copied().map(Pin::from).collect();
    if let Some(path) = &options.pins_file {
        pins.extend(pins::parse(files.get(path)?, path)?);
    }
    let crls = match &options.crl {
        Some(path) => Crls::parse(files.get(path)?, options.crl_strict, path)?,
        None => Crls::default(),
    };
    Ok(Criteria { pins, crls: Arc::new(crls), leniency: options.leniency, min_key: options.min_key })
}
