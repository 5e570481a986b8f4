//! `sslyze`: a TLS scanner by other people, and what it found.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tls_common::Fingerprint;
use tokio::process::Command;

use crate::{tool, within};

/// Scans that are tried before one is believed to be incomplete for another reason than a slow machine: the tool itself
/// waits five seconds for an answer and then leaves a gap.
const ATTEMPTS: usize = 5;

/// The scanner, if this machine has it.
#[derive(Debug)]
pub struct Sslyze {
    program: OsString,
}

/// What the scanner found at one port.
#[derive(Debug)]
pub struct Scan {
    found: Value,
    /// Whether Mozilla's rules have been applied.
    judged: bool,
    /// What it misses of Mozilla's "intermediate" configuration: the rule's name and a sentence.
    pub issues: BTreeMap<String, String>,
}

impl Sslyze {
    /// The one that `TIDEMILL_SSLYZE` names, or else the one on the path. `None`, with a note, if there is none.
    ///
    /// # Panics
    /// There is none and `TIDEMILL_REQUIRE_TOOLS=1` says that every tool is there.
    pub fn find() -> Option<Self> {
        let program = std::env::var_os("TIDEMILL_SSLYZE").unwrap_or_else(|| "sslyze".into());
        tool(&program.to_string_lossy(), "--help").then_some(Self { program })
    }

    /// Scans `localhost` at `address`, as a client with the certificate and key in the PEM file `identity` who believes
    /// the authorities in `trusted`. `report` is a file to write to.
    ///
    /// # Panics
    /// The scan is never complete.
    pub async fn scan(&self, address: SocketAddr, identity: &Path, trusted: &Path, report: &Path) -> Scan {
        let mut attempt = 1;
        loop {
            let scan = within("sslyze", self.attempt(address, identity, trusted, report)).await;
            let gaps = scan.gaps();
            if gaps.is_empty() {
                return scan;
            }
            assert!(attempt < ATTEMPTS, "sslyze cannot complete its scan of {address}: {gaps:?}");
            attempt += 1;
        }
    }

    async fn attempt(&self, address: SocketAddr, identity: &Path, trusted: &Path, report: &Path) -> Scan {
        let mut command = Command::new(&self.program);
        command.args(["--slow_connection", "--certinfo", "--resum", "--early_data", "--mozilla_config=intermediate"]);
        command.arg("--cert").arg(identity).arg("--key").arg(identity).arg("--certinfo_ca_file").arg(trusted);
        command.arg("--json_out").arg(report).arg(format!("localhost:{}{{{}}}", address.port(), address.ip()));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let written = std::fs::read(report);
        let written = written.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        let mut written: Value = serde_json::from_slice(&written).unwrap();
        let (_, verdict) = text.split_once("COMPLIANCE AGAINST TLS CONFIGURATION").unwrap_or_default();
        Scan {
            issues: issues(verdict),
            judged: ["OK - Compliant", "FAILED - Not compliant"].iter().any(|judged| verdict.contains(judged)),
            found: written["server_scan_results"][0].take(),
        }
    }
}

impl Scan {
    /// What one of its commands found; the names are those of its documentation.
    pub fn of(&self, command: &str) -> &Value {
        &self.found["scan_result"][command]["result"]
    }

    /// The cipher suites that the server takes with a version, say `tls_1_2`.
    pub fn suites(&self, version: &str) -> Vec<&str> {
        let accepted = &self.of(&format!("{version}_cipher_suites"))["accepted_cipher_suites"];
        accepted.as_array().unwrap().iter().map(|suite| suite["cipher_suite"]["name"].as_str().unwrap()).collect()
    }

    /// SHA-256 of the server's certificate.
    pub fn certificate(&self) -> String {
        let pem = self.deployment()["received_certificate_chain"][0]["as_pem"].as_str().unwrap();
        Fingerprint::sha256_of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).to_string()
    }

    /// Why the certificate is not trusted by one of its stores.
    pub fn distrusts(&self, store: &str) -> Option<&str> {
        let verdicts = self.deployment()["path_validation_results"].as_array().unwrap();
        let verdict = verdicts.iter().find(|verdict| verdict["trust_store"]["name"] == store).unwrap();
        verdict["validation_error"].as_str()
    }

    /// The server's certificate and what there is to say about it.
    fn deployment(&self) -> &Value {
        let deployments = self.of("certificate_info")["certificate_deployments"].as_array().unwrap();
        let [deployment] = deployments.as_slice() else { panic!("not one certificate: {deployments:?}") };
        deployment
    }

    /// What it could not find out.
    fn gaps(&self) -> Vec<String> {
        if self.found["connectivity_status"] != "COMPLETED" {
            return vec![self.found["connectivity_error_trace"].to_string()];
        }
        let commands = self.found["scan_result"].as_object().unwrap();
        let failed = commands.iter().filter(|(_, scan)| scan["status"] == "ERROR");
        let failed = failed.map(|(name, scan)| format!("{name}: {}", scan["error_trace"]));
        failed.chain((!self.judged).then(|| "Mozilla's rules".to_owned())).collect()
    }
}

/// The lines `* RULE: SENTENCE` at the end of its output, which alone tells of Mozilla's rules.
fn issues(verdict: &str) -> BTreeMap<String, String> {
    let lines = verdict.lines().filter_map(|line| line.trim().strip_prefix("* ")?.split_once(": "));
    lines.map(|(rule, sentence)| (rule.to_owned(), sentence.to_owned())).collect()
}
