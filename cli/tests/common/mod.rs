//! What the tests of the binary share.

use std::process::{Command, Output, Stdio};

/// Runs the real `tidemill` to its end.
pub(crate) fn tidemill(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(arguments).env_remove("TIDEMILL_PROPERTIES").stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a tool can be run; CI says that it must.
pub(crate) fn tool(name: &str, question: &str) -> bool {
    let found = Command::new(name).arg(question).output().is_ok_and(|output| output.status.success());
    let required = std::env::var("TIDEMILL_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(found || !required, "`{name}` cannot be run");
    if !found {
        eprintln!("skipped: `{name}` cannot be run");
    }
    found
}
