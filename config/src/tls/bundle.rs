//! From keys to tls-common's options. Pure: no file is touched here.

use super::suites;
use crate::configuration::Configuration;
use crate::error::ConfigError;
use crate::option::ConfigOption;
use crate::options;
use std::path::PathBuf;
use tls_common::{
    BundleOptions, ClientAuth, ConnectionPolicy, Fingerprint, HandshakeLimits, KeySizes, Password, ReloadOptions,
    Secret, StoreKind, StoreOptions,
};

/// The identity and trust of the cluster's own connections: mutual, and the host name does not matter, because it is the
/// possession of a trusted key that makes a member. `None` = plain TCP.
///
/// # Errors
/// A store that is needed is not set, or options contradict each other.
pub fn internal_bundle(configuration: &Configuration) -> Result<Option<BundleOptions>, ConfigError> {
    if !configuration.get(&options::SSL_INTERNAL_ENABLED)? {
        return Ok(None);
    }
    let mut bundle = bundle(configuration, "internal")?;
    let reason =
        "`security.ssl.internal.enabled` is true, and every process needs its own key and the peers' certificates";
    bundle.keystore = Some(INTERNAL_KEYSTORE.required(configuration, reason)?);
    bundle.truststore = Some(INTERNAL_TRUSTSTORE.required(configuration, reason)?);
    INTERNAL_TRUST.apply(configuration, &mut bundle)?;
    bundle.client_auth = ClientAuth::Required;
    bundle.verify_hostname = false;
    let cache_size = configuration.get(&options::SSL_INTERNAL_SESSION_CACHE_SIZE)?;
    bundle.session_cache_size = cache_size.unwrap_or(bundle.session_cache_size);
    let timeout = configuration.get(&options::SSL_INTERNAL_SESSION_TIMEOUT)?;
    bundle.session_timeout = timeout.unwrap_or(bundle.session_timeout);
    Ok(Some(bundle))
}

/// What the REST gateway shows and, with authentication, asks for. `None` = plain HTTP.
///
/// # Errors
/// As [`internal_bundle`].
pub fn rest_server_bundle(configuration: &Configuration) -> Result<Option<BundleOptions>, ConfigError> {
    if !configuration.get(&options::SSL_REST_ENABLED)? {
        return Ok(None);
    }
    let mut bundle = bundle(configuration, "rest")?;
    let reason = "`security.ssl.rest.enabled` is true, and the REST gateway needs its own key";
    bundle.keystore = Some(REST_KEYSTORE.required(configuration, reason)?);
    if configuration.get(&options::SSL_REST_AUTHENTICATION_ENABLED)? {
        let reason =
            "`security.ssl.rest.authentication-enabled` is true, and the REST gateway needs to know whom to believe";
        bundle.truststore = Some(REST_TRUSTSTORE.required(configuration, reason)?);
        REST_TRUST.apply(configuration, &mut bundle)?;
        bundle.client_auth = ClientAuth::Required;
    }
    Ok(Some(bundle))
}

/// What a REST client believes and, with authentication, shows. `None` = plain HTTP.
///
/// # Errors
/// As [`internal_bundle`].
pub fn rest_client_bundle(configuration: &Configuration) -> Result<Option<BundleOptions>, ConfigError> {
    if !configuration.get(&options::SSL_REST_ENABLED)? {
        return Ok(None);
    }
    let mut bundle = bundle(configuration, "rest-client")?;
    let reason = "`security.ssl.rest.enabled` is true, and REST clients need to know whom to believe";
    bundle.truststore = Some(REST_TRUSTSTORE.required(configuration, reason)?);
    REST_TRUST.apply(configuration, &mut bundle)?;
    bundle.verify_hostname = configuration.get(&options::SSL_REST_VERIFY_HOSTNAME)?;
    if configuration.get(&options::SSL_REST_AUTHENTICATION_ENABLED)? {
        let reason = "`security.ssl.rest.authentication-enabled` is true, and REST clients need their own key";
        bundle.keystore = Some(REST_KEYSTORE.required(configuration, reason)?);
    }
    Ok(Some(bundle))
}

/// Whether and how files are watched; `None` = they are read once.
///
/// # Errors
/// A value of the wrong form.
pub fn reload_options(configuration: &Configuration) -> Result<Option<ReloadOptions>, ConfigError> {
    if !configuration.get(&options::SSL_RELOAD)? {
        return Ok(None);
    }
    Ok(Some(ReloadOptions {
        quiet_period: configuration.get(&options::SSL_RELOAD_QUIET_PERIOD)?,
        max_delay: configuration.get(&options::SSL_RELOAD_MAX_DELAY)?,
        poll_interval: configuration.get(&options::SSL_RELOAD_POLL_INTERVAL)?,
    }))
}

