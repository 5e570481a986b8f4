//! The blob server's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    config::bootstrap::main("blob-server", blob_server::run)
}
