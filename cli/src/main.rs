//! The `tidemill` binary; everything is in the library beside it.

/// Payloads come and go by the hundred kilobytes, and often end on another thread than they began on. The system's
/// allocator gives such memory back each time, and clearing it anew cost half of the data plane's throughput.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tidemill::main()
}
