//! Java's `SSLSocket`, `SSLServerSocket` and `HttpsURLConnection` with the very store files that we use, made by
//! keytool: both directions, through rotations, and not once one of us is removed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/ours.rs"]
mod ours;
mod support;
#[path = "support/tools.rs"]
mod tools;

use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ours::{Met, Ours, PATIENCE, accept_refused, connect_refused, met};
use support::{PASSWORD, options_for};
use tls_common::{BundleOptions, ConnectionInfo, HandshakeError, Listener, PeerIdentity, ProtocolVersion, Rejection};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// A Java process that does what `java/Peer.java` says; killed when dropped. Its files are in a directory of its own.
struct Java {
    directory: tempfile::TempDir,
    io: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _process: Child,
}

impl Java {
    /// `None`, with a note, where the machine has none.
    async fn start() -> Option<Self> {
        // A mere run-time environment cannot run a source file.
        if !tools::tool("java", "-version") || !tools::tool("javac", "-version") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new("java")
            .args(["--add-exports", "java.base/sun.security.tools.keytool=ALL-UNNAMED"])
            // It starts sooner.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            // Passwords are stretched less: nothing here is secret, and there are many stores.
            .args(["certPbe", "keyPbe", "mac"].map(|what| format!("-Dkeystore.pkcs12.{what}IterationCount=100")))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/java/Peer.java"))
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let io = Mutex::new((process.stdin.take().unwrap(), answers));
        Some(Self { directory, io, _process: process })
    }

    /// What it answers, without the "ok", or how it failed.
    async fn ask(&self, command: &str) -> Result<String, String> {
        let (commands, answers) = &mut *self.io.lock().await;
        commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, answers.next_line()).await.ok().and_then(|line| line.unwrap());
        let log = || std::fs::read_to_string(self.path("log")).unwrap();
        let answer = answer.unwrap_or_else(|| panic!("Java does not answer {command:?}: {}", log()));
        answer.strip_prefix("ok ").map(str::to_owned).ok_or(answer)
    }

    async fn keytool(&self, store_type: &str, arguments: &str) {
        // Java's older format asks for the key's own password.
        let key = if arguments.starts_with("-genkeypair") { format!(" -keypass {PASSWORD}") } else { String::new() };
        let command = format!("keytool {arguments} -storetype {store_type} -storepass {PASSWORD}{key}");
        self.ask(&command).await.unwrap();
    }

    /// Adds the certificate `NAME.cer` to a truststore, which need not be there yet.
    async fn trust(&self, store_type: &str, name: &str, truststore: &str) {
        let import = format!("-importcert -noprompt -alias {name} -keystore {truststore} -file {name}.cer");
        self.keytool(store_type, &import).await;
    }

    /// An authority of this name: `NAME.ca`, `NAME.cer` and `NAME.trust`.
    async fn authority(&self, store_type: &str, name: &str) {
        let own = format!("-alias ca -keystore {name}.ca");
        self.keytool(store_type, &format!("-genkeypair {own} -dname CN={name} -keyalg EC -ext bc=ca:true")).await;
        self.keytool(store_type, &format!("-exportcert {own} -file {name}.cer")).await;
        self.trust(store_type, name, &format!("{name}.trust")).await;
    }

    /// `NAME.ks` and `NAME.cer`, for `localhost`, signed by an authority as on Flink's page.
    async fn signed(&self, store_type: &str, authority: &str, name: &str) {
        let own = format!("-alias own -keystore {name}.ks");
        let named = "-ext SAN=dns:localhost";
        let by = format!("-gencert -alias ca -keystore {authority}.ca {named} -infile {name}.csr -outfile {name}.cer");
        self.keytool(store_type, &format!("-genkeypair {own} -dname CN={name} {named} -keyalg EC")).await;
        self.keytool(store_type, &format!("-certreq {own} -file {name}.csr")).await;
        self.keytool(store_type, &by).await;
        self.trust(store_type, authority, &format!("{name}.ks")).await;
        self.keytool(store_type, &format!("-importcert -noprompt {own} -file {name}.cer")).await;
    }

    /// SHA-256 of the certificate `NAME.cer`.
    fn fingerprint(&self, name: &str) -> String {
        let certificate = std::fs::read(self.path(&format!("{name}.cer"))).unwrap();
        tls_common::Fingerprint::sha256_of(&certificate).to_string()
    }

    /// Puts a copy of a file in the place of another, at once.
    fn put(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path("new")).unwrap();
        std::fs::rename(self.path("new"), self.path(to)).unwrap();
    }

    /// Our options with these stores.
    fn options(&self, version: &str, keystore: &str, truststore: &str) -> BundleOptions {
        let mut options = options_for(&self.path(keystore), &self.path(truststore));
        let version = if version == "TLSv1.2" { ProtocolVersion::Tls12 } else { ProtocolVersion::Tls13 };
        options.protocols = vec![version];
        options
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A client and a server in Java, with the same stores and one version of TLS.
struct Peer<'a> {
    java: &'a Java,
    version: &'static str,
    keystore: String,
    truststore: String,
    /// SHA-256 of its certificate.
    shows: String,
    port: u16,
}

