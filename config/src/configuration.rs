//! [`Configuration`]: checked keys and values, and the typed way to them.

use crate::check;
use crate::error::ConfigError;
use crate::option::{ConfigOption, OptionInfo};
use crate::value::{ConfigValue, Refusal};
use crate::{options, tls, yaml};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::env::{self, VarError};
use std::path::{Path, PathBuf};
use std::{fmt, fs};
use zeroize::Zeroizing;

/// The file in the configuration directory.
const CONFIG_FILE: &str = "config.yaml";

/// The environment variable with more configuration, in the same form as the file (like Flink's `FLINK_PROPERTIES`).
pub const PROPERTIES_VARIABLE: &str = "TIDEMILL_PROPERTIES";

/// What secrets are shown as.
pub(crate) const MASK: &str = "******";

/// What words in a key of which we know nothing mark its value as secret (Flink's list).
const SENSITIVE_WORDS: [&str; 11] = [
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "token",
    "basic-auth",
    "jaas.config",
    "http-headers",
];

/// Keys and values of one process, ordered by key. Printing it masks the secrets.
#[derive(Clone, Default)]
pub struct Configuration {
    /// Where `config.yaml` lies; empty for a configuration that was not read from a directory.
    directory: PathBuf,
    values: BTreeMap<String, Zeroizing<String>>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Configuration {
    /// Reads `dir/config.yaml`, then the environment variable `TIDEMILL_PROPERTIES`, then `overrides`; later ones win.
    ///
    /// # Errors
    /// Anything that is not a usable configuration, see [`ConfigError`]; every value is checked, not only those that
    /// this process will ask for.
    pub fn load(dir: &Path, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        let environment = match env::var(PROPERTIES_VARIABLE) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                let source_name = format!("environment variable {PROPERTIES_VARIABLE}");
                return Err(ConfigError::Syntax { source_name, reason: "it is not UTF-8".to_owned() });
            }
        };
        Self::load_from(dir, environment.as_ref().map(|text| text.as_str()), overrides)
    }

    /// Reads `dir/config.yaml` alone: for who has written it himself, and wants nobody to have the last word.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        Self::load_from(dir, None, &[])
    }

    /// A configuration of just these pairs, checked in the same way.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_pairs<I, K, V>(pairs: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let mut configuration = Self::default();
        for (key, value) in pairs {
            configuration.values.insert(key.into(), Zeroizing::new(value.into()));
        }
        configuration.checked()
    }

    fn load_from(dir: &Path, environment: Option<&str>, overrides: &[(String, String)]) -> Result<Self, ConfigError> {
        let path = dir.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).map(Zeroizing::new);
        let text = text.map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        let mut configuration = Self { directory: dir.to_owned(), ..Self::default() };
        configuration.merge(&path.display().to_string(), &text)?;
        if let Some(text) = environment {
            configuration.merge(&format!("environment variable {PROPERTIES_VARIABLE}"), text)?;
        }
        for (key, value) in overrides {
            configuration.values.insert(key.trim().to_owned(), Zeroizing::new(value.clone()));
        }
        configuration.checked()
    }

    /// A file that the configuration names: relative paths count from the directory of `config.yaml`, so that a
    /// directory with its stores can be copied to any place on any host.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// Puts the entries of a YAML text over what there is. Within one text a key may be set only once.
    fn merge(&mut self, source_name: &str, text: &str) -> Result<(), ConfigError> {
        let syntax = |reason: String| ConfigError::Syntax { source_name: source_name.to_owned(), reason };
        let mut layer = BTreeMap::new();
        for entry in yaml::flatten(text).map_err(|error| syntax(error.to_string()))? {
            match entry.value {
                Some(value) => match layer.entry(entry.key) {
                    Entry::Vacant(vacant) => drop(vacant.insert(value)),
                    Entry::Occupied(known) => {
                        return Err(syntax(format!("line {}: `{}` is set a second time", entry.line, known.key())));
                    }
                },
                None if check::is_security(&entry.key) => {
                    return Err(syntax(format!(
                        "line {}: `{}` has no value; give one or delete the line",
                        entry.line, entry.key
                    )));
                }
                None => self
                    .warnings
                    .push(format!("{source_name}: line {}: `{}` has no value and is ignored", entry.line, entry.key)),
            }
        }
        self.values.extend(layer);
        Ok(())
    }

    fn checked(mut self) -> Result<Self, ConfigError> {
        for (key, value) in &self.values {
            let mut known = false;
            for option in options::set_by(key) {
                known = true;
                option.check(value).map_err(|refusal| invalid(option, key, value, refusal))?;
            }
            if !known {
                self.warnings.extend(check::unknown_key(key)?);
            }
        }
        check::consistent(&self)?;
        self.warnings.extend(check::deprecated(&self));
        self.warnings.extend(tls::selection(&self)?.warnings);
        self.notes = tls::notes(&self)?;
        Ok(self)
    }

    /// The option's value: as set, or set by a fallback or former key, or the default.
    ///
    /// # Errors
    /// It is not set and has no default; or it was set to something of another form.
    pub fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> Result<T, ConfigError> {
        let info = option.info();
        let (key, text) = match (self.lookup(info), info.default()) {
            (Some(set), _) => set,
            (None, Some(default)) => (info.key(), default),
            (None, None) => {
                return Err(ConfigError::Missing {
                    key: info.key(),
                    reason: "it has no default and this process needs it",
                });
            }
        };
        option.parse(text).map_err(|refusal| invalid(info, key, text, refusal))
    }

    /// The option's value if it is set, by whichever of its keys; never the default.
    ///
    /// # Errors
    /// It was set to something of another form.
    pub fn get_optional<T: ConfigValue>(&self, option: &ConfigOption<T>) -> Result<Option<T>, ConfigError> {
        let info = option.info();
        let Some((key, text)) = self.lookup(info) else { return Ok(None) };
        option.parse(text).map(Some).map_err(|refusal| invalid(info, key, text, refusal))
    }

    /// Every key and value, with secrets as `******`.
    pub fn masked(&self) -> Vec<(String, String)> {
        let mask = |key: &str, value: &str| if is_secret(key) { MASK } else { value }.to_owned();
        self.values.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect()
    }

    /// What is not as it was asked for, one line each: unknown and deprecated keys, cipher suites that cannot be had.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is other than in Flink without anybody having asked, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The first of the option's keys that is set, and its value.
    pub(crate) fn lookup(&self, option: &OptionInfo) -> Option<(&'static str, &str)> {
        option.keys().find_map(|key| Some((key, self.values.get(key)?.as_str())))
    }

    /// Whether exactly this key is set.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// One `key: value` per line, secrets masked.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.masked().iter().try_for_each(|(key, value)| writeln!(f, "{key}: {value}"))
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

