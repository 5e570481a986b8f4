//! One scenario per test, each named by the sentence it proves. One binary, because linking it takes longest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bad_files;
mod blob;
mod compose;
mod conformance;
mod cuts;
mod garbage;
mod jobs;
mod overlap;
mod processes;
mod reload_off;
mod removed_peers;
mod rotation;
mod strangers;
mod upload;
mod without_tls;
