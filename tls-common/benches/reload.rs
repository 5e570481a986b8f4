//! How long after its files were replaced a server shows the new certificate, for every way of replacing them.
//!
//! The clock starts when the last file operation has returned and stops when a handshake made from then on has shown the
//! new certificate; the part above the quiet period is what we add to the wait for the end of the burst.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

mod support;

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use std::time::{Duration, Instant};
use support::{ALPN, Figures, HOST};
use tls_common::testing::{Directory, FileSet, Way};
use tls_common::{
    Acceptor, BundleOptions, ClientAuth, Connector, Endpoint, Listener, Password, ReloadOptions, Secret, StoreOptions,
    TlsContext, serve,
};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "changeit";
/// What keytool 17 writes, for keys and for the whole file.
const ROUNDS: u32 = 10_000;
/// How a file system without events is followed here.
const POLL: Duration = Duration::from_secs(1);

/// One certificate, and the two files of a bundle in which it is identity and truststore.
struct Version {
    certificate: Vec<u8>,
    files: FileSet,
}

fn main() {
    support::print_machine();
    let rotations = if support::is_quick() { 2 } else { 100 };
    println!(
        "{rotations} rotations each; ms from the last file operation to a handshake that shows the new certificate"
    );
    println!(
        "| way | quiet period | p50 | p99 | most | above it, p50 | p99 |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let versions = versions(3);
    for quiet in [ReloadOptions::default().quiet_period, Duration::from_millis(50)] {
        for way in Way::ALL {
            if way == Way::HardLink && quiet != ReloadOptions::default().quiet_period {
                continue; // it has no events, so that no quiet period is kept either
            }
            let took = runtime.block_on(rotate(way, quiet, &versions, rotations));
            let above = Figures(took.0.iter().map(|ms| ms - quiet.as_secs_f64() * 1e3).collect());
            let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| took.quantile(share));
            let row = format!("{p50:.1} | {p99:.1} | {most:.1}");
            if way == Way::HardLink {
                println!("| {way:?}, polled every {POLL:?} | none | {row} | | |");
            } else {
                println!("| {way:?} | {quiet:?} | {row} | {:.1} | {:.1} |", above.median(), above.quantile(0.99));
            }
        }
    }
}

async fn rotate(way: Way, quiet: Duration, versions: &[Version], rotations: usize) -> Figures {
    let scratch = tempfile::tempdir().unwrap();
    let mut directory = Directory::create(scratch.path(), way, &versions[0].files).unwrap();
    let reload = ReloadOptions {
        quiet_period: quiet,
        // Without a poll that could come first, where there are events.
        poll_interval: if way == Way::HardLink { POLL } else { Duration::from_secs(3600) },
        ..ReloadOptions::default()
    };
    let context = TlsContext::load(options(&directory), Some(reload)).await.unwrap();
    let mut published = context.subscribe();
    let endpoint = Endpoint::new("bench", Some(context), Default::default(), Default::default());
    let listener = Listener::bind(format!("{HOST}:0").parse().unwrap()).await.unwrap();
    let port = listener.local_addr().port();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_nothing(listener, endpoint.acceptor(&[ALPN]), stop.clone()));
    let connector = endpoint.connector(&[ALPN]);

    let mut took = Figures::default();
    for rotation in 1..=rotations {
        let version = &versions[rotation % versions.len()];
        published.borrow_and_update();
        directory.replace(&version.files).unwrap();
        let replaced = Instant::now();
        loop {
            published.changed().await.unwrap();
            if shown(&connector, port).await == version.certificate {
                break;
            }
        }
        took.0.push(replaced.elapsed().as_secs_f64() * 1e3);
    }
    stop.cancel();
    server.await.unwrap();
    took
}

/// The certificate that the server shows to a new connection.
async fn shown(connector: &Connector, port: u16) -> Vec<u8> {
    let connection = connector.connect(HOST, port).await.unwrap();
    connection.info().peer().and_then(|peer| peer.chain().first()).unwrap().to_vec()
}

async fn serve_nothing(listener: Listener, acceptor: Acceptor, stop: CancellationToken) {
    serve(listener, acceptor, stop, |mut connection| async move {
        let _ = connection.read_u8().await;
    })
    .await;
}

fn options(directory: &Directory) -> BundleOptions {
    let store = |name| StoreOptions::new(directory.file(name), Password::Inline(Secret::new(PASSWORD.into())));
    let mut options = BundleOptions::new("bench");
    options.keystore = Some(store("keystore.p12"));
    options.truststore = Some(store("truststore.p12"));
    options.client_auth = ClientAuth::Required;
    options
}

/// All of one size, for [`Way::InPlaceUnchangedTimes`].
fn versions(count: usize) -> Vec<Version> {
    let sizes = |version: &Version| version.files.values().map(Vec::len).collect::<Vec<_>>();
    let mut versions: Vec<Version> = Vec::new();
    while versions.len() < count {
        let version = Version::new();
        // A signature may be a byte shorter or longer than the last one.
        if versions.first().is_none_or(|first| sizes(first) == sizes(&version)) {
            versions.push(version);
        }
    }
    versions
}

impl Version {
    fn new() -> Self {
        let pair = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let certificate = || Certificate::from_der(pair.cert.der()).unwrap();
        let key = PrivateKey::from_der(&pair.signing_key.serialize_der()).unwrap();
        let chain = PrivateKeyChain::new(vec![1], key, [certificate()]);
        let files = FileSet::from([
            ("keystore.p12".to_owned(), store("identity", KeyStoreEntry::PrivateKeyChain(chain))),
            ("truststore.p12".to_owned(), store("trusted", KeyStoreEntry::Certificate(certificate()))),
        ]);
        Self { certificate: pair.cert.der().to_vec(), files }
    }
}

fn store(alias: &str, entry: KeyStoreEntry) -> Vec<u8> {
    let mut store = KeyStore::new();
    store.add_entry(alias, entry);
    store
        .writer(PASSWORD)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
        .encryption_iterations(ROUNDS)
        .mac_algorithm(MacAlgorithm::HmacSha256)
        .mac_iterations(ROUNDS)
        .write()
        .unwrap()
}
