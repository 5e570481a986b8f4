//! What the benchmarks share: identities on disk, the plain rustls configuration to compare with, and honest figures.
//!
//! Every figure is compared with its limit measured in the same run: the contestants take turns, round by round, so that
//! whatever else the machine does hits all of them. Given are medians over the rounds, with the least and the greatest.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part")]

pub mod plain;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize,
};
use std::path::PathBuf;
use std::process::Command;
use tls_common::{BundleOptions, ClientAuth, Password, ProtocolVersion, StoreOptions, TlsContext};

pub const ALPN: &str = "bench";
pub const HOST: &str = "127.0.0.1";

/// Whether only to show that everything works: asked for, or run by `cargo test --benches`, which does not say `--bench`.
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick") || !std::env::args().any(|argument| argument == "--bench")
}

/// The rest of the argument that begins with `prefix`.
pub fn chosen(prefix: &str) -> Option<String> {
    std::env::args().find_map(|argument| argument.strip_prefix(prefix).map(str::to_owned))
}

/// Which machine the figures are from.
pub fn print_machine() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rustc = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    println!(
        "machine: {} (family {} model {}), {cores} cores, Linux {}, {}, load {}",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        read("/proc/sys/kernel/osrelease").trim(),
        String::from_utf8_lossy(&rustc).trim(),
        read("/proc/loadavg").trim(),
    );
    if is_quick() {
        println!("quick: this shows only that it runs; the figures mean nothing");
    }
}

/// CPU time and more of the calling thread.
pub fn thread_usage() -> Usage {
    getrusage(UsageWho::RUSAGE_THREAD).unwrap()
}

/// CPU seconds of the calling thread so far.
pub fn cpu_seconds() -> f64 {
    // The kernel adds up when it switches threads, and otherwise only every few milliseconds.
    std::thread::yield_now();
    let usage = thread_usage();
    [usage.user_time(), usage.system_time()].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

/// One value per round.
#[derive(Default, Clone)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    /// The value that the given share of all values does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted[((last as f64) * share).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// `median [least-greatest]`.
    pub fn show(&self, decimals: usize) -> String {
        let [median, low, high] = [0.5, 0.0, 1.0].map(|share| format!("{:.decimals$}", self.quantile(share)));
        format!("{median} [{low}-{high}]")
    }

    /// Round by round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }
}

/// A CA, and identities for [`HOST`] that it has signed, in PEM files.
pub struct Pki {
    directory: tempfile::TempDir,
    pub ca: rcgen::Certificate,
    identities: [CertifiedKey<KeyPair>; 3],
}

/// Who shows which identity: each its own, because a judge knows its own from the self-test of its generation.
#[derive(Clone, Copy)]
pub enum Side {
    Server,
    Client,
    /// Neither: somebody to warm up with.
    Other,
}

#[derive(Clone, Copy)]
pub enum KeyKind {
    P256,
    Rsa2048,
}

/// What both sides of a comparison have in common.
#[derive(Clone)]
pub struct Settings {
    pub version: ProtocolVersion,
    pub resume: bool,
    /// IANA names; empty for all of the provider's.
    pub suites: Vec<String>,
}

impl Pki {
    pub fn new(kind: KeyKind) -> Self {
        let key = || match kind {
            KeyKind::P256 => KeyPair::generate().unwrap(),
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        };
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "benchmark CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = key();
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let identity = || {
            let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, "benchmark host");
            let signing_key = key();
            CertifiedKey { cert: params.signed_by(&signing_key, &issuer).unwrap(), signing_key }
        };
        let identities = [identity(), identity(), identity()];
        let pki = Self { directory: tempfile::tempdir().unwrap(), ca, identities };
        for side in [Side::Server, Side::Client, Side::Other] {
            let identity = pki.identity(side);
            std::fs::write(pki.keystore(side), identity.cert.pem() + &identity.signing_key.serialize_pem()).unwrap();
        }
        std::fs::write(pki.truststore(), pki.ca.pem()).unwrap();
        pki
    }

    pub fn identity(&self, side: Side) -> &CertifiedKey<KeyPair> {
        &self.identities[side as usize]
    }

    fn keystore(&self, side: Side) -> PathBuf {
        self.directory.path().join(match side {
            Side::Server => "server.pem",
            Side::Client => "client.pem",
            Side::Other => "other.pem",
        })
    }

    fn truststore(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Mutual TLS by our crate.
    pub async fn context(&self, side: Side, settings: &Settings) -> TlsContext {
        let mut options = BundleOptions::new("bench");
        options.keystore = Some(StoreOptions::new(self.keystore(side), Password::None));
        options.truststore = Some(StoreOptions::new(self.truststore(), Password::None));
        options.client_auth = ClientAuth::Required;
        options.protocols = vec![settings.version];
        options.cipher_suites.clone_from(&settings.suites);
        if !settings.resume {
            options.session_cache_size = 0;
        }
        TlsContext::load(options, None).await.unwrap()
    }
}
