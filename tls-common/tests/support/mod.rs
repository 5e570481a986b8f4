//! Stores on disk for tests: self-signed identities in PKCS12, and the ways in which people replace files.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "test support, shared by several test binaries")]

pub mod crl;
pub mod log;

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tls_common::testing::{Directory, FileSet};
use tls_common::watch::{FileWatchListener, FileWatchService, WatchHandle};
use tls_common::{
    BundleOptions, ClientAuth, Connection, Fingerprint, Password, ReloadOptions, Secret, StoreOptions, TlsContext,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub const PASSWORD: &str = "changeit";

/// Few rounds: a debug build takes its time, and nothing here is secret.
const ITERATIONS: u32 = 64;

/// A self-signed pair.
pub struct Pair {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
    pub cert_pem: String,
    pub key_pem: String,
}

impl Pair {
    pub fn new() -> Self {
        Self::made(&[], |_| {})
    }

    /// With subject alternative names.
    pub fn for_names(names: &[&str]) -> Self {
        Self::made(names, |_| {})
    }

    /// With subject alternative names, and what else `change` changes.
    pub fn made(names: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // One name for all, as in Flink's recipe: trust must tell them apart by key.
        params.distinguished_name.push(rcgen::DnType::CommonName, "flink.internal");
        params.serial_number = Some(SERIAL.fetch_add(1, Ordering::Relaxed).into());
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { cert: cert.der().to_vec(), key: key.serialize_der(), cert_pem: cert.pem(), key_pem: key.serialize_pem() }
    }

    pub fn fingerprint(&self) -> String {
        Fingerprint::sha256_of(&self.cert).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

pub fn keystore(pair: &Pair, password: &str) -> Vec<u8> {
    let mut store = KeyStore::new();
    let chain = PrivateKeyChain::new(
        vec![1],
        PrivateKey::from_der(&pair.key).unwrap(),
        [Certificate::from_der(&pair.cert).unwrap()],
    );
    store.add_entry("identity", KeyStoreEntry::PrivateKeyChain(chain));
    write(&store, password)
}

pub fn truststore(trusted: &[&Pair], password: &str) -> Vec<u8> {
    let mut store = KeyStore::new();
    for (index, pair) in trusted.iter().enumerate() {
        store.add_entry(
            &format!("trusted{index}"),
            KeyStoreEntry::Certificate(Certificate::from_der(&pair.cert).unwrap()),
        );
    }
    write(&store, password)
}

fn write(store: &KeyStore, password: &str) -> Vec<u8> {
    store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ITERATIONS)
        .write()
        .unwrap()
}

/// A directory with `keystore.p12` and `truststore.p12`.
pub struct Bundle {
    pub dir: PathBuf,
    _temp: tempfile::TempDir,
}

impl Bundle {
    pub fn new(identity: &Pair, trusted: &[&Pair]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let bundle = Self { dir: temp.path().canonicalize().unwrap(), _temp: temp };
        bundle.write_in_place(identity, trusted);
        bundle
    }

    pub fn keystore(&self) -> PathBuf {
        self.dir.join("keystore.p12")
    }

    pub fn truststore(&self) -> PathBuf {
        self.dir.join("truststore.p12")
    }

    pub fn write_in_place(&self, identity: &Pair, trusted: &[&Pair]) {
        std::fs::write(self.truststore(), truststore(trusted, PASSWORD)).unwrap();
        std::fs::write(self.keystore(), keystore(identity, PASSWORD)).unwrap();
    }

    pub fn options(&self) -> BundleOptions {
        options_for(&self.keystore(), &self.truststore())
    }
}

pub fn options_for(keystore: &Path, truststore: &Path) -> BundleOptions {
    let password = || Password::Inline(Secret::new(PASSWORD.into()));
    let mut options = BundleOptions::new("internal");
    options.keystore = Some(StoreOptions::new(keystore, password()));
    options.truststore = Some(StoreOptions::new(truststore, password()));
    options.client_auth = ClientAuth::Required;
    options.verify_hostname = false;
    options
}

/// Short, so that tests wait little; correctness does not hang on it.
pub fn quick() -> ReloadOptions {
    ReloadOptions {
        quiet_period: Duration::from_millis(50),
        max_delay: Duration::from_millis(500),
        poll_interval: Duration::from_secs(3600),
    }
}

/// Waits for the generation that serves `pair`. The bound only ends a test that has failed.
pub async fn serves(context: &TlsContext, pair: &Pair) -> u64 {
    let mut published = context.subscribe();
    let wanted = pair.fingerprint();
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            published.borrow_and_update();
            let status = context.status();
            if status.fingerprint.as_deref() == Some(wanted.as_str()) {
                return status.generation;
            }
            published.changed().await.unwrap();
        }
    });
    found.await.unwrap_or_else(|_| panic!("never served; status: {:?}", context.status()))
}

/// Waits until the status fulfils `wanted`. The bound only ends a test that has failed.
pub async fn until(
    context: &TlsContext,
    wanted: impl Fn(&tls_common::BundleStatus) -> bool,
) -> tls_common::BundleStatus {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let status = context.status();
        if wanted(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "never came: {status:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `wanted`. The bound only ends a test that has failed.
pub async fn eventually(what: &str, wanted: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !wanted() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The two stores of a pair that trusts nobody but itself: no mixture of two such sets believes itself.
pub fn stores(pair: &Pair) -> FileSet {
    FileSet::from([
        ("keystore.p12".to_owned(), keystore(pair, PASSWORD)),
        ("truststore.p12".to_owned(), truststore(&[pair], PASSWORD)),
    ])
}

/// The bundle of the two stores in `directory`.
pub fn options_of(directory: &Directory) -> BundleOptions {
    options_for(&directory.file("keystore.p12"), &directory.file("truststore.p12"))
}

/// Like [`quick`], and digests are compared all the time.
pub fn polling() -> ReloadOptions {
    ReloadOptions { poll_interval: Duration::from_millis(50), ..quick() }
}

/// Writes down what the watcher reports for a file's directory.
#[derive(Default)]
pub struct Recorder {
    started: AtomicU64,
    reported: Mutex<Vec<PathBuf>>,
}

impl Recorder {
    pub fn register(file: PathBuf) -> (Arc<Self>, WatchHandle) {
        let recorder = Arc::new(Self::default());
        let listener: Weak<Self> = Arc::downgrade(&recorder);
        let handle = FileWatchService::global().register(vec![file], listener);
        (recorder, handle)
    }

    /// How often a watch was said to have begun.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    pub fn reported(&self) -> Vec<PathBuf> {
        self.reported.lock().unwrap().clone()
    }
}

impl FileWatchListener for Recorder {
    fn on_watch_started(&self, _directory: &Path) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn on_created(&self, path: &Path) {
        self.reported.lock().unwrap().push(path.to_owned());
    }

    fn on_deleted(&self, path: &Path) {
        self.on_created(path);
    }

    fn on_modified(&self, path: &Path) {
        self.on_created(path);
    }
}

/// Echoes four bytes for ever and ends with its peer, or when it is told to drain.
pub async fn echo(mut connection: Connection) {
    let info = connection.info().clone();
    let mut bytes = [0; 4];
    loop {
        tokio::select! {
            read = connection.read_exact(&mut bytes) => {
                if read.is_err() || connection.write_all(&bytes).await.is_err() || connection.flush().await.is_err() {
                    return;
                }
            }
            _ = info.draining() => return,
        }
    }
}
