//! What Flink's documented settings come to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use std::time::Duration;
use tls_common::{EstablishedConnections, Leniency, ProtocolVersion};

/// The settings of Flink's SSL page, word for word.
const INTERNAL: &str = "\
security.ssl.internal.enabled: true
security.ssl.internal.keystore: /path/to/flink/conf/internal.keystore
security.ssl.internal.truststore: /path/to/flink/conf/internal.keystore
security.ssl.internal.keystore-password: internal_store_password
security.ssl.internal.truststore-password: internal_store_password
security.ssl.internal.key-password: internal_store_password";

const REST: &str = "\
security.ssl.rest.enabled: true
security.ssl.rest.keystore: /path/to/flink/conf/rest.keystore
security.ssl.rest.truststore: /path/to/flink/conf/rest.truststore
security.ssl.rest.keystore-password: rest_keystore_password
security.ssl.rest.truststore-password: rest_truststore_password
security.ssl.rest.key-password: rest_keystore_password";

fn configuration(base: &str, more: &[(&str, &str)]) -> Configuration {
    let base = base.lines().map(|line| line.split_once(": ").unwrap());
    Configuration::from_pairs(base.chain(more.iter().copied())).unwrap()
}

fn inline(text: &str) -> Password {
    Password::Inline(Secret::new(text.into()))
}

#[test]
fn off_unless_enabled() {
    let nothing = configuration("", &[("security.ssl.internal.keystore", "/x")]);
    assert!(internal_bundle(&nothing).unwrap().is_none());
    assert!(rest_server_bundle(&nothing).unwrap().is_none());
    assert!(rest_client_bundle(&nothing).unwrap().is_none());
    assert!(reload_options(&nothing).unwrap().is_none());
}

#[test]
fn flinks_internal_recipe_is_mutual_and_ignores_host_names() {
    let bundle = internal_bundle(&configuration(INTERNAL, &[])).unwrap().unwrap();
    let (keystore, truststore) = (bundle.keystore.unwrap(), bundle.truststore.unwrap());
    assert_eq!(keystore.path, truststore.path);
    assert_eq!(keystore.kind, StoreKind::Auto);
    assert_eq!(keystore.password, inline("internal_store_password"));
    assert_eq!(keystore.key_password, Some(inline("internal_store_password")));
    assert_eq!(truststore.key_password, None);
    assert_eq!((bundle.client_auth, bundle.verify_hostname), (ClientAuth::Required, false));
    assert_eq!(bundle.protocols, [ProtocolVersion::Tls12, ProtocolVersion::Tls13]);
    assert!(bundle.cipher_suites.is_empty());
}

#[test]
fn flinks_rest_recipe_shows_the_server_only() {
    let configuration = configuration(REST, &[]);
    let server = rest_server_bundle(&configuration).unwrap().unwrap();
    assert!(server.keystore.is_some() && server.truststore.is_none());
    assert_eq!(server.client_auth, ClientAuth::None);
    let client = rest_client_bundle(&configuration).unwrap().unwrap();
    assert!(client.keystore.is_none() && client.truststore.is_some());
    assert!(client.verify_hostname);
}

#[test]
fn rest_authentication_needs_both_stores_on_both_sides() {
    let configuration = configuration(
        REST,
        &[("security.ssl.rest.authentication-enabled", "true"), ("security.ssl.verify-hostname", "false")],
    );
    let server = rest_server_bundle(&configuration).unwrap().unwrap();
    assert!(server.truststore.is_some());
    assert_eq!(server.client_auth, ClientAuth::Required);
    let client = rest_client_bundle(&configuration).unwrap().unwrap();
    assert!(client.keystore.is_some() && !client.verify_hostname);
}

#[test]
fn a_store_that_is_missing_is_named() {
    let enabled = configuration("", &[("security.ssl.internal.enabled", "true")]);
    let error = internal_bundle(&enabled).unwrap_err().to_string();
    assert!(error.starts_with("`security.ssl.internal.keystore` is not set: "), "{error}");
    let enabled = configuration("", &[("security.ssl.rest.enabled", "true")]);
    let error = rest_client_bundle(&enabled).unwrap_err().to_string();
    assert!(error.starts_with("`security.ssl.rest.truststore` is not set: "), "{error}");
}