/// What happens to connections that outlive their generation.
///
/// # Errors
/// A value of the wrong form.
pub fn connection_policy(configuration: &Configuration) -> Result<ConnectionPolicy, ConfigError> {
    Ok(ConnectionPolicy {
        established: configuration.get(&options::SSL_RELOAD_ESTABLISHED_CONNECTIONS)?,
        drain_grace: configuration.get(&options::SSL_RELOAD_DRAIN_GRACE)?,
        max_age: configuration.get_optional(&options::SSL_CONNECTION_MAX_AGE)?,
    })
}

/// The bounds of the internal endpoints.
pub(super) fn internal_limits(configuration: &Configuration) -> Result<HandshakeLimits, ConfigError> {
    let default = HandshakeLimits::default();
    let handshake = configuration.get(&options::SSL_INTERNAL_HANDSHAKE_TIMEOUT)?;
    let close = configuration.get(&options::SSL_INTERNAL_CLOSE_NOTIFY_FLUSH_TIMEOUT)?;
    Ok(HandshakeLimits {
        timeout: handshake.unwrap_or(default.timeout),
        close_notify_timeout: close.unwrap_or(default.close_notify_timeout),
        ..default
    })
}

/// What the protocol and suite options come to; the same for all bundles.
pub(crate) fn selection(configuration: &Configuration) -> Result<suites::Selection, ConfigError> {
    let protocols = configuration.get(&options::SSL_PROTOCOL)?.into_vec();
    let names = configuration.get(&options::SSL_ALGORITHMS)?;
    suites::select(&names, &protocols).ok_or_else(|| ConfigError::Invalid {
        key: options::SSL_ALGORITHMS.key().to_owned(),
        value: names.join(","),
        reason: format!(
            "none of these cipher suites is available; use some of {}, or remove the option to have all",
            suites::iana_names(&protocols).join(", ")
        ),
    })
}

/// What all bundles have in common.
fn bundle(configuration: &Configuration, name: &str) -> Result<BundleOptions, ConfigError> {
    let selection = selection(configuration)?;
    let mut bundle = BundleOptions::new(name);
    bundle.overlap = configuration.get(&options::SSL_RELOAD_OVERLAP)?;
    bundle.leniency = configuration.get(&options::SSL_LENIENT)?;
    bundle.min_key = min_key(configuration)?;
    bundle.protocols = selection.protocols;
    bundle.expiry_alarm_percent = configuration.get(&options::SSL_EXPIRY_ALARM)?.get();
    bundle.cipher_suites = selection.suites.into_iter().map(str::to_owned).collect();
    Ok(bundle)
}

fn min_key(configuration: &Configuration) -> Result<KeySizes, ConfigError> {
    let size = |option| configuration.get(option).map(|bits: usize| u32::try_from(bits).unwrap_or(u32::MAX));
    let sizes = KeySizes { rsa: size(&options::SSL_MIN_RSA_KEY_SIZE)?, ec: size(&options::SSL_MIN_EC_KEY_SIZE)? };
    if sizes.rsa < KeySizes::LEAST_RSA {
        return Err(ConfigError::Invalid {
            key: options::SSL_MIN_RSA_KEY_SIZE.key().to_owned(),
            value: sizes.rsa.to_string(),
            reason: format!("RSA keys below {} bits are refused in any case; give that or more", KeySizes::LEAST_RSA),
        });
    }
    Ok(sizes)
}

/// The options that narrow down whom a truststore makes trusted.
struct TrustKeys {
    pins: &'static ConfigOption<Vec<Fingerprint>>,
    pins_file: &'static ConfigOption<PathBuf>,
    crl: &'static ConfigOption<PathBuf>,
    crl_strict: &'static ConfigOption<bool>,
}

static INTERNAL_TRUST: TrustKeys = TrustKeys {
    pins: &options::SSL_INTERNAL_CERT_FINGERPRINT,
    pins_file: &options::SSL_INTERNAL_CERT_FINGERPRINT_FILE,
    crl: &options::SSL_INTERNAL_CRL,
    crl_strict: &options::SSL_INTERNAL_CRL_STRICT,
};

static REST_TRUST: TrustKeys = TrustKeys {
    pins: &options::SSL_REST_CERT_FINGERPRINT,
    pins_file: &options::SSL_REST_CERT_FINGERPRINT_FILE,
    crl: &options::SSL_REST_CRL,
    crl_strict: &options::SSL_REST_CRL_STRICT,
};

