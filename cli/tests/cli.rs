//! The real `tidemill`: what people see who have no cluster yet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{text, tidemill, tool};

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
fn what_is_wrong_with_an_argument_is_a_usage_error_and_asks_nobody() {
    for (arguments, why) in [
        (["info", "../overview", "--rest-url", "http://127.0.0.1:1"], "32 hexadecimal digits"),
        (["cancel", "", "--rest-url", "http://127.0.0.1:1"], "32 hexadecimal digits"),
        (["list", "--json", "--rest-url", "http://127.0.0.1:1/v1"], "scheme, host and port only"),
        (["demo", "--seconds=1", "--rotate-every", "2s"], "longer than the job"),
    ] {
        let output = tidemill(&arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {errors}");
        assert!(errors.contains(why), "{arguments:?}: {errors}");
    }
}

#[test]
fn an_option_that_does_not_exist_is_warned_of() {
    let output = tidemill(&["list", "--rest-url", "http://127.0.0.1:1", "-Drest.prot=1"]);
    let errors = text(&output.stderr);
    assert!(errors.lines().next().unwrap().contains("did you mean `rest.port`?"), "{errors}");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let scratch = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["tls", "init", "--dir"]).arg(scratch.path()).stdin(Stdio::null()).stdout(writer);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
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
    if !tool("openssl", "version") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let output = tidemill(&["tls", "init", "--dir", scratch.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (store, password, has_key) in [
        ("internal.keystore.p12", "internal-password", true),
        ("internal.truststore.p12", "internal-password", false),
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
