//! The JobManager's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    config::bootstrap::main("jobmanager", jobmanager::run)
}