impl TrustKeys {
    fn apply(&self, configuration: &Configuration, bundle: &mut BundleOptions) -> Result<(), ConfigError> {
        let file = |option| {
            let path = configuration.get_optional(option)?;
            Ok(path.map(|path: PathBuf| configuration.resolve(&path)))
        };
        bundle.pins = configuration.get(self.pins)?;
        bundle.pins_file = file(self.pins_file)?;
        bundle.crl = file(self.crl)?;
        bundle.crl_strict = configuration.get(self.crl_strict)?;
        Ok(())
    }
}

/// The options that describe one store.
struct StoreKeys {
    path: &'static ConfigOption<PathBuf>,
    kind: &'static ConfigOption<StoreKind>,
    password: PasswordKeys,
    key_password: Option<PasswordKeys>,
    private_key: Option<&'static ConfigOption<PathBuf>>,
}

/// A password can be given itself or by a file.
struct PasswordKeys {
    inline: &'static ConfigOption<Secret>,
    file: &'static ConfigOption<PathBuf>,
}

static INTERNAL_KEYSTORE: StoreKeys = StoreKeys {
    path: &options::SSL_INTERNAL_KEYSTORE,
    kind: &options::SSL_INTERNAL_KEYSTORE_TYPE,
    password: PasswordKeys {
        inline: &options::SSL_INTERNAL_KEYSTORE_PASSWORD,
        file: &options::SSL_INTERNAL_KEYSTORE_PASSWORD_FILE,
    },
    key_password: Some(PasswordKeys {
        inline: &options::SSL_INTERNAL_KEY_PASSWORD,
        file: &options::SSL_INTERNAL_KEY_PASSWORD_FILE,
    }),
    private_key: Some(&options::SSL_INTERNAL_PRIVATE_KEY),
};

static INTERNAL_TRUSTSTORE: StoreKeys = StoreKeys {
    path: &options::SSL_INTERNAL_TRUSTSTORE,
    kind: &options::SSL_INTERNAL_TRUSTSTORE_TYPE,
    password: PasswordKeys {
        inline: &options::SSL_INTERNAL_TRUSTSTORE_PASSWORD,
        file: &options::SSL_INTERNAL_TRUSTSTORE_PASSWORD_FILE,
    },
    key_password: None,
    private_key: None,
};

static REST_KEYSTORE: StoreKeys = StoreKeys {
    path: &options::SSL_REST_KEYSTORE,
    kind: &options::SSL_REST_KEYSTORE_TYPE,
    password: PasswordKeys {
        inline: &options::SSL_REST_KEYSTORE_PASSWORD,
        file: &options::SSL_REST_KEYSTORE_PASSWORD_FILE,
    },
    key_password: Some(PasswordKeys {
        inline: &options::SSL_REST_KEY_PASSWORD,
        file: &options::SSL_REST_KEY_PASSWORD_FILE,
    }),
    private_key: Some(&options::SSL_REST_PRIVATE_KEY),
};

static REST_TRUSTSTORE: StoreKeys = StoreKeys {
    path: &options::SSL_REST_TRUSTSTORE,
    kind: &options::SSL_REST_TRUSTSTORE_TYPE,
    password: PasswordKeys {
        inline: &options::SSL_REST_TRUSTSTORE_PASSWORD,
        file: &options::SSL_REST_TRUSTSTORE_PASSWORD_FILE,
    },
    key_password: None,
    private_key: None,
};

impl StoreKeys {
    fn required(&self, configuration: &Configuration, reason: &'static str) -> Result<StoreOptions, ConfigError> {
        let path = configuration.get_optional(self.path)?;
        let path = path.ok_or(ConfigError::Missing { key: self.path.key(), reason })?;
        let key_password = self.key_password.as_ref().map(|keys| keys.password(configuration)).transpose()?;
        let private_key = self.private_key.map(|key| configuration.get_optional(key)).transpose()?.flatten();
        Ok(StoreOptions {
            path: configuration.resolve(&path),
            kind: configuration.get(self.kind)?,
            password: self.password.password(configuration)?,
            key_password: key_password.filter(|password| *password != Password::None),
            private_key: private_key.map(|path| configuration.resolve(&path)),
        })
    }
}

impl PasswordKeys {
    /// The narrower key wins (`security.ssl.rest.…` over `security.ssl.…`), whichever of the two forms it has.
    fn password(&self, configuration: &Configuration) -> Result<Password, ConfigError> {
        for (inline, file) in self.inline.info().keys().zip(self.file.info().keys()) {
            match (configuration.contains(inline), configuration.contains(file)) {
                (true, true) => return Err(ConfigError::Conflict { first: inline, second: file }),
                (true, false) => return configuration.get(self.inline).map(Password::Inline),
                (false, true) => {
                    return configuration.get(self.file).map(|path| Password::File(configuration.resolve(&path)));
                }
                (false, false) => {}
            }
        }
        Ok(Password::None)
    }
}

#[cfg(test)]
mod tests;
