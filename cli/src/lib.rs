//! The `tidemill` command: REST client, identities, a cluster on one machine, the demo and the benchmark.
//!
//! The binary is one file that can be every process of a cluster: `tidemill jobmanager` runs the same code as the
//! binary `jobmanager`. So [`cluster`] starts whole clusters as children of its own executable, and [`rotation`] makes
//! and replaces their certificates; tests use both.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody listens: use commands::output")]

mod bench;
pub mod cluster;
mod commands;
mod demo;
mod probe;
pub mod rest;
pub mod rotation;

pub use commands::main;
