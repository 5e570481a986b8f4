//! The REST gateway's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    config::bootstrap::main("rest-gateway", rest_gateway::run)
}
