//! One generation: everything that follows from one consistent read of a bundle, immutable.
//!
//! It has two halves, which a reload replaces separately. [`Credentials`] is who we are; [`Trust`] is whom we believe
//! *and the sessions made under that belief*, because a resumed TLS session skips the certificate verifier (1.2 and
//! 1.3, on both sides): sessions that outlived their trust would let a removed peer back in. So as long as the trust
//! stays what it was, new credentials keep the sessions, and any change of trust, pins or rules throws all of them away.
//!
//! A client that got new credentials makes a full handshake all the same: rustls resumes only under the certificate
//! resolver the session was made with, and so the server always sees the new certificate.

mod credentials;
mod files;
mod overlap;
mod provider;
#[cfg(test)]
mod tests;
mod trust;
mod validity;

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    ClientConfig, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::Instant;

#[cfg(feature = "fuzzing")]
pub(crate) use self::overlap::read_hints;
#[cfg(feature = "quic")]
pub(crate) use self::provider::quic_initial_suite;
pub(crate) use self::{
    credentials::NoClientCertificate,
    files::Files,
    overlap::{Hint, Outgoing},
    provider::{iana_name, public_key},
    validity::{Ends, Validity},
};
use self::{
    credentials::{Credentials, LoadedIdentity},
    trust::{Rules, Trust},
};
use crate::{
    BundleOptions, ClientAuth, Fingerprint, KeySizes, MaterialError, Rejection, canary, clock,
    verify::{Judge, PeerRole},
};

/// What this process presents and whom it believes, as of one consistent read of its bundle's files.
pub struct Generation {
    number: u64,
    credentials: Arc<Credentials>,
    trust: Arc<Trust>,
    server_config: Option<Arc<ServerConfig>>,
    client_config: Arc<ClientConfig>,
    loaded_at_ms: i64,
}

impl Generation {
    /// Builds and tests generation `number`; blocking (keystores are slow by design). `previous` is the one to replace.
    pub(crate) fn build(
        options: &BundleOptions,
        files: &Files,
        number: u64,
        previous: Option<&Generation>,
    ) -> Result<Generation, MaterialError> {
        check_options(options)?;
        let provider = Arc::new(provider::for_options(options, previous.is_none())?);
        let identity = LoadedIdentity::load(options, files)?;
        let rules = Rules::load(options, files)?;
        let until = (!options.overlap.is_zero()).then(|| clock::later(Instant::now(), options.overlap));
        // What has not changed is kept, with the sessions made under it.
        let trust = match previous {
            Some(Generation { trust, .. }) if *trust.rules == rules => Arc::clone(trust),
            _ => {
                let outgoing = previous.map(|previous| previous.trust.outgoing_after(&rules, until));
                Arc::new(Trust::new(Arc::new(rules), outgoing.unwrap_or_default(), &provider))
            }
        };
        let credentials = match previous {
            Some(Generation { credentials, .. }) if credentials.shows(identity.as_ref()) => Arc::clone(credentials),
            _ => {
                let outgoing = previous.map(|previous| previous.credentials.outgoing_after(identity.as_ref(), until));
                Arc::new(Credentials::new(identity, &trust.judge, outgoing.unwrap_or_default()))
            }
        };
        let generation = Self::assemble(options, number, credentials, trust, &provider)?;
        // What was before is no part of the test: material that only works beside it would end with it.
        let alone = match generation.overlap_ends() {
            Some(_) => Some(generation.with_outgoing_only(false, options, number)?),
            None => None,
        };
        canary::test(alone.as_ref().unwrap_or(&generation), options)?;
        if let Some(previous) = previous {
            canary::compare(&generation, previous, options);
        }
        Ok(generation)
    }

    /// This generation, as `number`, without what was before it and whose time is over. It needs no file: an overlap
    /// ends when it ends, whatever lies on the disk by then.
    pub(crate) fn after_overlap(&self, options: &BundleOptions, number: u64) -> Result<Generation, MaterialError> {
        self.with_outgoing_only(true, options, number)
    }

    fn with_outgoing_only(
        &self,
        keep: bool,
        options: &BundleOptions,
        number: u64,
    ) -> Result<Generation, MaterialError> {
        let provider = Arc::new(provider::for_options(options, false)?);
        let credentials = Arc::new(self.credentials.with_outgoing_only(keep));
        let trust = Arc::new(self.trust.with_outgoing_only(keep, &provider));
        Self::assemble(options, number, credentials, trust, &provider)
    }

    fn assemble(
        options: &BundleOptions,
        number: u64,
        credentials: Arc<Credentials>,
        trust: Arc<Trust>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Generation, MaterialError> {
        let tls =
            |error: rustls::Error| MaterialError::Options { bundle: options.name.clone(), reason: error.to_string() };
        let server_config = match &credentials.identity {
            Some(_) => Some(Arc::new(server_config(&credentials, &trust, provider).map_err(tls)?)),
            None => None,
        };
        let client_config = Arc::new(client_config(&credentials, &trust, provider).map_err(tls)?);
        let loaded_at_ms = unix_ms(SystemTime::now());
        Ok(Generation { number, credentials, trust, server_config, client_config, loaded_at_ms })
    }

    /// Counts the bundle's generations in this process, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// For accepting; `None` without a keystore. ALPN is empty: clone it to set one.
    ///
    /// Who uses it directly, without an [`crate::Endpoint`], must pass the chain of a peer that *resumed* a session to
    /// [`Self::judge_client`]: rustls does not, and the certificate may have ended since.
    pub fn server_config(&self) -> Option<&Arc<ServerConfig>> {
        self.server_config.as_ref()
    }

    /// For connecting. ALPN is empty: clone it to set one. For resumed sessions see [`Self::server_config`]; here it is
    /// [`Self::judge_server`].
    pub fn client_config(&self) -> &Arc<ClientConfig> {
        &self.client_config
    }

    /// SHA-256 of our own certificate; `None` without a keystore.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.identity().map(|identity| identity.fingerprint)
    }

