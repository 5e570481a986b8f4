//! The TaskManager's process.

use std::process::ExitCode;

/// Payloads come and go by the hundred kilobytes, and often end on another thread than they began on. The system's
/// allocator gives such memory back each time, and clearing it anew cost half of the data plane's throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    config::bootstrap::main("taskmanager", taskmanager::run)
}
