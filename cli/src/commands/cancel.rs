//! `tidemill cancel <job>`.

use std::process::ExitCode;

use proto::ids::JobId;

use super::connection::Connection;
use super::output::say;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The job's id: 32 hex digits
    job: JobId,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.connection.client().await?.cancel(&arguments.job.to_string()).await?;
    say(format_args!("{} is being canceled", arguments.job))?;
    Ok(ExitCode::SUCCESS)
}
