//! Programs that we did not write and that some tests compare with.
#![allow(unreachable_pub, reason = "test support, shared by several test binaries")]

use std::process::{Command, Stdio};

/// Whether `name` can be run; if not, says so on standard error, and the test should return.
///
/// # Panics
/// It cannot be run and `TIDEMILL_REQUIRE_TOOLS=1` says that every tool is there.
pub fn tool(name: &str, harmless: &str) -> bool {
    let found = Command::new(name).arg(harmless).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = match found {
        Ok(status) if status.success() => return true,
        Ok(status) => format!("`{name} {harmless}` ended with {status}"),
        Err(error) => format!("`{name}` cannot be run: {error}"),
    };
    let required = std::env::var("TIDEMILL_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{missing}");
    eprintln!("skipped: {missing}");
    false
}
