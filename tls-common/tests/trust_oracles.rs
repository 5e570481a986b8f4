//! Our verdicts against those of tools we did not write: Java's trust manager and `openssl verify`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/crl.rs"]
mod crl;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crl::crl;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tls_common::{BundleOptions, Leniency, Password, StoreOptions, TlsContext};

/// A certificate in PEM with its key, able to sign others.
struct Pair {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pair {
    fn new(name: &str, issuer: Option<&Pair>, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, &issuer.issuer),
            None => params.self_signed(&key),
        };
        Self { pem: certificate.unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn authority(name: &str, issuer: Option<&Pair>) -> Self {
        Self::new(name, issuer, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn leaf(name: &str, issuer: Option<&Pair>) -> Self {
        Self::new(name, issuer, |_| {})
    }

    fn crl(&self, revoked: &[u64]) -> String {
        crl(&self.issuer, revoked)
    }
}

/// One row: a truststore, a chain, and whether Java takes it.
struct Case {
    name: &'static str,
    trust: String,
    chain: String,
    java: bool,
}

/// The cases of `verify/tests/java.rs`, as files.
fn cases() -> Vec<Case> {
    let root = Pair::authority("root", None);
    let own = Pair::leaf("own", Some(&root));
    let shared = Pair::leaf("flink.internal", None);
    let stranger = Pair::leaf("stranger", None);
    let expired = Pair::new("expired", None, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let expired_under_ca = Pair::new("expired", Some(&root), |params| params.not_after = date_time_ymd(2020, 1, 1));
    let [old, new] = [(); 2].map(|()| Pair::authority("Sample CA", None));
    let rotated = Pair::leaf("own", Some(&new));
    let version_1 = include_str!("fixtures/openssl-v1.pem");
    let version_1 = version_1.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    let case = |name, trust: &[&Pair], chain: &[&Pair], java| {
        let pem = |pairs: &[&Pair]| pairs.iter().map(|pair| pair.pem.as_str()).collect();
        Case { name, trust: pem(trust), chain: pem(chain), java }
    };
    vec![
        case("self-signed, trusted", &[&shared], &[&shared], true),
        case("under a trusted CA", &[&root], &[&own, &root], true),
        case("CA-signed, trusted without its CA", &[&own], &[&own], true),
        case("a CA certificate, trusted", &[&root], &[&root], true),
        Case { name: "version 1, trusted", trust: version_1.clone(), chain: version_1, java: true },
        case("expired, trusted", &[&expired], &[&expired], true),
        case("expired, under a trusted CA", &[&root], &[&expired_under_ca], false),
        case("two CAs of one name", &[&old, &new], &[&rotated], true),
        case("two CAs of one name, the other way round", &[&new, &old], &[&rotated], true),
        case("only the old CA of that name", &[&old], &[&rotated], false),
        case("a stranger", &[&shared], &[&stranger], false),
    ]
}

fn write(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Runs a tool; `None`, with a note, where the machine has none.
fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let required = std::env::var("TIDEMILL_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
            assert!(!required, "{program} is required: {error}");
            eprintln!("skipped: {program} cannot be run ({error})");
            None
        }
    }
}

/// Both roles' verdicts of a generation with these options.
async fn ours(options: BundleOptions, chain: &str) -> [bool; 2] {
    let context = TlsContext::load(options, None).await.unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000)); // all that is not expired is valid
    let name = ServerName::try_from("localhost").unwrap();
    let generation = context.current();
    [generation.judge_client(&chain, now).is_ok(), generation.judge_server(&chain, &name, now).is_ok()]
}

fn client_bundle(truststore: PathBuf) -> BundleOptions {
    let mut options = BundleOptions::new("oracle");
    options.truststore = Some(StoreOptions::new(truststore, Password::None));
    options.verify_hostname = false;
    options
}

#[tokio::test]
async fn with_every_leniency_we_believe_whom_java_believes() {
    let work = tempfile::tempdir().unwrap();
    let cases = cases();
    let directories: Vec<PathBuf> = (0..cases.len()).map(|index| work.path().join(index.to_string())).collect();
    for (case, directory) in cases.iter().zip(&directories) {
        std::fs::create_dir(directory).unwrap();
        write(directory, "trust.pem", &case.trust);
        write(directory, "chain.pem", &case.chain);
        let mut options = client_bundle(directory.join("trust.pem"));
        options.leniency = Leniency::JAVA;
        assert_eq!(ours(options, &case.chain).await, [case.java; 2], "{}", case.name);
    }
    let source = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/Trust.java"));
    let Some(output) = run("java", std::iter::once(&source).chain(&directories)) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<&str> = text.lines().collect();
    assert_eq!(verdicts.len(), cases.len(), "{text}");
    for (case, verdict) in cases.iter().zip(verdicts) {
        assert_eq!(verdict, format!("{0} {0}", case.java), "Java, {}", case.name);
    }
}

/// `openssl verify -crl_check_all` is strict: a list for every certificate, none of it overdue.
#[tokio::test]
async fn with_strict_lists_we_believe_whom_openssl_believes() {
    let root = Pair::authority("root", None);
    let middle = Pair::new("middle", Some(&root), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(5_u64.into());
    });
    let own = Pair::new("own", Some(&middle), |params| params.serial_number = Some(6_u64.into()));
    let work = tempfile::tempdir().unwrap();
    let (trust, untrusted) = (write(work.path(), "root.pem", &root.pem), write(work.path(), "middle.pem", &middle.pem));
    let leaf = write(work.path(), "leaf.pem", &own.pem);
    let lists = |of_root: &[u64], of_middle: &[u64]| root.crl(of_root) + &middle.crl(of_middle);
    for (name, crl, expected) in [
        ("nothing revoked", lists(&[], &[]), true),
        ("somebody else", lists(&[6], &[5]), true),
        ("the leaf", lists(&[], &[6]), false),
        ("the intermediate", lists(&[5], &[]), false),
        ("no list of the intermediate", root.crl(&[]), false),
    ] {
        let crl = write(work.path(), "crl.pem", &crl);
        let mut options = client_bundle(trust.clone());
        options.crl = Some(crl.clone());
        options.crl_strict = true;
        assert_eq!(ours(options, &format!("{}{}", own.pem, middle.pem)).await, [expected; 2], "{name}");
        let arguments = ["verify", "-attime", "2000000000", "-crl_check_all", "-CAfile"].map(PathBuf::from);
        let files =
            [&trust, Path::new("-untrusted"), &untrusted, Path::new("-CRLfile"), &crl, &leaf].map(PathBuf::from);
        let Some(output) = run("openssl", arguments.iter().chain(&files)) else { return };
        assert_eq!(output.status.success(), expected, "openssl, {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
