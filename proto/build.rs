//! Compiles `proto/**/*.proto` with protox, a protobuf compiler in Rust: the build needs no `protoc`.

use std::error::Error;

const ROOT: &str = "proto";
const FILES: [&str; 5] = [
    "tidemill/v1/common.proto",
    "tidemill/v1/dispatcher.proto",
    "tidemill/v1/job_master.proto",
    "tidemill/v1/resource_manager.proto",
    "tidemill/v1/task_executor.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
