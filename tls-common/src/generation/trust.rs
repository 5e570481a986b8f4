//! Whom we believe, and the sessions made under that belief: the half of a generation that decides who gets in.

use std::{sync::Arc, time::Duration};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer, server::danger::ClientCertVerifier};
use tokio::time::Instant;

use super::{
    files::Files,
    overlap::{Hint, OUTGOING_MAX, Outgoing},
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
    pub(super) rules: Rules,
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
    /// Whoever `previous` believed is believed until `until`, too, or until that belief's own time is over.
    pub(super) fn new(
        rules: Rules,
        previous: Option<&Self>,
        until: Option<Instant>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let mut outgoing = Vec::new();
        if let (Some(previous), Some(until)) = (previous, until) {
            let under = |judge: &Judge| Arc::new(judge.under(&rules.criteria));
            let changed = previous.rules != rules;
            outgoing.extend(changed.then(|| Outgoing { what: under(&previous.judge), until }));
            let alive = previous.judge.outgoing().iter().filter(|outgoing| outgoing.is_alive());
            outgoing.extend(alive.map(|outgoing| Outgoing { what: under(&outgoing.what), until: outgoing.until }));
            outgoing.truncate(OUTGOING_MAX);
        }
        let judge = Judge::new(&rules.trusted, Arc::clone(&rules.criteria), algorithms).with_outgoing(outgoing);
        let judge = Arc::new(judge);
        let hint = (!rules.overlap.is_zero()).then(|| Hint::of(judge.trusted(), judge.pins())).flatten();
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
}

impl Trust {
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
