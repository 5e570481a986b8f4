//! What Flink's documented settings come to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use std::time::Duration;
use tls_common::{EstablishedConnections, ProtocolVersion};

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
