//! From options to TLS: contexts (files, watched) and endpoints (connections, counted).

mod bundle;
pub(crate) mod hangup;
mod suites;

pub(crate) use bundle::selection;
pub use bundle::{connection_policy, internal_bundle, reload_options, rest_client_bundle, rest_server_bundle};

use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::options;
use tls_common::{BundleOptions, Endpoint, HandshakeLimits, TlsContext};

/// The kinds of connection between the processes of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    /// gRPC; `pekko.ssl.enabled`.
    Rpc,
    /// Between TaskManagers; `taskmanager.data.ssl.enabled`.
    Data,
    /// To the blob server; `blob.service.ssl.enabled`.
    Blob,
}

/// Loads what the cluster's own connections use, from `security.ssl.internal.*`. Load it once per process.
/// `None` = they are plain TCP.
///
/// # Errors
/// An option is missing or contradicts another, or a file of the bundle cannot be used.
pub async fn internal_context(configuration: &Configuration) -> Result<Option<TlsContext>, ConfigError> {
    load(internal_bundle(configuration)?, "security.ssl.internal", configuration).await
}

/// Loads what the REST gateway uses, from `security.ssl.rest.*`. `None` = plain HTTP.
///
/// # Errors
/// As [`internal_context`].
pub async fn rest_server_context(configuration: &Configuration) -> Result<Option<TlsContext>, ConfigError> {
    load(rest_server_bundle(configuration)?, "security.ssl.rest", configuration).await
}

/// Loads what a client of the REST gateway uses, from `security.ssl.rest.*`. `None` = plain HTTP.
///
/// # Errors
/// As [`internal_context`].
pub async fn rest_client_context(configuration: &Configuration) -> Result<Option<TlsContext>, ConfigError> {
    load(rest_client_bundle(configuration)?, "security.ssl.rest", configuration).await
}

/// The endpoint of one kind of internal connection, with TLS if there is a `context` and the kind has not switched it
/// off. Call it within a tokio runtime.
///
/// # Errors
/// A value of the wrong form.
pub fn internal_endpoint(
    configuration: &Configuration,
    kind: Internal,
    context: Option<&TlsContext>,
) -> Result<Endpoint, ConfigError> {
    let (name, switch) = match kind {
        Internal::Rpc => ("rpc", &options::PEKKO_SSL_ENABLED),
        Internal::Data => ("data", &options::TASKMANAGER_DATA_SSL_ENABLED),
        Internal::Blob => ("blob", &options::BLOB_SERVICE_SSL_ENABLED),
    };
    let context = if configuration.get(switch)? { context.cloned() } else { None };
    Ok(Endpoint::new(name, context, connection_policy(configuration)?, bundle::internal_limits(configuration)?))
}

/// The endpoint of REST connections, server or client. Call it within a tokio runtime.
///
/// # Errors
/// A value of the wrong form.
pub fn rest_endpoint(configuration: &Configuration, context: Option<&TlsContext>) -> Result<Endpoint, ConfigError> {
    Ok(Endpoint::new("rest", context.cloned(), connection_policy(configuration)?, HandshakeLimits::default()))
}

/// What every operator coming from Flink should know about the TLS they get.
pub(crate) fn notes(configuration: &Configuration) -> Result<Vec<String>, ConfigError> {
    let mut notes = Vec::new();
    let enabled =
        configuration.get(&options::SSL_INTERNAL_ENABLED)? || configuration.get(&options::SSL_REST_ENABLED)?;
    if enabled && !configuration.contains(options::SSL_ALGORITHMS.key()) {
        notes.push(format!(
            "`security.ssl.algorithms` is not set: Tidemill's own suites are used, not Flink's default ({})",
            suites::iana_names(&selection(configuration)?.protocols).join(", ")
        ));
    }
    if configuration.contains(options::SSL_PROVIDER.key()) {
        notes.push("`security.ssl.provider`: JDK and OPENSSL mean the same here, rustls with AWS-LC".to_owned());
    }
    if configuration.get(&options::SSL_REST_ENABLED)?
        && !configuration.get(&options::SSL_REST_AUTHENTICATION_ENABLED)?
    {
        let about_clients = [
            options::SSL_REST_CERT_FINGERPRINT.key(),
            options::SSL_REST_CERT_FINGERPRINT_FILE.key(),
            options::SSL_REST_CRL.key(),
            options::SSL_REST_CRL_STRICT.key(),
        ];
        notes.extend(about_clients.iter().filter(|key| configuration.contains(key)).map(|key| {
            format!(
                "`{key}` has no effect at the REST gateway, which asks its clients for no certificate \
                 (`security.ssl.rest.authentication-enabled` is false); REST clients judge the gateway by it"
            )
        }));
    }
    Ok(notes)
}

async fn load(
    bundle: Option<BundleOptions>,
    keys: &'static str,
    configuration: &Configuration,
) -> Result<Option<TlsContext>, ConfigError> {
    let Some(bundle) = bundle else { return Ok(None) };
    let context = TlsContext::load(bundle, reload_options(configuration)?).await;
    let context = context.map_err(|error| ConfigError::Material { keys, error })?;
    hangup::add(&context);
    Ok(Some(context))
}
