//! The real `tidemill`: what people see who have no cluster yet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn tidemill(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(arguments).env_remove("TIDEMILL_PROPERTIES").stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_is_printed() {
    let output = tidemill(&["--version"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), format!("tidemill {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_command_is_a_usage_error_that_names_it() {
    let output = tidemill(&["fly"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("fly"), "{}", text(&output.stderr));
}

#[test]
fn without_a_gateway_there_is_one_line_that_says_so() {
    // Port 1 (tcpmux) is one that nobody serves any more.
    let output = tidemill(&["list", "--rest-url", "http://127.0.0.1:1"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("tidemill: ") && errors.lines().count() == 1, "{errors}");
    assert!(errors.contains("127.0.0.1:1"), "{errors}");
}

#[test]
fn tls_init_refuses_to_overwrite_anything() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("tls");
    let init = || tidemill(&["tls", "init", "--dir", directory.to_str().unwrap()]);
    assert!(init().status.success());
    let before = files(&directory);
    let again = init();
    let errors = text(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{errors}");
    assert!(errors.lines().count() == 1 && errors.contains(directory.to_str().unwrap()), "{errors}");
    assert_eq!(files(&directory), before);
}

#[test]
fn openssl_reads_every_store_that_tls_init_makes() {
    if !openssl_is_there() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let output = tidemill(&["tls", "init", "--dir", scratch.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (store, password, has_key) in [
        ("internal.keystore.p12", "internal-password", true),
        ("rest.keystore.p12", "rest-password", true),
        ("rest.truststore.p12", "rest-password", false),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-nodes", "-in"]).arg(scratch.path().join(store));
        openssl.arg("-passin").arg(format!("file:{}", scratch.path().join(password).display()));
        let output = openssl.output().unwrap();
        let pem = text(&output.stdout);
        assert!(output.status.success(), "{store}: {}", text(&output.stderr));
        assert!(pem.contains("BEGIN CERTIFICATE"), "{store}");
        assert_eq!(pem.contains("BEGIN PRIVATE KEY"), has_key, "{store}");
    }
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Whether `openssl` can be run; CI says that it must.
fn openssl_is_there() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var("TIDEMILL_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(found || !required, "`openssl` cannot be run");
    if !found {
        eprintln!("skipped: `openssl` cannot be run");
    }
    found
}
