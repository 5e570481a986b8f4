//! The benchmark, as short as it can be: all levels and transports work, rotate, and are reported.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn the_benchmark_measures_every_level_and_transport_while_certificates_rotate() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("report");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    bench.args(["bench", "shuffle", "--preset", "quick", "--transports", "plain,tls,quic", "--out"]).arg(&out);
    bench.env("TMPDIR", scratch.path()).env("TIDEMILL_PROPERTIES", "security.ssl.internal.enabled: false");
    let output = bench.stdin(Stdio::null()).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");

    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    let cells = report["cells"].as_array().unwrap();
    // The bare stream with and without TLS; the plane and the job over each transport.
    assert_eq!(cells.len(), 2 + 3 + 3, "{said}");
    for cell in cells {
        assert!(cell["gib_per_second"]["median"].as_f64().unwrap() > 0.0, "{cell}");
        let rotates = !cell["cell"]["rotate_every_ms"].is_null();
        assert_eq!(rotates, cell["cell"]["level"] != "raw" && cell["cell"]["transport"] != "plain", "{cell}");
        assert!(!rotates || cell["rotations"].as_u64().unwrap() > 0, "{cell}");
    }
    for turn in report["runs"].as_array().unwrap() {
        for run in turn.as_array().unwrap() {
            assert_eq!(run["processes"].as_array().unwrap().len(), 2, "{run}");
        }
    }
    let table = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(table.contains("| job QUIC, 1 KiB, p = 1, a rotation every 1 s, renew |"), "{table}");
    assert!(fs::read_to_string(out.join("throughput.svg")).unwrap().contains("<polyline"));
}
