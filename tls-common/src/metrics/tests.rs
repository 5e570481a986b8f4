#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use std::collections::BTreeMap;

/// A status whose every figure is another one.
fn status(endpoint: &str) -> EndpointStatus {
    EndpointStatus {
        endpoint: endpoint.into(),
        bundle: Some(BundleStatus {
            bundle: "internal".into(),
            generation: 7,
            fingerprint: Some("ab".into()),
            not_after: Some(1_700_000_002),
            not_before: Some(1_700_000_001),
            expires_in: Some(5),
            trust_not_after: Some(1_700_000_003),
            alarm: Some("our certificate is near its end".into()),
            digest: "cd".into(),
            subject: Some("CN=a".into()),
            last_reload: 1_700_000_004_250,
            last_error: None,
            failed_reloads: 8,
            reloads: 6,
            watching: true,
            checks: 16,
            watcher_restarts: 17,
            last_look: Some(1_700_000_005_000),
            last_look_source: Some("poll".into()),
        }),
        handshakes: 30,
        handshakes_resumed: 10,
        failed_handshakes: 3,
        failed_by_reason: BTreeMap::from([("timeout".into(), 1), ("untrusted".into(), 2)]),
        refused_connects: 4,
        connections: 11,
        connections_by_generation: BTreeMap::from([(6, 1), (7, 10)]),
        renewed: 12,
        drained_by_reason: BTreeMap::from([("max_age".into(), 13)]),
        killed: 14,
        slowest_reload_ms: 1500,
        last_old_byte_ms: 250,
        listener_rebinds: 15,
    }
}

fn plain(endpoint: &str) -> EndpointStatus {
    EndpointStatus { bundle: None, ..status(endpoint) }
}

/// A strict reader of the part of the format that we write: what each family is, and each series with its value.
fn read(text: &str) -> (Vec<(String, String)>, BTreeMap<String, String>) {
    let (mut families, mut series) = (Vec::<(String, String)>::new(), BTreeMap::new());
    let mut lines = text.lines().peekable();
    assert!(text.is_empty() || text.ends_with('\n'));
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            assert!(families.iter().all(|(known, _)| known != name), "{name} is not in one piece");
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
            families.push((name.to_owned(), kind.to_owned()));
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let (family, _) = families.last().unwrap();
        let rest = labelled.strip_prefix(family.as_str()).unwrap();
        assert!(rest.is_empty() || rest.starts_with('{') && rest.ends_with('}'), "{line}");
        assert!(series.insert(labelled.to_owned(), value.to_owned()).is_none(), "{labelled} twice");
    }
    (families, series)
}

#[test]
fn every_family_of_the_table_is_rendered_with_its_type_and_no_other() {
    let source = include_str!("../metrics.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `tls_"));
    let mut documented: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let name = cells.next().unwrap().trim_end_matches('`');
            (format!("tls_{name}"), cells.next().unwrap().to_owned())
        })
        .collect();
    let (mut rendered, _) = read(&render([(&[] as &[_], &status("rpc"))]));
    documented.sort();
    rendered.sort();
    assert_eq!(rendered, documented);
    for (name, kind) in rendered {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}

#[test]
fn values_are_the_statuses_in_base_units() {
    let (_, series) = read(&render([(&[] as &[_], &status("rpc"))]));
    let at = |labelled: &str| series.get(labelled).unwrap_or_else(|| panic!("{labelled} in {series:#?}")).as_str();
    for (result, count) in [("full", "20"), ("resumed", "10"), ("failed", "3")] {
        assert_eq!(at(&format!("tls_handshakes_total{{endpoint=\"rpc\",result=\"{result}\"}}")), count);
    }
    assert_eq!(at("tls_handshake_failures_total{endpoint=\"rpc\",reason=\"untrusted\"}"), "2");
    assert_eq!(at("tls_connections{endpoint=\"rpc\",generation=\"7\"}"), "10");
    assert_eq!(at("tls_drains_total{endpoint=\"rpc\",reason=\"max_age\"}"), "13");
    assert_eq!(at("tls_refused_connects_total{endpoint=\"rpc\"}"), "4");
    assert_eq!(at("tls_connections_cut_total{endpoint=\"rpc\"}"), "14");
    assert_eq!(at("tls_listener_rebinds_total{endpoint=\"rpc\"}"), "15");
    assert_eq!(at("tls_old_generation_last_byte_seconds{endpoint=\"rpc\"}"), "0.25");
    let of_bundle = |name: &str| at(&format!("{name}{{endpoint=\"rpc\",bundle=\"internal\"}}")).to_owned();
    assert_eq!(of_bundle("tls_generation"), "7");
    assert_eq!(of_bundle("tls_certificate_not_before_seconds"), "1700000001");
    assert_eq!(of_bundle("tls_certificate_not_after_seconds"), "1700000002");
    assert_eq!(of_bundle("tls_trust_not_after_seconds"), "1700000003");
    assert_eq!(of_bundle("tls_last_reload_timestamp_seconds"), "1700000004.25");
    assert_eq!(of_bundle("tls_watcher_last_look_timestamp_seconds"), "1700000005");
    assert_eq!(of_bundle("tls_reload_slowest_seconds"), "1.5");
    assert_eq!((of_bundle("tls_expiry_alarm"), of_bundle("tls_reload_failing")), ("1".into(), "0".into()));
    assert_eq!(of_bundle("tls_watcher_enabled"), "1");
    assert_eq!(of_bundle("tls_watcher_looks_total"), "16");
    assert_eq!(of_bundle("tls_watcher_restarts_total"), "17");
    assert_eq!(at("tls_reloads_total{endpoint=\"rpc\",bundle=\"internal\",result=\"published\"}"), "6");
    assert_eq!(at("tls_reloads_total{endpoint=\"rpc\",bundle=\"internal\",result=\"failed\"}"), "8");
}