#[test]
fn unprefixed_stores_serve_both_sides() {
    let configuration = configuration(
        "",
        &[
            ("security.ssl.enabled", "true"),
            ("security.ssl.keystore", "/both"),
            ("security.ssl.keystore-password", "both"),
            ("security.ssl.truststore", "/trust"),
            ("security.ssl.rest.keystore", "/rest"),
        ],
    );
    let internal = internal_bundle(&configuration).unwrap().unwrap().keystore.unwrap();
    assert_eq!((internal.path, internal.password.clone()), ("/both".into(), inline("both")));
    let rest = rest_server_bundle(&configuration).unwrap().unwrap().keystore.unwrap();
    assert_eq!((rest.path, rest.password), ("/rest".into(), internal.password));
}

#[test]
fn password_files_and_their_precedence() {
    let password = |more: &[(&str, &str)]| {
        let base = [("security.ssl.rest.enabled", "true"), ("security.ssl.rest.keystore", "/k")];
        let configuration = Configuration::from_pairs(base.iter().chain(more).copied()).unwrap();
        rest_server_bundle(&configuration).map(|bundle| bundle.unwrap().keystore.unwrap().password)
    };
    assert_eq!(password(&[]).unwrap(), Password::None);
    let wide = ("security.ssl.keystore-password", "wide");
    let narrow = ("security.ssl.rest.keystore-password-file", "/secrets/narrow");
    assert_eq!(password(&[wide]).unwrap(), inline("wide"));
    assert_eq!(password(&[wide, narrow]).unwrap(), Password::File("/secrets/narrow".into()));
    let error = password(&[narrow, ("security.ssl.rest.keystore-password", "secret")]).unwrap_err().to_string();
    assert!(error.contains("both set") && !error.contains("secret;"), "{error}");
}

#[test]
fn a_private_key_in_a_file_of_its_own_goes_with_its_keystore_alone() {
    let set = configuration(
        INTERNAL,
        &[
            ("security.ssl.rest.enabled", "true"),
            ("security.ssl.rest.keystore", "/rest/tls.crt"),
            ("security.ssl.rest.private-key", "/rest/tls.key"),
            ("security.ssl.private-key", "/both/tls.key"),
        ],
    );
    let internal = internal_bundle(&set).unwrap().unwrap();
    assert_eq!(internal.keystore.unwrap().private_key, Some("/both/tls.key".into()), "the fallback");
    assert_eq!(internal.truststore.unwrap().private_key, None);
    let rest = rest_server_bundle(&set).unwrap().unwrap();
    assert!(rest.paths().contains(&"/rest/tls.key".into()), "part of the bundle");
    assert_eq!(rest.keystore.unwrap().private_key, Some("/rest/tls.key".into()));
    let none = internal_bundle(&configuration(INTERNAL, &[])).unwrap().unwrap();
    assert_eq!(none.keystore.unwrap().private_key, None);
}

#[test]
fn store_types_reach_the_bundle() {
    let set = configuration(
        INTERNAL,
        &[("security.ssl.internal.keystore-type", "JKS"), ("security.ssl.internal.truststore-type", "der")],
    );
    let bundle = internal_bundle(&set).unwrap().unwrap();
    assert_eq!(bundle.keystore.unwrap().kind, StoreKind::Jks);
    assert_eq!(bundle.truststore.unwrap().kind, StoreKind::Der);
}

#[test]
fn pins_are_a_list() {
    let sha1 = ["AB"; 20].join(":");
    let sha256 = "cd".repeat(32);
    let pins = format!("{sha1}, {sha256}");
    let configuration = configuration(INTERNAL, &[("security.ssl.internal.cert.fingerprint", &pins)]);
    let bundle = internal_bundle(&configuration).unwrap().unwrap();
    let expected: Vec<Fingerprint> = vec![sha1.parse().unwrap(), sha256.parse().unwrap()];
    assert_eq!(bundle.pins, expected);
}

