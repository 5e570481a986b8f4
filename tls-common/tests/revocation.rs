//! A peer that the CRL file revokes, over real sockets: it goes, it does not come back, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use support::crl::crl;
use support::{quick, until};
use tls_common::{
    BundleOptions, ClientAuth, Connection, ConnectionPolicy, DrainReason, Endpoint, EstablishedConnections,
    HandshakeLimits, Listener, Password, ProtocolVersion, StoreOptions, TlsContext, quic, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const ALPN: &[&str] = &["echo"];

/// Only ends a test that has failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// More than any test here makes.
const MAX_CONNECTIONS: usize = 64;

/// A CA with a directory for what it makes.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = params("root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("root.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Self { directory, issuer: Issuer::new(params, key) };
        authority.revoke(&[]);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Options of a member of this CA's circle, without a list.
    fn member(&self, name: &str, serial: u64, protocol: ProtocolVersion) -> BundleOptions {
        let mut params = params(name);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.path(&format!("{name}.pem"));
        std::fs::write(&path, key.serialize_pem() + &certificate.pem()).unwrap();
        let mut options = BundleOptions::new(name);
        options.keystore = Some(StoreOptions::new(path, Password::None));
        options.truststore = Some(StoreOptions::new(self.path("root.pem"), Password::None));
        options.client_auth = ClientAuth::Required;
        options.verify_hostname = false;
        options.protocols = vec![protocol];
        options
    }

    fn revoke(&self, serials: &[u64]) {
        let temporary = self.path("crl.new");
        std::fs::write(&temporary, crl(&self.issuer, serials)).unwrap();
        std::fs::rename(temporary, self.path("crl.pem")).unwrap();
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn endpoint(tls: &TlsContext, established: EstablishedConnections) -> Endpoint {
    let policy = ConnectionPolicy { established, ..Default::default() };
    let limits = HandshakeLimits { timeout: std::time::Duration::from_secs(60), ..Default::default() };
    Endpoint::new("echo", Some(tls.clone()), policy, limits)
}

/// Echoes until the peer ends or the connection drains; reports each drain with its peer's fingerprint.
async fn start(endpoint: &Endpoint) -> (SocketAddr, mpsc::Receiver<(String, DrainReason)>) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr();
    let (report, drains) = mpsc::channel(MAX_CONNECTIONS);
    let handler = move |mut connection: Connection| {
        let report = report.clone();
        async move {
            let info = connection.info().clone();
            let mut buffer = [0; 64];
            loop {
                tokio::select! {
                    read = connection.read(&mut buffer) => match read {
                        Ok(count @ 1..) => {
                            connection.write_all(&buffer[..count]).await.unwrap();
                            connection.flush().await.unwrap();
                        }
                        _ => return,
                    },
                    reason = info.draining() => {
                        let fingerprint = info.peer().unwrap().fingerprint().unwrap();
                        report.try_send((fingerprint, reason)).unwrap();
                        let _ = connection.shutdown().await;
                        return;
                    }
                }
            }
        }
    };
    tokio::spawn(serve(listener, endpoint.acceptor(ALPN), CancellationToken::new(), handler));
    (addr, drains)
}

async fn next_drain(drains: &mut mpsc::Receiver<(String, DrainReason)>) -> (String, DrainReason) {
    tokio::time::timeout(PATIENCE, drains.recv()).await.expect("nobody was drained").unwrap()
}

async fn ping(connection: &mut Connection) -> std::io::Result<()> {
    connection.write_all(b"ping").await?;
    connection.flush().await?;
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

async fn connected(endpoint: &Endpoint, addr: SocketAddr) -> Connection {
    let mut connection = endpoint.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    ping(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_revoked_client_is_drained_and_refused_and_all_others_stay_untouched() {
    for protocol in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let authority = Authority::new();
        let mut options = authority.member("server", 1, protocol);
        options.crl = Some(authority.path("crl.pem"));
        let context = TlsContext::load(options, Some(quick())).await.unwrap();
        let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
        let (addr, mut drains) = start(&serving).await;
        let mut clients = Vec::new();
        for (name, serial) in [("alice", 2), ("bob", 3), ("mallory", 4)] {
            let context = TlsContext::load(authority.member(name, serial, protocol), None).await.unwrap();
            let dialling = endpoint(&context, EstablishedConnections::Keep);
            drop(connected(&dialling, addr).await);
            let connection = connected(&dialling, addr).await;
            assert!(connection.is_resumed(), "{protocol:?}, {name}: there is a session to come back with");
            clients.push((context.status().fingerprint.unwrap(), dialling, connection));
        }

        authority.revoke(&[4, 99]);
        let (drained, reason) = next_drain(&mut drains).await;
        assert_eq!(drained, clients[2].0, "{protocol:?}");
        assert!(matches!(&reason, DrainReason::Untrusted(why) if why.contains("serial number 04")), "{reason}");
        assert!(matches!(clients[2].2.read(&mut [0; 1]).await, Ok(0) | Err(_)), "mallory's connection ends");
        for (_, _, connection) in &mut clients[..2] {
            ping(connection).await.unwrap();
            assert!(!connection.info().is_draining());
        }
        let status = serving.status();
        assert_eq!((status.renewed, status.killed), (1, 0), "{protocol:?}");
        assert!(drains.try_recv().is_err(), "nobody else was told to go");

        for _ in 0..2 {
            let refused = match clients[2].1.connector(ALPN).connect("127.0.0.1", addr.port()).await {
                Err(_) => true,
                Ok(mut connection) => ping(&mut connection).await.is_err(),
            };
            assert!(refused, "{protocol:?}: resumed or not");
        }
        connected(&clients[0].1, addr).await;
    }
}

/// Over QUIC the same: who has a session to come back with, and is revoked meanwhile, is refused.
#[tokio::test]
async fn a_revoked_client_is_drained_and_its_session_is_refused_over_quic() {
    let authority = Authority::new();
    let mut options = authority.member("server", 1, ProtocolVersion::Tls13);
    options.crl = Some(authority.path("crl.pem"));
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let acceptor = serving.quic_acceptor(ALPN);
    let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(quic::serve(socket, acceptor, CancellationToken::new(), |connection: quic::Connection| async move {
        let info = connection.info().clone();
        loop {
            let stream = tokio::select! {
                stream = connection.accept_uni() => stream,
                _ = info.draining() => return,
            };
            let Ok(mut stream) = stream else { return };
            let Ok(bytes) = stream.read_to_end(64).await else { return };
            let Ok(mut echo) = connection.open_uni().await else { return };
            if echo.write_all(&bytes).await.is_err() || echo.finish().is_err() {
                return;
            }
        }
    }));
    async fn ping(connection: &quic::Connection) -> Result<(), Box<dyn std::error::Error>> {
        let mut send = connection.open_uni().await?;
        send.write_all(b"ping").await?;
        send.finish()?;
        assert_eq!(connection.accept_uni().await?.read_to_end(64).await?, b"ping");
        Ok(())
    }
    let mut clients = Vec::new();
    for (name, serial) in [("alice", 2), ("mallory", 4)] {
        let context = TlsContext::load(authority.member(name, serial, ProtocolVersion::Tls13), None).await.unwrap();
        let dialling = endpoint(&context, EstablishedConnections::Keep);
        let connector = dialling.quic_connector(ALPN).unwrap();
        // Until there is a session to come back with: a ticket follows the handshake, and datagrams get lost.
        let connection = tokio::time::timeout(PATIENCE, async {
            loop {
                let connection = connector.connect("127.0.0.1", port).await.unwrap();
                ping(&connection).await.unwrap();
                if connection.info().is_resumed() {
                    return connection;
                }
            }
        });
        let connection = connection.await.expect("no session is ever resumed");
        clients.push((connector, connection, dialling));
    }
    support::eventually("the others are gone", || serving.status().connections == 2).await;

    authority.revoke(&[4]);
    let [(_, alices, _), (connector, mallorys, dialling)] = &clients[..] else { unreachable!() };
    tokio::time::timeout(PATIENCE, mallorys.closed()).await.expect("mallory's connection ends");
    assert_eq!(serving.status().drained_by_reason, std::collections::BTreeMap::from([("untrusted".to_owned(), 1)]));
    ping(alices).await.unwrap();
    assert!(!alices.info().is_draining());
    for refusals in 1..=2 {
        if let Ok(connection) = connector.connect("127.0.0.1", port).await {
            assert!(!connection.info().is_resumed(), "its session must be worth nothing");
            assert!(ping(&connection).await.is_err());
        }
        // Both sides count a moment later.
        support::eventually("the refusal is counted", || {
            let counts = [&serving, dialling].map(|endpoint| endpoint.status().failed_handshakes);
            counts == [refusals; 2]
        })
        .await;
    }
}

#[tokio::test]
async fn a_revoked_server_is_left_by_its_clients() {
    let authority = Authority::new();
    let protocol = ProtocolVersion::Tls13;
    let mut servers = Vec::new();
    for (name, serial) in [("good", 1), ("revoked", 2)] {
        let context = TlsContext::load(authority.member(name, serial, protocol), None).await.unwrap();
        let serving = endpoint(&context, EstablishedConnections::Keep);
        let (addr, _) = start(&serving).await;
        servers.push((serving, addr));
    }
    let mut options = authority.member("client", 3, protocol);
    options.crl = Some(authority.path("crl.pem"));
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    let dialling = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let mut to_good = connected(&dialling, servers[0].1).await;
    let to_revoked = connected(&dialling, servers[1].1).await;

    authority.revoke(&[2]);
    let reason = tokio::time::timeout(PATIENCE, to_revoked.info().draining()).await.expect("never drained");
    assert!(matches!(&reason, DrainReason::Untrusted(why) if why.contains("revoked")), "{reason}");
    ping(&mut to_good).await.unwrap();
    assert!(!to_good.info().is_draining());
    let refusal = dialling.connector(ALPN).connect("127.0.0.1", servers[1].1.port()).await.unwrap_err();
    assert!(refusal.to_string().contains("revoked"), "{refusal}");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_leaves_the_last_good_one_in_force() {
    let authority = Authority::new();
    let mut options = authority.member("server", 1, ProtocolVersion::Tls13);
    options.crl = Some(authority.path("crl.pem"));
    authority.revoke(&[4]);
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let (addr, _drains) = start(&serving).await;
    std::fs::write(authority.path("crl.pem"), "-----BEGIN X509 CRL-----\nhalf").unwrap();
    let status = until(&context, |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("crl.pem"));
    let mallory = TlsContext::load(authority.member("mallory", 4, ProtocolVersion::Tls13), None).await.unwrap();
    let dialling = endpoint(&mallory, EstablishedConnections::Keep);
    let mut connection = dialling.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(ping(&mut connection).await.is_err());
}

#[tokio::test]
async fn an_unpinned_peer_is_drained_when_the_pin_file_changes() {
    let authority = Authority::new();
    let pins = authority.path("pins");
    let protocol = ProtocolVersion::Tls13;
    let mut clients = Vec::new();
    for (name, serial) in [("alice", 2), ("bob", 3)] {
        let context = TlsContext::load(authority.member(name, serial, protocol), None).await.unwrap();
        clients.push((context.status().fingerprint.unwrap(), endpoint(&context, EstablishedConnections::Keep)));
    }
    let mut options = authority.member("server", 1, protocol);
    let server_certificate = std::fs::read_to_string(authority.path("server.pem")).unwrap();
    let own = {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        tls_common::Fingerprint::sha256_of(&CertificateDer::from_pem_slice(server_certificate.as_bytes()).unwrap())
    };
    options.pins = vec![own]; // the self-test wants it
    options.pins_file = Some(pins.clone());
    std::fs::write(&pins, format!("{}\n{}\n", clients[0].0, clients[1].0)).unwrap();
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let (addr, mut drains) = start(&serving).await;
    let mut alice = connected(&clients[0].1, addr).await;
    let _bob = connected(&clients[1].1, addr).await;
    std::fs::write(&pins, format!("{} # alone\n", clients[0].0)).unwrap();
    let (drained, reason) = next_drain(&mut drains).await;
    assert_eq!(drained, clients[1].0);
    assert!(matches!(&reason, DrainReason::Untrusted(why) if why.contains("pinned")), "{reason}");
    ping(&mut alice).await.unwrap();
    assert_eq!(serving.status().renewed, 1);
}

/// The endpoint must not take an accepted connection's past not-after for its deadline.
#[tokio::test]
async fn a_connection_of_an_expired_pair_that_is_granted_stays() {
    let authority = Authority::new();
    let mut expired = params("flink.internal");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = expired.self_signed(&key).unwrap();
    let path = authority.path("expired.pem");
    std::fs::write(&path, key.serialize_pem() + &certificate.pem()).unwrap();
    let mut options = authority.member("unused", 1, ProtocolVersion::Tls13);
    let store = StoreOptions::new(path, Password::None);
    (options.keystore, options.truststore) = (Some(store.clone()), Some(store));
    options.leniency.expired = true;
    let context = TlsContext::load(options, None).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let (addr, mut drains) = start(&serving).await;
    let mut connection = connected(&serving, addr).await;
    for _ in 0..10 {
        ping(&mut connection).await.unwrap();
    }
    assert!(drains.try_recv().is_err() && !connection.info().is_draining());
}