pub(crate) fn invalid(option: &OptionInfo, key: &str, value: &str, refusal: Refusal) -> ConfigError {
    ConfigError::Invalid {
        key: key.to_owned(),
        value: if option.is_secret() { MASK } else { value }.to_owned(),
        reason: match refusal {
            Refusal::Malformed => format!("expected {}", option.form()),
            Refusal::Because(reason) => reason.to_owned(),
        },
    }
}

fn is_secret(key: &str) -> bool {
    let mut known = options::set_by(key).peekable();
    if known.peek().is_some() {
        return known.any(OptionInfo::is_secret);
    }
    let key = key.to_ascii_lowercase();
    SENSITIVE_WORDS.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use std::time::Duration;
    use tls_common::Secret;

    fn loaded(file: &str, environment: Option<&str>, overrides: &[(&str, &str)]) -> Result<Configuration, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CONFIG_FILE), file).unwrap();
        let overrides: Vec<(String, String)> =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Configuration::load_from(directory.path(), environment, &overrides)
    }

    fn refused(key: &str, value: &str) -> String {
        Configuration::from_pairs([(key, value)]).unwrap_err().to_string()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_arguments_over_both() {
        let file = "rest:\n  port: 1\n  address: file\nparallelism.default: 3\n";
        let environment = "rest.port: 2\nrest.address: environment\n";
        let configuration = loaded(file, Some(environment), &[("rest.port", "3")]).unwrap();
        assert_eq!(configuration.get(&options::REST_PORT).unwrap(), 3);
        assert_eq!(configuration.get(&options::REST_ADDRESS).unwrap(), "environment");
        assert_eq!(configuration.get(&options::PARALLELISM_DEFAULT).unwrap(), 3);
        assert!(configuration.warnings().is_empty(), "{:?}", configuration.warnings());
    }

    #[test]
    fn defaults_fallbacks_and_former_names() {
        let nothing = Configuration::default();
        assert_eq!(nothing.get(&options::REST_PORT).unwrap(), 8081);
        assert_eq!(nothing.get_optional(&options::REST_PORT).unwrap(), None);
        assert_eq!(nothing.get(&options::HEARTBEAT_TIMEOUT).unwrap(), Duration::from_secs(10));
        let error = nothing.get(&options::PROCESS_READY_FILE).unwrap_err().to_string();
        assert!(error.starts_with("`process.ready-file` is not set"), "{error}");

        let set = Configuration::from_pairs([("jobmanager.rpc.address", "jm"), ("web.port", "80")]).unwrap();
        assert_eq!(set.get(&options::REST_ADDRESS).unwrap(), "jm");
        assert_eq!(set.get_optional(&options::REST_PORT).unwrap(), Some(80));
        assert_eq!(set.warnings(), ["`web.port` is deprecated; use `rest.port`"]);
    }

    #[test]
    fn the_deprecated_switch_turns_both_sides_on() {
        let set = Configuration::from_pairs([("security.ssl.enabled", "true"), ("security.ssl.rest.enabled", "false")]);
        let set = set.unwrap();
        assert!(set.get(&options::SSL_INTERNAL_ENABLED).unwrap());
        assert!(!set.get(&options::SSL_REST_ENABLED).unwrap());
        let expected =
            "`security.ssl.enabled` is deprecated; use `security.ssl.internal.enabled` and `security.ssl.rest.enabled`";
        assert_eq!(set.warnings(), [expected]);
    }

    #[test]
    fn a_key_set_twice_in_one_file_is_an_error() {
        let error = loaded("rest.port: 1\nrest:\n  port: 2\n", None, &[]).unwrap_err().to_string();
        assert!(error.ends_with("config.yaml: line 3: `rest.port` is set a second time"), "{error}");
    }

    #[test]
    fn empty_values_are_ignored_unless_about_security() {
        let configuration = loaded("rest:\n#  port: 1\n", None, &[]).unwrap();
        assert!(configuration.warnings()[0].contains("`rest` has no value"), "{:?}", configuration.warnings());
        let error = loaded("security.ssl.internal.keystore:\n", None, &[]).unwrap_err().to_string();
        assert!(error.contains("line 1: `security.ssl.internal.keystore` has no value"), "{error}");
    }

    #[test]
    fn files_that_are_not_there_or_no_yaml_are_named() {
        let error = Configuration::load(Path::new("/nowhere"), &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/config.yaml: "), "{error}");
        let error = loaded("", Some("a: ]"), &[]).unwrap_err().to_string();
        assert!(error.starts_with("environment variable TIDEMILL_PROPERTIES: line 1: "), "{error}");
    }

    #[test]
    fn bad_values_name_key_value_and_form_at_once() {
        assert_eq!(
            refused("heartbeat.interval", "10 parsecs"),
            "`heartbeat.interval: 10 parsecs`: expected a duration such as `10 s`, `300 ms`, `1 min` or `PT10S` \
             (a bare number is milliseconds)"
        );
        assert_eq!(refused("heartbeat.interval", "0"), "`heartbeat.interval: 0`: it must be more than zero");
        assert!(refused("security.ssl.internal.keystore-type", "jceks").contains("keytool -importkeystore"));
        assert!(refused("taskmanager.data.transport", "udp").contains("`tcp` or `quic`"));
        assert!(refused("security.ssl.protocol", "SSLv3").contains("TLSv1.2,TLSv1.3"));
        assert!(
            refused("security.ssl.algorithms", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256")
                .contains("TLS_AES_256_GCM_SHA384")
        );
        assert!(refused("security.ssl.internal.cert.fingerprint", "12:34").contains("SHA-256"));
        assert!(refused("security.ssl.internal.enable", "true").contains("`security.ssl.internal.enabled`"));
        let heartbeats = Configuration::from_pairs([("heartbeat.interval", "10 s"), ("heartbeat.timeout", "10 s")]);
        assert!(heartbeats.unwrap_err().to_string().contains("heartbeat.interval"));
    }

    #[test]
    fn unknown_keys_are_a_warning_each() {
        let configuration = Configuration::from_pairs([("web.timeout", "10 s"), ("rest.prot", "1")]).unwrap();
        assert_eq!(configuration.warnings().len(), 2);
        assert!(configuration.warnings()[0].contains("did you mean `rest.port`"), "{:?}", configuration.warnings());
    }

    #[test]
    fn the_suites_in_use_are_noted() {
        let enabled = ("security.ssl.rest.enabled", "true");
        let notes = |pairs: &[(&str, &str)]| Configuration::from_pairs(pairs.iter().copied()).unwrap().notes().len();
        assert_eq!(notes(&[]), 0);
        assert_eq!(notes(&[enabled]), 1);
        assert_eq!(
            notes(&[
                enabled,
                ("security.ssl.algorithms", "TLS_AES_128_GCM_SHA256"),
                ("security.ssl.provider", "OPENSSL")
            ]),
            1
        );
    }

    #[test]
    fn options_about_rest_clients_without_authentication_are_noted() {
        let enabled = [("security.ssl.rest.enabled", "true"), ("security.ssl.algorithms", "TLS_AES_128_GCM_SHA256")];
        let pin = ("security.ssl.rest.cert.fingerprint", "a9993e364706816aba3e25717850c26c9cd0d89d");
        let notes = |more: &[(&str, &str)]| {
            let pairs = enabled.iter().chain(more).copied();
            Configuration::from_pairs(pairs).unwrap().notes().to_owned()
        };
        let noted = notes(&[pin, ("security.ssl.rest.crl", "/crl.pem")]);
        assert_eq!(noted.len(), 2, "{noted:?}");
        assert!(noted[0].starts_with("`security.ssl.rest.cert.fingerprint` has no effect at the REST gateway"));
        assert!(noted[1].starts_with("`security.ssl.rest.crl` has no effect"), "{noted:?}");
        assert!(notes(&[pin, ("security.ssl.rest.authentication-enabled", "true")]).is_empty());
        assert!(notes(&[("security.ssl.crl", "/crl.pem")]).is_empty(), "it is for internal connections, too");
    }

    #[test]
    fn secrets_are_masked_wherever_they_are_shown() {
        let pairs = [
            ("security.ssl.internal.keystore-password", "hunter2"),
            ("security.ssl.rest.keystore-password-file", "/secrets/rest"),
            ("s3.secret-key", "hunter2"),
        ];
        let configuration = Configuration::from_pairs(pairs).unwrap();
        let shown = format!("{configuration} {configuration:?} {:?}", configuration.warnings());
        assert!(!shown.contains("hunter2") && shown.contains(MASK) && shown.contains("/secrets/rest"), "{shown}");
        let password: Secret = configuration.get(&options::SSL_INTERNAL_KEYSTORE_PASSWORD).unwrap();
        assert_eq!(password.expose(), "hunter2");
    }
}