impl<'a> Peer<'a> {
    async fn new(java: &'a Java, version: &'static str, keystore: &str, truststore: &str, shows: &str) -> Self {
        let (keystore, truststore, shows) = (keystore.to_owned(), truststore.to_owned(), shows.to_owned());
        let mut peer = Self { java, version, keystore, truststore, shows, port: 0 };
        peer.forgets().await;
        peer.port = java.ask(&format!("listen {}", peer.keystore)).await.unwrap().parse().unwrap();
        peer
    }

    /// The client begins anew: who resumes a session is not shown a new certificate.
    async fn forgets(&self) {
        let Self { version, keystore, truststore, .. } = self;
        let context = format!("context {keystore} {version} {keystore} {truststore} {PASSWORD}");
        self.java.ask(&context).await.unwrap();
    }

    /// Its client connects to our acceptor: what came of it on both sides.
    async fn connects(&self, ours: &Ours) -> (Result<String, String>, Result<Met, HandshakeError>) {
        let command = format!("connect {} {}", self.keystore, ours.port());
        tokio::join!(self.java.ask(&command), ours.accept())
    }

    /// The same; each sees who the other is.
    async fn comes(&self, ours: &Ours) -> Met {
        let (answer, met) = self.connects(ours).await;
        let what = format!("{} {}: {answer:?}", self.keystore, self.version);
        let met = met.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(met.fingerprint, self.shows, "{what}");
        assert_eq!(answer, Ok(format!("{} hello {} {}", self.shows, self.version, own(ours))), "{what}");
        met
    }

    /// Our connector reaches its server; each sees who the other is, and we present the certificate `shown`.
    async fn is_reached(&self, ours: &Ours, shown: &str) -> Met {
        let (greeting, met) = self.greets(ours).await.unwrap();
        assert_eq!(greeting, format!("{} {shown}", self.version), "{}", self.keystore);
        assert_eq!(met.fingerprint, self.shows, "{}", self.keystore);
        met
    }

    /// Both directions.
    async fn agrees(&self, ours: &Ours) {
        self.forgets().await;
        self.comes(ours).await;
        self.is_reached(ours, &own(ours)).await;
    }

    /// What its server says of us, if it does not refuse us.
    async fn greets(&self, ours: &Ours) -> std::io::Result<(String, Met)> {
        let connection = ours.connect(self.port).await.map_err(std::io::Error::other)?;
        let met = met(&connection);
        let talk = async {
            let mut connection = BufReader::new(connection);
            let (mut greeting, mut echo) = (String::new(), String::new());
            // What we sent before might cost us the reason of a refusal.
            connection.read_line(&mut greeting).await?;
            connection.write_all(b"hello\n").await?;
            connection.flush().await?;
            connection.read_line(&mut echo).await?;
            assert_eq!(echo, "hello\n");
            connection.shutdown().await?;
            Ok((greeting.trim().to_owned(), met))
        };
        timeout(PATIENCE, talk).await.expect("Java says nothing")
    }

    /// Its client refuses us.
    async fn refuses(&self, ours: &Ours) {
        let (answer, outcome) = self.connects(ours).await;
        assert_eq!(outcome.unwrap_err().code(), "refused_by_peer", "{}: {answer:?}", self.keystore);
        assert!(answer.unwrap_err().contains("SSLHandshakeException"), "{}", self.keystore);
    }

    /// We refuse both: the client for this reason, the server as untrusted.
    async fn is_refused(&self, ours: &Ours, reason: Rejection) {
        let (answer, outcome) = self.connects(ours).await;
        assert_eq!(accept_refused(outcome), reason, "{}: {answer:?}", self.keystore);
        answer.unwrap_err();
        assert_eq!(connect_refused(ours.connect(self.port).await), Rejection::Untrusted, "{}", self.keystore);
    }
}

