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
//! What this crate refuses to do: it knows no configuration format, no role of any cluster and no wire protocol beyond
//! HTTP. It never falls back to an older identity by itself and never widens trust beyond what the files say.

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
pub use endpoint::connection::{Connection, ConnectionInfo, DrainReason, PeerIdentity};
pub use endpoint::connector::Connector;
pub use endpoint::error::{ConnectError, HandshakeError};
pub use endpoint::policy::{ConnectionPolicy, EstablishedConnections, HandshakeLimits, StreamTuning};
pub use endpoint::{Endpoint, EndpointStatus};
pub use error::{MaterialError, Rejection};
pub use generation::Generation;
pub use listener::Listener;
pub use options::{
    BundleOptions, ClientAuth, Fingerprint, KeySizes, Leniency, Password, ProtocolVersion, StoreKind, StoreOptions,
};
pub use secret::Secret;
pub use serve::serve;
