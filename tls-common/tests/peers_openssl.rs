//! `openssl s_client` and `s_server`, and `curl`: they and we speak with each other through rotations, and not once one
//! of us is removed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/ours.rs"]
mod ours;
mod support;
#[path = "support/tools.rs"]
mod tools;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use hyper::body::Incoming;
use ours::{Met, Ours, PATIENCE, accept_refused, connect_refused, met};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use support::{PASSWORD, Pair, options_for};
use tls_common::{BundleOptions, ConnectionInfo, Fingerprint, Listener, PeerIdentity, ProtocolVersion, Rejection};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How others come to believe an identity, and in what format it is kept.
#[derive(Clone, Copy, Debug)]
enum Recipe {
    /// Flink's: by itself. All have one subject.
    SelfSignedInPkcs12,
    /// By an authority, each of its own.
    SignedInPem,
}

const RECIPES: [Recipe; 2] = [Recipe::SelfSignedInPkcs12, Recipe::SignedInPem];
const VERSIONS: [(ProtocolVersion, &str); 2] =
    [(ProtocolVersion::Tls12, "TLSv1.2"), (ProtocolVersion::Tls13, "TLSv1.3")];

/// What `curl` calls a version, and what we call it.
const HTTP: [(&str, &str); 2] = [("1.1", "HTTP/1.1"), ("2", "HTTP/2.0")];

/// A pair, with its authority if it has one.
struct Identity {
    pair: Pair,
    authority: Option<Pair>,
}

impl Identity {
    /// The certificate by which others believe it, in PEM.
    fn anchor(&self) -> &Pair {
        self.authority.as_ref().unwrap_or(&self.pair)
    }
}

impl Recipe {
    fn identity(self, name: &str) -> Identity {
        let names = ["localhost", "127.0.0.1"];
        if matches!(self, Self::SelfSignedInPkcs12) {
            return Identity { pair: Pair::for_names(&names), authority: None };
        }
        let mut issuer = CertificateParams::default();
        let authority = Pair::made(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            issuer = params.clone();
        });
        let issuer = Issuer::new(issuer, KeyPair::try_from(authority.key.as_slice()).unwrap());
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        let pair = Pair {
            cert: cert.der().to_vec(),
            key: key.serialize_der(),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        };
        Identity { pair, authority: Some(authority) }
    }
}

/// The files of our bundle and of the others.
struct Work {
    recipe: Recipe,
    directory: tempfile::TempDir,
}

impl Work {
    fn new(recipe: Recipe, identity: &Identity, trusted: &[&Identity]) -> Self {
        let work = Self { recipe, directory: tempfile::tempdir().unwrap() };
        work.show(identity);
        work.believe(trusted);
        work
    }

    /// Replaces our keystore, at once.
    fn show(&self, identity: &Identity) {
        std::fs::rename(self.identity("new", identity), self.path("keystore")).unwrap();
    }

    /// Replaces our truststore, at once. We have to believe ourselves, too.
    fn believe(&self, trusted: &[&Identity]) {
        let new = match self.recipe {
            Recipe::SelfSignedInPkcs12 => {
                let anchors: Vec<&Pair> = trusted.iter().map(|identity| identity.anchor()).collect();
                self.write("new", &support::truststore(&anchors, PASSWORD))
            }
            Recipe::SignedInPem => self.anchors("new", trusted),
        };
        std::fs::rename(new, self.path("truststore")).unwrap();
    }

    fn options(&self, version: ProtocolVersion) -> BundleOptions {
        let mut options = options_for(&self.path("keystore"), &self.path("truststore"));
        options.protocols = vec![version];
        // The certificates have names, and we look at them as everybody does.
        options.verify_hostname = true;
        options
    }

    /// A file with `identity` and its key, in the recipe's format.
    fn identity(&self, name: &str, identity: &Identity) -> PathBuf {
        match self.recipe {
            Recipe::SelfSignedInPkcs12 => self.write(name, &support::keystore(&identity.pair, PASSWORD)),
            Recipe::SignedInPem => {
                self.write(name, (identity.pair.key_pem.clone() + &identity.pair.cert_pem).as_bytes())
            }
        }
    }

