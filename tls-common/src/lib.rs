//! Certificates in, connections out: TLS whose identity, trust and pins change on disk while it serves.
//!
//! ```text
//!  files on disk ──▶ watch ──▶ context ──▶ Generation ──▶ Endpoint ──▶ Acceptor / Connector ──▶ Connection
//!  (a bundle)       (hints)   (read, digest,  (immutable:    (counters, live   (takes the current     (remembers its
//!                              canary, swap)   key + trust +  connections,      generation per         generation; told
//!                                              sessions)      policy)           connection)            to drain)
//! ```
//!
//! A *bundle* is every file that must change together for one endpoint class: keystore, truststore, password files,
//! pins, revocation lists.
//! A [`Generation`] is one immutable object built from one consistent read of a bundle. It holds the trust anchors, the
//! pins **and** the session stores, because a resumed TLS session skips the certificate verifier: trust and sessions
//! must live and die together. Readers take the current generation per connection and never wait for a reload.
//!
//! The smallest whole: a server and a client of one bundle, which follow its file from here on.
//!
//! ```
//! use tls_common::{BundleOptions, ClientAuth, Endpoint, Listener, Password, ReloadOptions, StoreOptions, TlsContext, serve};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("identity.pem");
//! # let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
//! # std::fs::write(&path, pair.cert.pem() + &pair.signing_key.serialize_pem())?;
//! let mut bundle = BundleOptions::new("demo");
//! bundle.keystore = Some(StoreOptions::new(&path, Password::None)); // PKCS12 or PEM: what it is, its content tells
//! bundle.truststore = Some(StoreOptions::new(&path, Password::None));
//! bundle.client_auth = ClientAuth::Required;
//! let tls = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;
//! let endpoint = Endpoint::new("echo", Some(tls), Default::default(), Default::default());
//!
//! let listener = Listener::bind("127.0.0.1:0".parse()?).await?;
//! let port = listener.local_addr().port();
//! tokio::spawn(serve(listener, endpoint.acceptor(&["echo"]), Default::default(), |connection| async move {
//!     let (mut from, mut to) = tokio::io::split(connection);
//!     let _ = tokio::io::copy(&mut from, &mut to).await;
//! }));
//!
//! let mut connection = endpoint.connector(&["echo"]).connect("127.0.0.1", port).await?;
//! connection.write_all(b"hello").await?;
//! connection.flush().await?;
//! let mut answer = [0; 5];
//! connection.read_exact(&mut answer).await?;
//! assert_eq!(&answer, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has servers and clients for axum, tonic, plain streams and QUIC to copy from.
//!
//! What this crate refuses to do: it knows no configuration format, no role of any cluster and no wire protocol beyond
//! HTTP. It never falls back to an older identity by itself and never widens trust beyond what the files say.

#![deny(missing_docs)]

mod canary;
mod clock;
pub mod context;
pub mod endpoint;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generation;
#[cfg(feature = "tonic")]
pub mod grpc;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod options;
mod pins;
#[cfg(feature = "quic")]
pub mod quic;
mod read;
mod secret;
mod serve;
mod session;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
pub mod watch;

pub use context::{BundleStatus, ReloadOptions, TlsContext};
pub use endpoint::acceptor::Acceptor;
pub use endpoint::connection::Connection;
pub use endpoint::connector::Connector;
pub use endpoint::departure::DrainReason;
pub use endpoint::error::{ConnectError, HandshakeError};
pub use endpoint::info::{ConnectionInfo, PeerIdentity};
pub use endpoint::policy::{ConnectionPolicy, EstablishedConnections, HandshakeLimits, StreamTuning};
pub use endpoint::{Endpoint, EndpointStatus};
pub use error::{MaterialError, Rejection};
pub use generation::Generation;
pub use listener::Listener;
pub use options::{
    BundleOptions, ClientAuth, Fingerprint, KeySizes, Leniency, Password, ProtocolVersion, Provider, StoreKind,
    StoreOptions,
};
pub use secret::Secret;
pub use serve::serve;
