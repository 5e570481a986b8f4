//! The real process with configurations that cannot work: it ends at once, with one line that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use tempfile::TempDir;

const SERVICE: &str = "rest-gateway";
const PASSWORD: &str = "correct-horse";

/// A directory with good stores and a config.yaml that uses them.
struct Config {
    directory: TempDir,
    yaml: String,
}

impl Config {
    fn secured() -> Self {
        let config = Self::plain();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([]).unwrap();
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        let key = PrivateKey::from_der(&key.serialize_der()).unwrap();
        let chain = PrivateKeyChain::new("internal", key, [certificate.clone()]);
        config.store("key.p12", Some(KeyStoreEntry::PrivateKeyChain(chain)));
        config.store("trust.p12", Some(KeyStoreEntry::Certificate(certificate)));
        config.store("empty.p12", None);
        let [keystore, truststore] = ["key.p12", "trust.p12"].map(|name| config.path(name));
        let stores = |kind: &str| {
            format!(
                "security.ssl.{kind}.enabled: true\n\
                 security.ssl.{kind}.keystore: {}\n\
                 security.ssl.{kind}.keystore-password: {PASSWORD}\n\
                 security.ssl.{kind}.truststore: {}\n\
                 security.ssl.{kind}.truststore-password: {PASSWORD}\n",
                keystore.display(),
                truststore.display()
            )
        };
        config.with(&stores("internal")).with(&stores("rest"))
    }

    fn plain() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), yaml: "rest.port: 0\n".to_owned() }
    }

    fn with(mut self, yaml: &str) -> Self {
        self.yaml += yaml;
        self
    }

    fn but(mut self, from: &str, to: &str) -> Self {
        assert!(self.yaml.contains(from), "{}", self.yaml);
        self.yaml = self.yaml.replace(from, to);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self, name: &str, entry: Option<KeyStoreEntry>) {
        let mut store = KeyStore::new();
        if let Some(entry) = entry {
            store.add_entry("internal", entry);
        }
        fs::write(self.path(name), store.writer(PASSWORD).write().unwrap()).unwrap();
    }

    fn start(&self) -> Child {
        fs::write(self.path("config.yaml"), &self.yaml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rest-gateway"));
        command.arg("--config-dir").arg(self.directory.path()).env_remove("TIDEMILL_PROPERTIES");
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end, which `at_listening` brings about if it has started. Returns what it wrote.
    fn run(&self, at_listening: Signal) -> (ExitStatus, Vec<String>) {
        let mut child = self.start();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().contains("listening") {
                kill(Pid::from_raw(child.id().try_into().unwrap()), at_listening).unwrap();
            }
        }
        (child.wait().unwrap(), lines)
    }

    /// It refuses to start, and its last words contain these.
    fn is_refused(&self, because: &[&str]) {
        let (status, lines) = self.run(Signal::SIGKILL);
        let text = lines.join("\n");
        assert_eq!(status.code(), Some(1), "{text}");
        let reasons = lines.iter().filter(|line| line.starts_with(&format!("{SERVICE}: "))).count();
        assert_eq!(reasons, 1, "{text}");
        let reason = lines.last().unwrap();
        for words in [&format!("{SERVICE}: ")].into_iter().map(String::as_str).chain(because.iter().copied()) {
            assert!(reason.contains(words), "{words}: {reason}");
        }
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_good_config_serves_until_it_is_told_to_stop() {
    for config in [Config::plain(), Config::secured()] {
        let (status, lines) = config.run(Signal::SIGTERM);
        let text = lines.join("\n");
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(text.contains("rest=127.0.0.1:"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn an_unknown_security_option() {
    let config = Config::secured().with("security.ssl.rest.authentication-enable: true\n");
    config.is_refused(&["security.ssl.rest.authentication-enable`", "security.ssl.rest.authentication-enabled"]);
}

#[test]
fn a_keystore_that_is_not_there() {
    for kind in ["internal", "rest"] {
        let config = Config::secured();
        let file = config.path("nowhere.p12");
        let key = format!("security.ssl.{kind}.keystore: ");
        let good = format!("{key}{}", config.path("key.p12").display());
        let config = config.but(&good, &format!("{key}{}", file.display()));
        config.is_refused(&[&format!("security.ssl.{kind}"), name(&file), "No such file"]);
    }
}

#[test]
fn a_wrong_password() {
    for kind in ["internal", "rest"] {
        let key = format!("security.ssl.{kind}.keystore-password: ");
        let config = Config::secured().but(&format!("{key}{PASSWORD}"), &format!("{key}battery-staple"));
        config.is_refused(&[&format!("security.ssl.{kind}"), name(&config.path("key.p12")), "password"]);
        let (_, lines) = config.run(Signal::SIGKILL);
        assert!(!lines.join("\n").contains("battery-staple"), "{lines:?}");
    }
}

#[test]
fn a_truststore_without_an_anchor() {
    let config = Config::secured().with("security.ssl.rest.authentication-enabled: true\n");
    let key = "security.ssl.rest.truststore: ";
    let [good, empty] = ["trust.p12", "empty.p12"].map(|name| format!("{key}{}", config.path(name).display()));
    let config = config.but(&good, &empty);
    config.is_refused(&["security.ssl.rest", name(&config.path("empty.p12")), "trust"]);
}

#[test]
fn a_port_in_use() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    let config = Config::plain().but("port: 0", &format!("port: {}", address.port()));
    config.is_refused(&[&address.to_string(), "in use", "rest.port"]);
}

#[test]
fn a_jobmanager_whose_port_is_not_known() {
    for key in ["jobmanager.rpc.port", "blob.server.port"] {
        Config::plain().with(&format!("{key}: 0\n")).is_refused(&[&format!("`{key}: 0`"), "PORT"]);
    }
}
