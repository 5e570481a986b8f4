//! What we render is read by Prometheus' own parser as what we meant.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use support::{Bundle, Pair};
use tls_common::{ConnectionPolicy, Endpoint, HandshakeLimits, TlsContext, metrics};

/// Prints every sample as `[family, type, name, labels, value]`.
const READER: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
json.dump([[f.name, f.type, s.name, s.labels, s.value] for f in families for s in f.samples], sys.stdout)
";

/// Whether Prometheus' Python client is there; CI says that it must.
fn parser_is_there() -> bool {
    let found = Command::new("python3").args(["-c", "import prometheus_client.parser"]).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    let required = std::env::var("TIDEMILL_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(found || !required, "python3 has no module `prometheus_client`");
    if !found {
        eprintln!("skipped: python3 has no module `prometheus_client` (pip install prometheus-client)");
    }
    found
}

fn read(text: &str) -> Vec<Value> {
    let mut python =
        Command::new("python3").args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "refused:\n{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn prometheus_own_parser_reads_what_was_meant() {
    if !parser_is_there() {
        return;
    }
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let new = |name: &str, tls| Endpoint::new(name, tls, ConnectionPolicy::default(), HandshakeLimits::default());
    let (rpc, plain) = (new("rpc", Some(context.clone())).status(), new("plain", None).status());
    let evil = "a\\b \"quoted\"} 1\nforged_total 7 é";
    let (one, other) = ([("process", "taskmanager"), ("id", evil)], [("process", "jobmanager"), ("id", "")]);
    let text = metrics::render([(&one[..], &rpc), (&one, &plain), (&other, &rpc)]);
    let samples = read(&text);

    assert_eq!(samples.len(), text.lines().filter(|line| !line.starts_with('#')).count());
    let mut ids = Vec::new();
    for sample in &samples {
        let (name, kind) = (sample[2].as_str().unwrap(), sample[1].as_str().unwrap());
        assert_eq!(kind, if name.ends_with("_total") { "counter" } else { "gauge" }, "{sample}");
        assert!(name.starts_with("tls_"), "{sample}");
        ids.push(sample[3]["id"].as_str().unwrap());
    }
    assert!(ids.iter().all(|id| *id == evil || id.is_empty()));
    let value = |name: &str, endpoint: &str, process: &str| {
        let wanted =
            |sample: &&Value| sample[2] == name && sample[3]["endpoint"] == endpoint && sample[3]["process"] == process;
        samples.iter().find(wanted).map(|sample| sample[4].as_f64().unwrap())
    };
    assert_eq!(value("tls_generation", "rpc", "taskmanager"), Some(1.0));
    assert_eq!(value("tls_generation", "plain", "taskmanager"), None);
    let not_after = context.status().not_after.unwrap() as f64;
    assert_eq!(value("tls_certificate_not_after_seconds", "rpc", "jobmanager"), Some(not_after));
    assert_eq!(value("tls_expiry_alarm", "rpc", "jobmanager"), Some(0.0));
    assert_eq!(value("tls_refused_connects_total", "plain", "taskmanager"), Some(0.0));
}
