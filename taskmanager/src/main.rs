//! The TaskManager's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    config::bootstrap::main("taskmanager", taskmanager::run)
}