/// SHA-256 of our certificate.
fn own(ours: &Ours) -> String {
    ours.context.status().fingerprint.unwrap()
}

/// Flink's recipe for internal connections: one self-signed pair in one file, everybody's keystore and truststore.
#[tokio::test]
async fn with_one_self_signed_store_for_all_java_and_we_rotate_by_handing_the_trust_over() {
    let Some(java) = Java::start().await else { return };
    for (store_type, key) in [("PKCS12", "-keyalg RSA -keysize 2048"), ("JKS", "-keyalg EC")] {
        let store = |name: &str| format!("{store_type}.{name}");
        // Beside the two a "handed" one, old but knowing the new, and a "rotated" one, new but still knowing the old.
        for (name, with_other) in [("old", "handed"), ("new", "rotated")] {
            let own = format!("-alias {name} -keystore {}", store(name));
            java.keytool(store_type, &format!("-genkeypair {own} -dname CN=flink.internal {key}")).await;
            java.keytool(store_type, &format!("-exportcert {own} -file {name}.cer")).await;
            java.put(&store(name), &store(with_other));
        }
        java.trust(store_type, "new", &store("handed")).await;
        java.trust(store_type, "old", &store("rotated")).await;

        for version in VERSIONS {
            let peer = async |name: &str, certificate: &str| {
                Peer::new(&java, version, &store(name), &store(name), &java.fingerprint(certificate)).await
            };
            let (old, handed) = (peer("old", "old").await, peer("handed", "old").await);
            let (rotated, new) = (peer("rotated", "new").await, peer("new", "new").await);
            java.put(&store("old"), "store");
            let ours = Ours::new(java.options(version, "store", "store")).await;

            old.agrees(&ours).await;
            handed.agrees(&ours).await;
            // Too soon.
            rotated.is_refused(&ours, Rejection::Untrusted).await;
            new.refuses(&ours).await;

            for (next, welcome) in [("handed", [&old, &handed, &rotated]), ("rotated", [&handed, &rotated, &new])] {
                ours.follow(|| java.put(&store(next), "store")).await;
                for peer in welcome {
                    peer.agrees(&ours).await;
                }
            }
            // While nothing changes sessions are resumed, in both directions.
            handed.agrees(&ours).await;
            assert!(handed.comes(&ours).await.resumed, "{version}");
            assert!(handed.is_reached(&ours, &own(&ours)).await.resumed, "{version}");

            ours.follow(|| java.put(&store("new"), "store")).await;
            rotated.agrees(&ours).await;
            new.agrees(&ours).await;
            // Too late; its session does not help it.
            handed.is_refused(&ours, Rejection::Untrusted).await;
            old.refuses(&ours).await;
        }
    }
}

/// The recipe with an authority, and names that are looked at.
#[tokio::test]
async fn with_authorities_java_sees_what_we_renewed_and_is_refused_once_its_own_is_removed() {
    let Some(java) = Java::start().await else { return };
    for store_type in ["PKCS12", "JKS"] {
        let name = |name: &str| format!("{store_type}.{name}").to_lowercase();
        let [our_ca, java_ca, both] = ["our-ca", "java-ca", "both.trust"].map(name);
        let [first, renewed, theirs] = ["first", "renewed", "theirs"].map(name);
        for authority in [&our_ca, &java_ca] {
            java.authority(store_type, authority).await;
            java.trust(store_type, authority, &both).await;
        }
        java.signed(store_type, &our_ca, &first).await;
        java.signed(store_type, &our_ca, &renewed).await;
        java.signed(store_type, &java_ca, &theirs).await;
        let (keystore, truststore) = (format!("{theirs}.ks"), format!("{our_ca}.trust"));

        for version in VERSIONS {
            let peer = Peer::new(&java, version, &keystore, &truststore, &java.fingerprint(&theirs)).await;
            java.put(&format!("{first}.ks"), "keystore");
            java.put(&both, "truststore");
            let mut options = java.options(version, "keystore", "truststore");
            options.verify_hostname = true;
            let ours = Ours::new(options).await;
            let port = web(&ours).await;
            let get = async |host: &str| {
                peer.forgets().await;
                java.ask(&format!("https {keystore} {host} {port}")).await
            };
            let agree = async || {
                assert_eq!(get("localhost").await, Ok(format!("{} {version} {}", peer.shows, own(&ours))));
                peer.agrees(&ours).await;
            };
            agree().await;
            ours.follow(|| java.put(&format!("{renewed}.ks"), "keystore")).await;
            assert_eq!(own(&ours), java.fingerprint(&renewed));
            agree().await;

            // The certificates are for `localhost` only, and both sides see to it.
            let refused = get("127.0.0.1").await.unwrap_err();
            assert!(refused.contains("No subject alternative names"), "{refused}");
            let outcome = ours.endpoint.connector(&[]).connect("127.0.0.1", peer.port).await;
            assert!(matches!(connect_refused(outcome), Rejection::WrongName { .. }), "{version}");

            ours.follow(|| java.put(&format!("{our_ca}.trust"), "truststore")).await;
            // Java does not even present what none of the authorities that we name has signed.
            peer.is_refused(&ours, Rejection::NoCertificate).await;
            get("localhost").await.unwrap_err();
        }
    }
}