    /// A file with whom to believe in PEM, the only format that others know for it.
    fn anchors(&self, name: &str, trusted: &[&Identity]) -> PathBuf {
        let anchors: String = trusted.iter().map(|identity| identity.anchor().cert_pem.as_str()).collect();
        self.write(name, anchors.as_bytes())
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// `openssl TOOL` with an identity of its own, which believes `trusted` and insists on it.
fn openssl(tool: &str, version: &str, identity: &Path, trusted: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args([tool, &format!("-{}", version.replace("TLSv", "tls").replace('.', "_")), "-verify_return_error"]);
    command.arg("-CAfile").arg(trusted).arg("-cert").arg(identity).arg("-key").arg(identity);
    command
        .args(["-pass", &format!("pass:{PASSWORD}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a client to its end. It says one line and has no end of input.
async fn run(mut client: Command) -> Output {
    let mut child = client.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Fails if the server has refused it already.
    let _ = stdin.write_all(b"hello\n").await;
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the client never ends").unwrap();
    drop(stdin);
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn s_client_and_our_acceptor_agree_through_a_rotation_until_the_client_is_removed() {
    if !tools::tool("openssl", "version") {
        return;
    }
    for recipe in RECIPES {
        for (version, name) in VERSIONS {
            let [one, two, alice, bob] = ["one", "two", "alice", "bob"].map(|name| recipe.identity(name));
            let work = Work::new(recipe, &one, &[&one, &two, &alice]);
            let ours = Ours::new(work.options(version)).await;
            let file = work.identity("alice", &alice);
            let address = format!("127.0.0.1:{}", ours.port());
            let talk = async |trusted: &Identity| {
                let mut client = openssl("s_client", name, &file, &work.anchors("trusted.pem", &[trusted]));
                // With -ign_eof no letter of our input is a command.
                client.args(["-ign_eof", "-verify_ip", "127.0.0.1", "-connect", &address]);
                let (output, outcome) = tokio::join!(run(client), ours.accept());
                (format!("{recipe:?} {name}: {}", text(&output)), outcome)
            };
            let alice = Met { fingerprint: alice.pair.fingerprint(), resumed: false };
            let agrees = async |server: &Identity| {
                let (output, outcome) = talk(server).await;
                assert_eq!(outcome.unwrap(), alice, "{output}");
                assert!(output.contains(&alice.fingerprint) && output.contains("\nhello\n"), "{output}");
                assert!(output.contains(&format!("New, {name}, Cipher is")), "{output}");
                let shown = CertificateDer::from_pem_slice(output.as_bytes()).unwrap();
                assert_eq!(Fingerprint::sha256_of(&shown).to_string(), server.pair.fingerprint(), "{output}");
            };
            agrees(&one).await;

            ours.follow(|| work.show(&two)).await;
            agrees(&two).await;
            // The old certificate is shown to nobody any more.
            let (output, outcome) = talk(&one).await;
            assert_eq!(outcome.unwrap_err().code(), "refused_by_peer", "{output}");

            ours.follow(|| work.believe(&[&two, &bob])).await;
            let (output, outcome) = talk(&two).await;
            assert_eq!(accept_refused(outcome), Rejection::Untrusted, "{output}");
            assert!(!output.contains(&alice.fingerprint), "{output}");
        }
    }
}

/// `openssl s_server -rev`, which gives back each line reversed; killed when dropped.
struct Server {
    port: u16,
    _process: Child,
    /// It must not close while the server writes.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    async fn start(version: &str, identity: &Path, trusted: &Path) -> Self {
        let mut command = openssl("s_server", version, identity, trusted);
        command.args(["-rev", "-Verify", "3", "-accept", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let listens = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("s_server has ended");
                if let Some(port) = line.strip_prefix("ACCEPT 127.0.0.1:") {
                    break port.parse().unwrap();
                }
            }
        };
        let port = timeout(PATIENCE, listens).await.expect("s_server never listens");
        Self { port, _process: process, _lines: lines }
    }
}

/// What a server that we reach gives back, or why it does not; who it is.
async fn reversed(ours: &Ours, server: &Server) -> std::io::Result<Met> {
    let mut connection = ours.connect(server.port).await.unwrap();
    let met = met(&connection);
    connection.write_all(b"hello\n").await?;
    connection.flush().await?;
    let mut answer = [0; 6];
    timeout(PATIENCE, connection.read_exact(&mut answer)).await.expect("s_server says nothing")?;
    assert_eq!(&answer, b"olleh\n");
    Ok(met)
}

#[tokio::test]
async fn s_server_and_our_connector_agree_through_rotations_of_both_until_the_server_is_removed() {
    if !tools::tool("openssl", "version") {
        return;
    }
    for recipe in RECIPES {
        for (version, name) in VERSIONS {
            let [bob, next_bob, old, new] = ["bob", "next bob", "old", "new"].map(|name| recipe.identity(name));
            let work = Work::new(recipe, &old, &[&old, &new, &bob]);
            let ours = Ours::new(work.options(version)).await;
            let start = async |identity, trusted| {
                let (identity, trusted) = (work.identity("bob", identity), work.anchors("trusted.pem", &[trusted]));
                Server::start(name, &identity, &trusted).await
            };
            let agrees = async |server: &Server, identity: &Identity| {
                let met = reversed(&ours, server).await.unwrap();
                assert_eq!(met.fingerprint, identity.pair.fingerprint(), "{recipe:?} {name}");
            };
            let refuses = async |server: &Server| {
                let rejection = connect_refused(ours.connect(server.port).await);
                assert_eq!(rejection, Rejection::Untrusted, "{recipe:?} {name}");
            };
            let (before, after) = (start(&bob, &old).await, start(&bob, &new).await);
            agrees(&before, &bob).await;
            refused_by(&ours, &after).await;

            // We rotate.
            ours.follow(|| work.show(&new)).await;
            agrees(&after, &bob).await;
            refused_by(&ours, &before).await;
            assert_eq!(ours.endpoint.status().failed_by_reason["refused_by_peer"], 2, "{recipe:?} {name}");

            // The server rotates: its trust is handed over first, and then taken away.
            let next = start(&next_bob, &new).await;
            refuses(&next).await;
            ours.follow(|| work.believe(&[&new, &bob, &next_bob])).await;
            agrees(&after, &bob).await;
            agrees(&next, &next_bob).await;
            ours.follow(|| work.believe(&[&new, &next_bob])).await;
            agrees(&next, &next_bob).await;
            refuses(&after).await;
        }
    }
}

/// The server refuses us, with TLS 1.3 only after the handshake.
async fn refused_by(ours: &Ours, server: &Server) {
    let refused = match ours.connect(server.port).await {
        // What we had sent might cost us the server's reason.
        Ok(mut connection) => timeout(PATIENCE, connection.read_u8()).await.expect("s_server lets us in").is_err(),
        Err(error) => error.to_string().contains("refused by the peer"),
    };
    assert!(refused);
}

#[tokio::test]
async fn curl_and_our_http_agree_through_a_rotation_until_the_client_is_removed() {
    if !tools::tool("curl", "--version") {
        return;
    }
    for recipe in RECIPES {
        for (version, name) in VERSIONS {
            let [one, two, alice, bob] = ["one", "two", "alice", "bob"].map(|name| recipe.identity(name));
            let work = Work::new(recipe, &one, &[&one, &two, &alice]);
            let ours = Ours::new(work.options(version)).await;
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let url = format!("https://localhost:{}/", listener.local_addr().port());
            let acceptor = ours.endpoint.acceptor(&["h2", "http/1.1"]);
            let service = tower::service_fn(who_asks_and_how);
            tokio::spawn(tls_common::http::serve(listener, acceptor, CancellationToken::new(), service));
            let file = work.identity("alice", &alice);
            let get = async |http: &str, trusted: &Identity| {
                let mut curl = Command::new("curl");
                // Whatever is set up on this machine.
                curl.args(["-q", "--noproxy", "*"]);
                curl.args(["--silent", "--show-error", &format!("--http{http}"), &url]);
                curl.args(["--tlsv1.2", "--tls-max", name.trim_start_matches("TLSv")]);
                curl.arg("--cacert").arg(work.anchors("trusted.pem", &[trusted]));
                match recipe {
                    Recipe::SelfSignedInPkcs12 => {
                        curl.args(["--cert-type", "P12", "--cert", &format!("{}:{PASSWORD}", file.display())])
                    }
                    Recipe::SignedInPem => curl.arg("--cert").arg(&file).arg("--key").arg(&file),
                };
                curl.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
                let output = run(curl).await;
                if output.status.success() { Ok(text(&output)) } else { Err(text(&output)) }
            };
            let both_agree = async |server: &Identity| {
                for (http, spoken) in HTTP {
                    let welcome = Ok(format!("{spoken} {}", alice.pair.fingerprint()));
                    assert_eq!(get(http, server).await, welcome, "{recipe:?} {name}");
                }
            };
            let failed = async |reason: &str, count: u64| {
                let counted = || ours.endpoint.status().failed_by_reason;
                // The server counts a failure a moment after the client has seen it.
                support::eventually(reason, || counted().get(reason) == Some(&count)).await;
            };
            both_agree(&one).await;

            ours.follow(|| work.show(&two)).await;
            both_agree(&two).await;
            get("1.1", &one).await.unwrap_err();
            failed("refused_by_peer", 1).await;

            ours.follow(|| work.believe(&[&two, &bob])).await;
            for (http, _) in HTTP {
                get(http, &two).await.unwrap_err();
            }
            failed("untrusted", 2).await;
        }
    }
}

/// Answers with the version of HTTP and the SHA-256 of the client's certificate.
async fn who_asks_and_how(request: http::Request<Incoming>) -> Result<http::Response<String>, Infallible> {
    let peer = request.extensions().get::<ConnectionInfo>().and_then(ConnectionInfo::peer);
    let peer = peer.and_then(PeerIdentity::fingerprint).unwrap_or_default();
    Ok(http::Response::new(format!("{:?} {peer}", request.version())))
}
