//! A cluster of real processes over loopback, for tests that prove what the parts promise together.
//!
//! ```text
//!  Stores (files on disk) ──▶ Cluster (jobmanager, taskmanagers, blob-server, rest-gateway as child processes)
//!                                │ ready files: addresses      │ RestClient: jobs, `/v1/tls`
//!                                ▼                             ▼
//!  Client, OpenSsl, Sslyze (foreign) ─▶ every port           Count (a job whose result is known without running it)
//! ```
//!
//! The binaries are those that `cargo test --workspace` puts beside the test. Nothing here sleeps and hopes:
//! [`eventually`] asks again until what is awaited is there, and its bound only ends a test that has failed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test harness: what fails here is the test's failure")]

mod authority;
mod client;
mod cluster;
mod count;
mod cutter;
mod eventually;
mod openssl;
mod port;
mod process;
mod secured;
mod sslyze;
mod stores;
mod tools;

pub use authority::{Authority, Member};
pub use client::{Client, Conversation};
pub use cluster::{Builder, Cluster, Fed};
pub use count::Count;
pub use cutter::Cutter;
pub use eventually::{eventually, within};
pub use openssl::{OpenSsl, Spoken};
pub use port::Port;
pub use process::{Process, Role, binary};
pub use secured::Secured;
pub use sslyze::{Scan, Sslyze};
pub use stores::{Internal, KEYSTORE, PASSWORD, Rest, TRUSTSTORE};
pub use tools::tool;
