//! The real process with configurations that cannot work: it ends at once, with one line that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SERVICE: &str = "taskmanager";

/// Made by keytool and openssl, see `tls-common/tests/fixtures/make.sh`.
const PASSWORD: &str = "store_password";
const KEY: &str = "keytool.p12";
const TRUST: &str = "keytool-trust.p12";
/// Certificates without Java's mark that they are to be trusted.
const NO_ANCHOR: &str = "openssl-nokeys.p12";

/// Lines of a `config.yaml`.
struct Config(String);

impl Config {
    fn plain() -> Self {
        Self("jobmanager.rpc.port: 6123\n".to_owned())
    }

    fn secured(keystore: &str, truststore: &str, password: &str) -> Self {
        let (keystore, truststore) = (fixture(keystore), fixture(truststore));
        Self::plain().with(&format!(
            "security.ssl.internal.enabled: true\n\
             security.ssl.internal.keystore: {}\n\
             security.ssl.internal.keystore-password: {password}\n\
             security.ssl.internal.truststore: {}\n\
             security.ssl.internal.truststore-password: {PASSWORD}\n",
            keystore.display(),
            truststore.display()
        ))
    }

    fn with(mut self, lines: &str) -> Self {
        self.0 += lines;
        self
    }

    /// The process refuses to start, with one line of its own, which has these words in it.
    fn is_refused(&self, because: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.yaml"), &self.0).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskmanager"));
        command.arg("--config-dir").arg(directory.path()).env_remove("TIDEMILL_PROPERTIES");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().contains("listening") {
                child.kill().unwrap();
            }
        }
        let (status, text) = (child.wait().unwrap(), lines.join("\n"));
        assert_eq!(status.code(), Some(1), "{text}");
        // All else on stderr are log lines, which begin with a time.
        let own: Vec<_> = lines.iter().filter(|line| line.starts_with(SERVICE)).collect();
        assert_eq!(own, [lines.last().unwrap()], "{text}");
        let reason = own[0].strip_prefix(&format!("{SERVICE}: ")).unwrap();
        because.iter().for_each(|words| assert!(reason.contains(words), "{words}: {reason}"));
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tls-common/tests/fixtures").join(name)
}

#[test]
fn an_unknown_security_option() {
    let config = Config::secured(KEY, TRUST, PASSWORD).with("security.ssl.internal.keystroe-type: pkcs12\n");
    config.is_refused(&["security.ssl.internal.keystroe-type", "security.ssl.internal.keystore-type"]);
}

#[test]
fn quic_without_the_tls_that_it_needs() {
    let quic = "taskmanager.data.transport: quic\n";
    Config::plain().with(quic).is_refused(&["taskmanager.data.transport: quic", "security.ssl.internal.enabled"]);
    let tls12 = Config::secured(KEY, TRUST, PASSWORD).with("security.ssl.protocol: TLSv1.2\n");
    tls12.with(quic).is_refused(&["taskmanager.data.transport: quic", "security.ssl.protocol"]);
}

#[test]
fn a_value_of_the_wrong_form() {
    Config::plain().with("heartbeat.interval: soon\n").is_refused(&["`heartbeat.interval: soon`", "10 s"]);
}

#[test]
fn a_keystore_that_is_not_there() {
    Config::secured("nowhere.p12", TRUST, PASSWORD).is_refused(&["nowhere.p12", "No such file"]);
}

#[test]
fn a_wrong_password() {
    Config::secured(KEY, TRUST, "battery-staple").is_refused(&[KEY, "password"]);
}

#[test]
fn a_keystore_without_a_key() {
    Config::secured(TRUST, TRUST, PASSWORD).is_refused(&[TRUST, "key"]);
}

#[test]
fn a_truststore_without_an_anchor() {
    Config::secured(KEY, NO_ANCHOR, PASSWORD).is_refused(&[NO_ANCHOR, "trust"]);
}

#[test]
fn a_port_in_use() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    for option in ["taskmanager.rpc.port", "taskmanager.data.port"] {
        let config = Config::plain().with(&format!("{option}: {}\n", address.port()));
        config.is_refused(&[&address.to_string(), "in use", option]);
    }
}

#[test]
fn no_slots_and_a_name_that_is_none() {
    for (option, value) in [("taskmanager.numberOfTaskSlots", "0"), ("taskmanager.resource-id", "two words")] {
        Config::plain().with(&format!("{option}: {value}\n")).is_refused(&[option]);
    }
}

#[test]
fn bad_arguments_have_an_exit_code_of_their_own() {
    let output = Command::new(env!("CARGO_BIN_EXE_taskmanager")).arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nonsense"));
}