#[test]
fn many_processes_and_endpoints_make_one_head_per_family_and_one_line_per_series() {
    let (rpc, data, rest) = (status("rpc"), status("data"), plain("rest"));
    let (one, other) = ([("process", "taskmanager"), ("id", "a")], [("process", "taskmanager"), ("id", "b")]);
    let (families, series) =
        read(&render([(&one[..], &rpc), (&one, &data), (&other, &rpc), (&other, &rest), (&one, &rpc)]));
    assert_eq!(families.iter().filter(|(name, _)| name == "tls_generation").count(), 1);
    let of = |name: &str| series.keys().filter(|labelled| labelled.starts_with(&format!("{name}{{"))).count();
    assert_eq!(of("tls_generation"), 3, "plain TCP has none, and what is given twice is written once");
    assert_eq!(of("tls_refused_connects_total"), 4);
    assert!(
        series.contains_key("tls_generation{process=\"taskmanager\",id=\"b\",endpoint=\"rpc\",bundle=\"internal\"}")
    );
}

#[test]
fn values_of_labels_are_escaped_and_unusable_labels_left_out() {
    let evil = "a\"} 1\ntls_generation{x=\"\\";
    let labels = [("id", evil), ("id", "again"), ("endpoint", "ours"), ("0x", "digit"), ("", "none"), ("a-b", "dash")];
    let text = family("up", Kind::Gauge, "Of\nus \\ all.", [(&labels[..], 0.5)]);
    assert_eq!(
        text,
        "# HELP up Of\\nus \\\\ all.\n# TYPE up gauge\nup{id=\"a\\\"} 1\\ntls_generation{x=\\\"\\\\\"} 0.5\n"
    );
    assert_eq!(family("up", Kind::Gauge, "Nobody.", []), "");
    assert_eq!(render([]), "");
}

#[test]
fn a_status_survives_the_way_through_json() {
    let status = status("rpc");
    let json = serde_json::to_value(&status).unwrap();
    let back: EndpointStatus = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), json);
}

#[test]
fn a_status_of_an_older_or_a_newer_release_is_read() {
    let mut json = serde_json::to_value(status("rpc")).unwrap();
    let object = json.as_object_mut().unwrap();
    // What the first release did not have.
    for later in ["failed_by_reason", "drained_by_reason"] {
        assert!(object.remove(later).is_some());
    }
    // What this release does not know.
    object.insert("from_the_future".into(), serde_json::json!({ "a": [1] }));
    let bundle = object["bundle"].as_object_mut().unwrap();
    for later in [
        "expires_in",
        "trust_not_after",
        "alarm",
        "digest",
        "last_look",
        "last_look_source",
        "checks",
        "watcher_restarts",
    ] {
        assert!(bundle.remove(later).is_some());
    }
    bundle.insert("from_the_future".into(), serde_json::json!(true));
    let status: EndpointStatus = serde_json::from_value(json).unwrap();
    assert!(status.failed_by_reason.is_empty() && status.handshakes == 30);
    let bundle = status.bundle.as_ref().unwrap();
    assert_eq!((bundle.generation, &bundle.alarm, bundle.digest.as_str()), (7, &None, ""));
    read(&render([(&[] as &[_], &status)]));
}
