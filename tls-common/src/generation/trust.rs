//! Whom we believe, and the sessions made under that belief: the half of a generation that decides who gets in.

use std::{sync::Arc, time::Duration};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer, server::danger::ClientCertVerifier};

use super::files::Files;
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
}

impl Trust {
    pub(super) fn new(rules: Rules, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let judge = Arc::new(Judge::new(&rules.trusted, Arc::clone(&rules.criteria), algorithms));
        let client_verifier = |mandatory| Arc::new(ClientVerifier::new(Arc::clone(&judge), mandatory)) as _;
        Self {
            server_verifier: Arc::new(ServerVerifier::new(Arc::clone(&judge), rules.verify_hostname)),
            client_verifier: match rules.client_auth {
                ClientAuth::None => None,
                ClientAuth::Optional => Some(client_verifier(false)),
                ClientAuth::Required => Some(client_verifier(true)),
            },
            sessions: Sessions::new(rules.session_cache_size, rules.session_timeout),
            judge,
            rules,
        }
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
}

impl Rules {
    pub(super) fn load(options: &BundleOptions, files: &Files) -> Result<Self, MaterialError> {
        let mut trusted = match &options.truststore {
            Some(truststore) => {
                let passwords = files.passwords(StorePart::Truststore, truststore)?;
                store::parse_trust(files.get(&truststore.path)?, truststore, &passwords)?
            }
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
    Ok(Criteria { pins, crls, leniency: options.leniency, min_key: options.min_key })
}
