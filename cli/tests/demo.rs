//! The demo, as short as it can be and still rotate in every way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What holds on a machine of any speed is asked of the report's figures; that everything was in time as well is asked
/// by who runs the demo himself.
#[test]
fn the_demo_loses_nothing_and_refuses_nobody_while_certificates_are_replaced_in_every_way() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("report.json");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    demo.args(["demo", "--seconds", "10", "--rotate-every", "500ms", "--report"]).arg(&file);
    // Where the demo leaves everything if it fails; and what would break its cluster if that cared.
    demo.env("TMPDIR", scratch.path()).env("TIDEMILL_PROPERTIES", "security.ssl.internal.enabled: false");
    let output = demo.stdin(Stdio::null()).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    assert!(file.is_file(), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let expected = if report["passed"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{said}");

    let job = &report["job"];
    assert_eq!(job["state"], "FINISHED", "{said}");
    for (figure, expected) in [("rows_in", 336_776), ("late_rows", 0)] {
        assert_eq!(job[figure], expected, "{figure}: {said}");
    }
    let rows = &job["rows"];
    assert_eq!((&rows["exact"], &rows["missing"], &rows["extra"]), (&true.into(), &0.into(), &0.into()), "{said}");
    for way in ["in_place", "renamed", "swapped"] {
        assert!(report["rotations"][way].as_u64().unwrap() > 0, "{way}: {said}");
    }
    let endpoints = report["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 4);
    for endpoint in endpoints {
        for figure in ["failed_handshakes", "refused_connects", "went_back", "unknown_certificates"] {
            assert_eq!(endpoint[figure], 0, "{} {figure}: {said}", endpoint["endpoint"]);
        }
        for figure in ["processes", "probes", "handshakes"] {
            assert!(endpoint[figure].as_u64().unwrap() > 0, "{} {figure}: {said}", endpoint["endpoint"]);
        }
        assert!(endpoint["generation"].as_u64().unwrap() > 1, "{} never changed: {said}", endpoint["endpoint"]);
    }
}
