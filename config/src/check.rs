//! What the keys of a configuration give away before any of them is used.

use crate::configuration::{Configuration, invalid};
use crate::error::ConfigError;
use crate::options;
use crate::value::Refusal;

/// Security options that mean something elsewhere (in Flink, or in a later release) and nothing here: key, or prefix if
/// it ends in a dot, and what to do.
const UNSUPPORTED: [(&str, &str); 9] = [
    ("security.kerberos.", KERBEROS),
    ("security.keytab", KERBEROS),
    ("security.principal", KERBEROS),
    ("security.delegation.", KERBEROS),
    ("zookeeper.sasl.", "there is no ZooKeeper; remove it"),
    ("security.module.factory.classes", JAVA),
    ("security.context.factory.classes", JAVA),
    ("historyserver.web.ssl.enabled", "there is no history server; remove it"),
    ("web.ssl.enabled", "it is gone from Flink too; use `security.ssl.rest.enabled`"),
];

const KERBEROS: &str = "there is no Kerberos here; processes prove who they are with certificates: remove it and set \
                        `security.ssl.internal.enabled: true`";
const JAVA: &str = "Java classes cannot be loaded; remove it";

/// Options of which none may be misunderstood or ignored.
pub(crate) fn is_security(key: &str) -> bool {
    key.starts_with("security.") || key.contains(".ssl.") || key.starts_with("zookeeper.sasl.")
}

/// What to say about a key that no option has: an error if it is about security, else a warning.
pub(crate) fn unknown_key(key: &str) -> Result<Option<String>, ConfigError> {
    let matches = |known: &str| if known.ends_with('.') { key.starts_with(known) } else { key == known };
    if let Some((_, advice)) = UNSUPPORTED.iter().find(|(known, _)| matches(known)) {
        return Err(ConfigError::Unsupported { key: key.to_owned(), advice });
    }
    let nearest = nearest(key);
    if is_security(key) {
        return Err(ConfigError::UnknownSecurityOption { key: key.to_owned(), nearest: nearest.unwrap_or_default() });
    }
    Ok(Some(match nearest.filter(|nearest| distance(key, nearest) <= 3) {
        Some(nearest) => format!("`{key}` is not an option and is ignored; did you mean `{nearest}`?"),
        None => format!("`{key}` is not an option of Tidemill and is ignored"),
    }))
}

/// Options that only make sense together.
pub(crate) fn consistent(configuration: &Configuration) -> Result<(), ConfigError> {
    let (interval, timeout) = (&options::HEARTBEAT_INTERVAL, &options::HEARTBEAT_TIMEOUT);
    if configuration.get(timeout)? <= configuration.get(interval)? {
        let value = configuration.lookup(timeout.info()).map(|(_, value)| value).or(timeout.info().default());
        let refusal =
            Refusal::Because("it must be longer than `heartbeat.interval`, or every TaskManager counts as dead");
        return Err(invalid(timeout.info(), timeout.key(), value.unwrap_or_default(), refusal));
    }
    Ok(())
}

/// Keys that are set by a former name, one line each.
pub(crate) fn deprecated(configuration: &Configuration) -> Vec<String> {
    let mut lines = Vec::new();
    let mut keys: Vec<&str> = options::all().flat_map(|option| option.deprecated_keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys.into_iter().filter(|key| configuration.contains(key)) {
        let current: Vec<String> = options::set_by(key).map(|option| format!("`{}`", option.key())).collect();
        lines.push(format!("`{key}` is deprecated; use {}", current.join(" and ")));
    }
    lines
}

/// The known key with the fewest edits between it and `key`.
fn nearest(key: &str) -> Option<&'static str> {
    options::all().flat_map(|option| option.keys()).min_by_key(|known| distance(key, known))
}

/// Levenshtein distance in bytes; keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn unknown_security_options_are_errors_that_name_the_nearest() {
        for (key, nearest) in [
            ("security.ssl.internal.keystore-pasword", "security.ssl.internal.keystore-password"),
            ("security.ssl.rest.enable", "security.ssl.rest.enabled"),
            ("taskmanager.data.ssl.enable", "taskmanager.data.ssl.enabled"),
        ] {
            let error = unknown_key(key).unwrap_err().to_string();
            assert_eq!(error, format!("unknown security option `{key}`; did you mean `{nearest}`?"));
        }
    }

    #[test]
    fn unsupported_security_options_say_what_to_do() {
        for key in ["security.kerberos.login.keytab", "historyserver.web.ssl.enabled", "zookeeper.sasl.disable"] {
            let error = unknown_key(key).unwrap_err();
            assert!(matches!(error, ConfigError::Unsupported { .. }), "{error}");
        }
    }

    #[test]
    fn other_unknown_keys_are_warnings() {
        let warning = unknown_key("heartbeat.intervall").unwrap().unwrap();
        assert!(warning.contains("`heartbeat.interval`"), "{warning}");
        let warning = unknown_key("jobmanager.memory.process.size").unwrap().unwrap();
        assert!(!warning.contains("did you mean"), "{warning}");
    }

    #[test]
    fn nothing_known_is_unsupported() {
        for key in options::all().flat_map(|option| option.keys()) {
            assert!(!UNSUPPORTED.iter().any(|(known, _)| key.starts_with(known)), "{key}");
        }
    }
}