    /// Our own certificate; `None` without a keystore.
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.identity()?.certified.cert.first()
    }

    /// Subject of our own certificate, for people.
    pub fn subject(&self) -> Option<&str> {
        self.identity().map(|identity| identity.subject.as_str())
    }

    /// First moment our own certificate is good, in Unix seconds.
    pub fn not_before(&self) -> Option<i64> {
        self.identity().map(|identity| identity.not_before)
    }

    /// Last moment our own certificate is good, in Unix seconds.
    pub fn not_after(&self) -> Option<i64> {
        self.identity().map(|identity| identity.not_after)
    }

    /// When the generation was ready, in Unix milliseconds.
    pub fn loaded_at_ms(&self) -> i64 {
        self.loaded_at_ms
    }

    /// Whether a client that presented `chain` (its own certificate first) would be let in at `now`.
    pub fn judge_client(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Rejection> {
        self.judge(chain, PeerRole::Client, None, now).map(drop)
    }

    /// Whether a server dialled as `name` that presented `chain` (its own certificate first) would be believed at `now`.
    /// The name counts only if the bundle verifies host names.
    pub fn judge_server(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        self.judge(chain, PeerRole::Server, Some(name), now).map(drop)
    }

    /// When something of a previous generation that still counts will not count any more; the earliest such moment.
    pub(crate) fn overlap_ends(&self) -> Option<Instant> {
        self.trust.overlap_ends().chain(self.credentials.overlap_ends()).min()
    }

    /// The ALPN names of a client that speaks `protocols`: these, and with overlap what it tells servers about whom it
    /// believes. A client without protocols offers nothing: a server with some would refuse it.
    pub(crate) fn offered(&self, protocols: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let hint = self.trust.hint.as_ref().filter(|_| !protocols.is_empty());
        protocols.iter().cloned().chain(hint.map(Hint::alpn)).collect()
    }

    /// From when to when our own certificate is good.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.identity().map(|identity| Validity { not_before: identity.not_before, not_after: identity.not_after })
    }

    /// When the truststore's certificates end; `None` if there are none.
    pub(crate) fn trust_ends(&self) -> Option<Ends> {
        self.trust.ends
    }

    /// Whether sessions of `previous` can still be resumed under this generation.
    pub(crate) fn keeps_sessions_of(&self, previous: &Generation) -> bool {
        Arc::ptr_eq(&self.trust, &previous.trust)
    }

    /// The judge of peers, for the self-test.
    pub(crate) fn trust_judge(&self) -> &Arc<Judge> {
        &self.trust.judge
    }

    /// Until when, at least, a peer that presented `chain` stays accepted by the clock alone: the end of its certificate or
    /// of its pin; `None` if there is no such end. `name` is the one dialled; it counts only if the bundle verifies host names.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        role: PeerRole,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Rejection> {
        let (leaf, intermediates) = chain.split_first().ok_or(Rejection::NoCertificate)?;
        let name = name.filter(|_| self.trust.rules.verify_hostname);
        self.trust.judge.judge_until(leaf, intermediates, role, name, now)
    }

    fn identity(&self) -> Option<&LoadedIdentity> {
        self.credentials.identity.as_deref()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("subject", &self.subject())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn check_options(options: &BundleOptions) -> Result<(), MaterialError> {
    let reason = if options.keystore.is_none() && options.truststore.is_none() {
        "it has neither a keystore nor a truststore; set at least one"
    } else if options.client_auth != ClientAuth::None && options.truststore.is_none() {
        "clients are asked for a certificate, but there is no truststore to judge it by; set one"
    } else if options.truststore.as_ref().is_some_and(|truststore| truststore.private_key.is_some()) {
        "its truststore has a private key's file, which only a keystore can have; remove it"
    } else if options.protocols.is_empty() {
        "no protocol version is allowed; allow TLSv1.3, TLSv1.2 or both"
    } else if options.crl_strict && options.crl.is_none() {
        "every certificate must be proved not to be revoked, but there is no CRL file; set one"
    } else if options.min_key.rsa < KeySizes::LEAST_RSA {
        "RSA keys below 2048 bits are refused by the TLS library; set the minimum RSA key size to 2048 or more"
    } else {
        return Ok(());
    };
    Err(MaterialError::Options { bundle: options.name.clone(), reason: reason.into() })
}

fn server_config(
    credentials: &Credentials,
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let Some(resolver) = credentials.server_resolver() else { return Err(rustls::Error::NoCertificatesPresented) };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&provider::versions(&trust.rules.protocols))?;
    let builder = match &trust.client_verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    trust.sessions.install_server(&mut config);
    Ok(config)
}

fn client_config(
    credentials: &Credentials,
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&provider::versions(&trust.rules.protocols))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&trust.server_verifier) as _)
        .with_client_cert_resolver(Arc::clone(&credentials.client_resolver));
    trust.sessions.install_client(&mut config);
    Ok(config)
}

fn unix_ms(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
