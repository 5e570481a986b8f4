//! `tidemill run script.sql`: submit a job and, if asked to, wait for its end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rest_gateway::dto::{JobDetails, SubmitSql};
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::output::{note, say};
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
    say(&job)?;
    if !arguments.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let state = until_ended(&client, &job).await?;
    say(&state)?;
    if let Some(cause) = patiently(async || client.cause(&job).await).await? {
        note(cause);
    }
    Ok(if state == "FINISHED" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for the job's state until it has ended; its last state.
async fn until_ended(client: &RestClient, job: &str) -> Result<String, RestError> {
    loop {
        let details: JobDetails = patiently(async || client.get(&format!("/v1/jobs/{job}")).await).await?;
        if is_final(&details.state) {
            return Ok(details.state);
        }
        sleep(WAIT_POLL).await;
    }
}

/// Asks again while there is no answer: a gateway that restarts, or a network that is gone for a moment, does not end
/// the job. Gives up [`PATIENCE`] after the first failure.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, RestError>) -> Result<T, RestError> {
    let mut give_up = None;
    loop {
        match ask().await {
            Err(error) if error.may_pass() && Instant::now() < *give_up.get_or_insert(Instant::now() + PATIENCE) => {
                sleep(WAIT_POLL).await;
            }
            result => return result,
        }
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
/// How long there may be no answer while a job is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use http::StatusCode;

    use super::*;

    fn refused(status: StatusCode) -> RestError {
        RestError::Refused { status, message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_may_be_away_for_a_while() {
        let back = Instant::now() + PATIENCE - Duration::from_secs(1);
        let answer = patiently(async || match Instant::now() < back {
            true => Err(RestError::Timeout),
            false => Ok("FINISHED"),
        });
        assert_eq!(answer.await.unwrap(), "FINISHED");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_stays_away_is_given_up() {
        let begun = Instant::now();
        let answer = patiently(async || Err::<(), _>(refused(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(answer.await.is_err());
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final() {
        let mut asked = 0;
        let answer = patiently(async || {
            asked += 1;
            Err::<(), _>(refused(StatusCode::NOT_FOUND))
        });
        assert!(answer.await.is_err());
        assert_eq!(asked, 1);
    }
}
