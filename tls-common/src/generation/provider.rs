//! The cryptography of a generation: always named explicitly, never rustls' process-wide default, and narrowed to the
//! bundle's cipher suites. The only place that knows which libraries are built in.

use std::sync::Arc;

use rustls::{
    CipherSuite, Error, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer},
    sign::SigningKey,
    version::{TLS12, TLS13},
};

use crate::{BundleOptions, MaterialError, ProtocolVersion, options::Provider};

/// The provider with the suites the options name, in their order. If they name none, its own, but those with AES-128-GCM
/// first, as Go, BoringSSL and Flink's default have it: rustls begins with AES-256 and SHA-384, for which most processors
/// have no instructions as they have for SHA-256, and a handshake spends a tenth of its time there.
/// With `warn` each name that is dropped is logged once.
pub(super) fn for_options(options: &BundleOptions, warn: bool) -> Result<CryptoProvider, MaterialError> {
    let mut provider = built_in(options)?;
    if options.cipher_suites.is_empty() {
        let is_aes_128 = |suite: CipherSuite| iana_name(suite).ends_with("AES_128_GCM_SHA256");
        provider.cipher_suites.sort_by_key(|suite| (suite.version() != &TLS13, !is_aes_128(suite.suite())));
    } else {
        provider.cipher_suites = select(options, &provider.cipher_suites, warn);
    }
    let supported = |version: &ProtocolVersion| {
        provider.cipher_suites.iter().any(|suite| suite.version() == self::version(*version))
    };
    if options.protocols.iter().any(supported) {
        Ok(provider)
    } else {
        Err(MaterialError::Options {
            bundle: options.name.clone(),
            reason: format!(
                "none of the cipher suites {:?} can be used with {:?}; use TLS_AES_128_GCM_SHA256 or \
                 TLS_AES_256_GCM_SHA384 (TLS 1.3), TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or \
                 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 (TLS 1.2), or leave the list empty",
                options.cipher_suites, options.protocols
            ),
        })
    }
}

/// The bundle's provider with all that it has.
fn built_in(options: &BundleOptions) -> Result<CryptoProvider, MaterialError> {
    match options.provider {
        Provider::AwsLc => Ok(aws_lc_rs::default_provider()),
        #[cfg(feature = "ring")]
        Provider::Ring => Ok(rustls::crypto::ring::default_provider()),
        #[cfg(feature = "openssl")]
        Provider::OpenSsl => Ok(rustls_openssl::default_provider()),
        #[cfg(not(all(feature = "ring", feature = "openssl")))]
        missing => Err(MaterialError::Options {
            bundle: options.name.clone(),
            reason: format!(
                "the provider {missing:?} is not built in; choose another, or build with its cargo feature"
            ),
        }),
    }
}

/// The key, ready for `provider` to sign with.
pub(super) fn signing_key(provider: Provider, key: &PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
    match provider {
        #[cfg(feature = "ring")]
        Provider::Ring => rustls::crypto::ring::sign::any_supported_type(key),
        // It wants a copy of its own, which nobody wipes.
        #[cfg(feature = "openssl")]
        Provider::OpenSsl => {
            rustls::crypto::KeyProvider::load_private_key(&rustls_openssl::KeyProvider, key.clone_key())
        }
        _ => aws_lc_rs::sign::any_supported_type(key),
    }
}

/// The public half of a key, as certificates carry it; the same whoever signs.
pub(crate) fn public_key(key: &PrivateKeyDer<'static>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let key = aws_lc_rs::sign::any_supported_type(key)?;
    let public = key.public_key().map(SubjectPublicKeyInfoDer::into_owned);
    public.ok_or_else(|| Error::General("no public key".into()))
}

/// The suite of QUIC's first packets, which does not depend on what a bundle allows: those are public anyway.
#[cfg(feature = "quic")]
pub(crate) fn quic_initial_suite() -> Option<rustls::quic::Suite> {
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()
}

pub(super) fn versions(protocols: &[ProtocolVersion]) -> Vec<&'static SupportedProtocolVersion> {
    protocols.iter().map(|protocol| version(*protocol)).collect()
}

fn version(protocol: ProtocolVersion) -> &'static SupportedProtocolVersion {
    match protocol {
        ProtocolVersion::Tls12 => &TLS12,
        ProtocolVersion::Tls13 => &TLS13,
    }
}

fn select(options: &BundleOptions, available: &[SupportedCipherSuite], warn: bool) -> Vec<SupportedCipherSuite> {
    let mut selected = Vec::new();
    for name in &options.cipher_suites {
        match available.iter().find(|suite| iana_name(suite.suite()) == *name) {
            Some(suite) if !selected.contains(suite) => selected.push(*suite),
            Some(_) => {}
            None if warn => tracing::warn!(
                bundle = options.name,
                suite = name,
                "cipher suite is not available and is left out (only TLS 1.3 and ECDHE with AES-GCM or ChaCha20-Poly1305 are)"
            ),
            None => {}
        }
    }
    selected
}

/// rustls spells TLS 1.3 suites `TLS13_AES_128_GCM_SHA256`.
pub(crate) fn iana_name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    fn names(options: &BundleOptions) -> Vec<String> {
        for_options(options, true).unwrap().cipher_suites.iter().map(|suite| iana_name(suite.suite())).collect()
    }

    #[test]
    fn aes_128_gcm_comes_first_in_each_version_by_default_and_nothing_is_missing() {
        let names = names(&BundleOptions::new("internal"));
        let tls12 = names.iter().position(|name| name.contains("_WITH_")).unwrap();
        assert_eq!(names[0], "TLS_AES_128_GCM_SHA256");
        assert_eq!(names[tls12], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
        assert!(names[tls12..].iter().all(|name| name.contains("_WITH_")), "{names:?}");
        assert_eq!(names.len(), aws_lc_rs::DEFAULT_CIPHER_SUITES.len());
    }

    #[test]
    fn suites_are_taken_in_the_order_given_and_unknown_ones_dropped() {
        let mut options = BundleOptions::new("internal");
        options.cipher_suites = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_RSA_WITH_AES_128_CBC_SHA",
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ]
        .map(String::from)
        .into();
        assert_eq!(names(&options), ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"]);
    }

    #[test]
    fn no_usable_suite_is_an_error_that_names_usable_ones() {
        let mut options = BundleOptions::new("internal");
        options.cipher_suites = vec!["TLS_RSA_WITH_AES_128_CBC_SHA".into()];
        let error = for_options(&options, false).unwrap_err().to_string();
        assert!(error.contains("TLS_AES_128_GCM_SHA256") && error.contains("CBC"), "{error}");

        options.cipher_suites = vec!["TLS_AES_128_GCM_SHA256".into()];
        options.protocols = vec![ProtocolVersion::Tls12];
        assert!(for_options(&options, false).is_err(), "a TLS 1.3 suite is of no use to TLS 1.2");
    }

    #[cfg(not(feature = "ring"))]
    #[test]
    fn a_provider_that_is_not_built_in_is_an_error_that_says_how_to_get_it() {
        let mut options = BundleOptions::new("internal");
        options.provider = Provider::Ring;
        let error = for_options(&options, true).unwrap_err().to_string();
        assert!(error.contains("Ring") && error.contains("cargo feature"), "{error}");
    }
}
