//! The `tidemill` binary; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    tidemill::main()
}