#[test]
fn pins_and_revocation_lists_can_be_files() {
    let more = [
        ("security.ssl.internal.cert.fingerprint-file", "/pins"),
        ("security.ssl.crl", "/wide.pem"),
        ("security.ssl.rest.crl", "/narrow.pem"),
        ("security.ssl.rest.crl-strict", "true"),
    ];
    let internal = internal_bundle(&configuration(INTERNAL, &more)).unwrap().unwrap();
    assert_eq!((internal.pins_file, internal.crl), (Some("/pins".into()), Some("/wide.pem".into())));
    assert!(!internal.crl_strict);
    let rest = configuration(REST, &more);
    let client = rest_client_bundle(&rest).unwrap().unwrap();
    assert_eq!((client.pins_file, client.crl), (None, Some("/narrow.pem".into())));
    assert!(client.crl_strict);
    let server = rest_server_bundle(&rest).unwrap().unwrap();
    assert_eq!((server.crl, server.crl_strict), (None, false), "it judges nobody");
}

#[test]
fn leniency_and_key_sizes_hold_for_all_bundles() {
    let default = internal_bundle(&configuration(INTERNAL, &[])).unwrap().unwrap();
    assert_eq!((default.leniency, default.min_key), (Leniency::default(), KeySizes::default()));
    let more = [
        ("security.ssl.lenient", "expired,untrusted-issuer"),
        ("security.ssl.min-rsa-key-size", "3072"),
        ("security.ssl.min-ec-key-size", "384"),
    ];
    let leniency = Leniency { expired: true, untrusted_issuer: true, ..Leniency::STRICT };
    let internal = internal_bundle(&configuration(INTERNAL, &more)).unwrap().unwrap();
    let client = rest_client_bundle(&configuration(REST, &more)).unwrap().unwrap();
    for bundle in [internal, client] {
        assert_eq!((bundle.leniency, bundle.min_key), (leniency, KeySizes { rsa: 3072, ec: 384 }));
    }
    let error = internal_bundle(&configuration(INTERNAL, &[("security.ssl.min-rsa-key-size", "1024")])).unwrap_err();
    assert!(error.to_string().starts_with("`security.ssl.min-rsa-key-size: 1024`: "), "{error}");
}

/// All that comes of a configuration, in print.
fn everything(configuration: &Configuration) -> String {
    let switches =
        [&options::PEKKO_SSL_ENABLED, &options::TASKMANAGER_DATA_SSL_ENABLED, &options::BLOB_SERVICE_SSL_ENABLED];
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        internal_bundle(configuration).unwrap(),
        rest_server_bundle(configuration).unwrap(),
        rest_client_bundle(configuration).unwrap(),
        reload_options(configuration).unwrap(),
        connection_policy(configuration).unwrap(),
        internal_limits(configuration).unwrap(),
        switches.map(|switch| configuration.get(switch).unwrap()),
        configuration.notes(),
    )
}

/// An option that is read by nobody would be ignored in silence. What the values do then is shown by
/// `tests/ssl_options.rs` and the tests of tls-common.
#[test]
fn every_tls_option_changes_something_by_each_of_its_keys() {
    let base = [
        ("security.ssl.enabled", "true"),
        ("security.ssl.keystore", "/keystore"),
        ("security.ssl.truststore", "/truststore"),
        ("security.ssl.rest.authentication-enabled", "true"),
        ("security.ssl.reload", "true"),
    ];
    let with = |key: &str, value: &str| {
        let pairs = base.iter().copied().filter(|(known, _)| *known != key).chain([(key, value)]);
        everything(&Configuration::from_pairs(pairs).unwrap())
    };
    let before = everything(&Configuration::from_pairs(base).unwrap());
    let switches = ["pekko.ssl.enabled", "taskmanager.data.ssl.enabled", "blob.service.ssl.enabled"];
    let mut count = 0;
    for option in options::all() {
        if !option.key().starts_with("security.ssl.") && !switches.contains(&option.key()) {
            continue;
        }
        for key in option.keys() {
            let sample = sample(option.key(), option.default());
            assert_ne!(with(key, sample), before, "`{key}: {sample}` changes nothing");
            count += 1;
        }
    }
    assert!(count > 70, "only {count} keys were tried");
}

