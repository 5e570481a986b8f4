//! `tidemill run script.sql`: submit a job and, if asked to, wait for its end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rest_gateway::dto::{JobDetails, SubmitSql};

use super::connection::Connection;
use crate::rest::{RestClient, RestError, is_final};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File with the SQL script; `-` reads it from standard input
    script: PathBuf,
    /// Name of the job; default: the file's name
    #[arg(long)]
    name: Option<String>,
    /// Parallel subtasks of each vertex; default: `parallelism.default`
    #[arg(long)]
    parallelism: Option<u32>,
    /// Wait for the job's end; fails if it does not finish
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let sql = read(&arguments.script).with_context(|| format!("cannot read {}", arguments.script.display()))?;
    let stem = arguments.script.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != "-");
    let name = arguments.name.or(stem.map(str::to_owned));
    let client = arguments.connection.client().await?;
    let job = client.submit(&SubmitSql { sql, name, parallelism: arguments.parallelism }).await?.jobid;
    println!("{job}");
    if !arguments.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let state = until_ended(&client, &job).await?;
    println!("{state}");
    if let Some(cause) = client.cause(&job).await? {
        eprintln!("{cause}");
    }
    Ok(if state == "FINISHED" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for the job's state until it has ended; its last state.
async fn until_ended(client: &RestClient, job: &str) -> Result<String, RestError> {
    loop {
        let details: JobDetails = client.get(&format!("/v1/jobs/{job}")).await?;
        if is_final(&details.state) {
            return Ok(details.state);
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}

fn read(script: &Path) -> std::io::Result<String> {
    if script.as_os_str() == "-" {
        let mut sql = String::new();
        std::io::stdin().read_to_string(&mut sql)?;
        return Ok(sql);
    }
    std::fs::read_to_string(script)
}

/// Pause between two looks at a job that is waited for.
const WAIT_POLL: Duration = Duration::from_millis(500);
