//! `tidemill cancel <job>`.

use std::process::ExitCode;

use super::connection::Connection;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The job's id: 32 hex digits
    job: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.connection.client().await?.cancel(&arguments.job).await?;
    println!("{} is being canceled", arguments.job);
    Ok(ExitCode::SUCCESS)
}