/// Serves HTTP at the port returned: answers with the SHA-256 of the client's certificate.
async fn web(ours: &Ours) -> u16 {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().port();
    let service = tower::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let peer = request.extensions().get::<ConnectionInfo>().and_then(ConnectionInfo::peer);
        let fingerprint = peer.and_then(PeerIdentity::fingerprint).unwrap_or_default();
        Ok::<_, Infallible>(http::Response::new(fingerprint))
    });
    let acceptor = ours.endpoint.acceptor(&["h2", "http/1.1"]);
    tokio::spawn(tls_common::http::serve(listener, acceptor, CancellationToken::new(), service));
    port
}

/// What Java can say and what it cannot (see `generation::overlap`): a server names its authorities and is shown the
/// identity that one of them issued; a client says nothing and is shown the current one.
#[tokio::test]
async fn within_the_overlap_java_servers_are_shown_the_identity_that_an_authority_of_theirs_issued() {
    let Some(java) = Java::start().await else { return };
    for authority in ["old-ca", "new-ca", "java-ca"] {
        java.authority("PKCS12", authority).await;
    }
    // We believe ourselves, before and after, and Java's authority at first.
    java.put("old-ca.trust", "ours.trust");
    java.trust("PKCS12", "new-ca", "ours.trust").await;
    java.put("ours.trust", "all.trust");
    java.trust("PKCS12", "java-ca", "all.trust").await;
    java.signed("PKCS12", "old-ca", "old").await;
    java.signed("PKCS12", "new-ca", "new").await;
    // Their own identity is no part of this.
    for peer in ["knows-old", "knows-new", "knows-both"] {
        java.signed("PKCS12", "java-ca", peer).await;
    }
    let [old, new] = ["old", "new"].map(|name| java.fingerprint(name));
    for version in VERSIONS {
        for overlap in [Duration::ZERO, Duration::from_secs(3600)] {
            let peer = async |name: &str, truststore: &str| {
                Peer::new(&java, version, &format!("{name}.ks"), truststore, &java.fingerprint(name)).await
            };
            let knows_old = peer("knows-old", "old-ca.trust").await;
            let knows_new = peer("knows-new", "new-ca.trust").await;
            let knows_both = peer("knows-both", "ours.trust").await;
            java.put("old.ks", "keystore");
            java.put("all.trust", "truststore");
            let mut options = java.options(version, "keystore", "truststore");
            options.overlap = overlap;
            let ours = Ours::new(options).await;
            knows_old.agrees(&ours).await;
            knows_both.agrees(&ours).await;
            assert_eq!(own(&ours), old);

            ours.follow(|| java.put("new.ks", "keystore")).await;
            assert_eq!(own(&ours), new);
            knows_new.agrees(&ours).await;
            knows_both.agrees(&ours).await;
            if overlap.is_zero() {
                knows_old.greets(&ours).await.unwrap_err();
                assert_eq!(ours.endpoint.status().failed_by_reason["refused_by_peer"], 1, "{version}");
            } else {
                knows_old.is_reached(&ours, &old).await;
            }
            knows_old.forgets().await;
            knows_old.refuses(&ours).await;

            // Whom we believed before is our own affair: nobody has to say anything for it.
            ours.follow(|| java.put("ours.trust", "truststore")).await;
            if overlap.is_zero() {
                knows_both.is_refused(&ours, Rejection::NoCertificate).await;
            } else {
                knows_both.agrees(&ours).await;
                knows_old.is_reached(&ours, &old).await;
            }
        }
    }
}