/// A value other than the default and the base configuration's.
fn sample(key: &str, default: Option<&'static str>) -> &'static str {
    if key.ends_with("-password") {
        return "secret";
    }
    let (_, last) = key.rsplit_once('.').unwrap();
    match last {
        "enabled" if key.ends_with("internal.enabled") || key.ends_with("rest.enabled") => "false",
        "authentication-enabled" | "reload" => "false",
        "keystore"
        | "truststore"
        | "keystore-password-file"
        | "truststore-password-file"
        | "key-password-file"
        | "fingerprint-file"
        | "private-key"
        | "crl" => "/another",
        "keystore-type" | "truststore-type" => "pem",
        "fingerprint" => "a9993e364706816aba3e25717850c26c9cd0d89d",
        "session-cache-size" => "7",
        "protocol" => "TLSv1.3",
        "algorithms" => "TLS_AES_128_GCM_SHA256",
        "provider" => "OPENSSL",
        "lenient" => "none",
        "min-rsa-key-size" => "4096",
        "min-ec-key-size" => "384",
        "expiry-alarm" => "10 %",
        "established-connections" => "renew",
        _ => match default {
            Some("true") => "false",
            Some("false") => "true",
            _ if last.ends_with("-timeout") || key.contains(".reload.") || last == "max-age" => "7 h",
            _ => panic!("give `{key}` a sample value here, and show its effect in tests/ssl_options.rs"),
        },
    }
}

#[test]
fn session_and_handshake_values_with_minus_one_as_default() {
    let defaults = configuration(INTERNAL, &[("security.ssl.internal.session-cache-size", "-1")]);
    let (bundle, limits) = (internal_bundle(&defaults).unwrap().unwrap(), internal_limits(&defaults).unwrap());
    assert_eq!(bundle.session_cache_size, BundleOptions::new("").session_cache_size);
    assert_eq!(limits.timeout, HandshakeLimits::default().timeout);
    let set = configuration(
        INTERNAL,
        &[
            ("security.ssl.session-cache-size", "0"),
            ("security.ssl.internal.session-timeout", "60000"),
            ("security.ssl.internal.handshake-timeout", "2500"),
            ("security.ssl.close-notify-flush-timeout", "3 s"),
        ],
    );
    let (bundle, limits) = (internal_bundle(&set).unwrap().unwrap(), internal_limits(&set).unwrap());
    assert_eq!((bundle.session_cache_size, bundle.session_timeout), (0, Duration::from_secs(60)));
    assert_eq!((limits.timeout, limits.close_notify_timeout), (Duration::from_millis(2500), Duration::from_secs(3)));
}

#[test]
fn protocols_and_suites_reach_the_bundle() {
    let set = configuration(
        INTERNAL,
        &[("security.ssl.protocol", "TLSv1.2"), ("security.ssl.algorithms", "ECDHE-RSA-AES128-GCM-SHA256")],
    );
    let bundle = internal_bundle(&set).unwrap().unwrap();
    assert_eq!(bundle.protocols, [ProtocolVersion::Tls12]);
    assert_eq!(bundle.cipher_suites, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
}

#[test]
fn reload_and_policy() {
    let set = configuration(
        "",
        &[
            ("security.ssl.reload", "true"),
            ("security.ssl.reload.quiet-period", "50 ms"),
            ("security.ssl.reload.established-connections", "renew"),
            ("security.ssl.connection.max-age", "1 h"),
        ],
    );
    let reload = reload_options(&set).unwrap().unwrap();
    assert_eq!((reload.quiet_period, reload.max_delay), (Duration::from_millis(50), Duration::from_secs(3)));
    let policy = connection_policy(&set).unwrap();
    assert_eq!(policy.established, EstablishedConnections::Renew);
    assert_eq!(policy.max_age, Some(Duration::from_secs(3600)));
}

#[test]
fn the_expiry_alarm_reaches_every_bundle() {
    let base = format!("{INTERNAL}\n{REST}");
    for (more, percent) in [(None, BundleOptions::new("").expiry_alarm_percent), (Some("0 %"), 0), (Some("10%"), 10)] {
        let more: Vec<_> = more.map(|value| ("security.ssl.expiry-alarm", value)).into_iter().collect();
        let configuration = configuration(&base, &more);
        for bundle in [internal_bundle, rest_server_bundle, rest_client_bundle] {
            assert_eq!(bundle(&configuration).unwrap().unwrap().expiry_alarm_percent, percent);
        }
    }
}
