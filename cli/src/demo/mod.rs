//! `tidemill demo`: a job on real data, on a secured cluster whose certificates are replaced all the time.
//!
//! ```text
//!  scratch directory ─▶ oracle ─▶ cluster ─▶ job ──▶ FINISHED ─▶ settled ─▶ last reports ─▶ verdict, exit code
//!                    (plain DataFusion)       ├ rotator: replaces the files
//!                                             └ probers: connect to every endpoint and see what is served
//! ```

mod arguments;
mod ending;
mod existing;
mod findings;
mod follow;
mod incidents;
mod job;
mod probe;
mod progress;
mod report;
mod rotation;
mod scenario;
mod settle;
mod timeline;

use std::process::ExitCode;

pub(crate) use arguments::Arguments;

/// Runs the demo; the exit code says whether it passed.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let (true, Some(directory)) = (arguments.existing_cluster, &arguments.dir) {
        return existing::run(&arguments, directory).await;
    }
    scenario::run(arguments).await
}
