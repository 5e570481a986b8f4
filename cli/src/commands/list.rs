//! `tidemill list`: all jobs the cluster remembers.

use std::process::ExitCode;

use rest_gateway::dto::JobsOverview;

use super::connection::Common;
use super::output::{print, say};
use super::table::{Table, millis};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.common.connection.client().await?;
    if arguments.common.json {
        say(format_args!("{:#}", client.get::<serde_json::Value>(PATH).await?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let overview: JobsOverview = client.get(PATH).await?;
    let mut table = Table::new(["JOB", "STATE", "DURATION", "TASKS", "NAME"]);
    for job in overview.jobs {
        let tasks = |state: &str| job.tasks.get(state).copied().unwrap_or(0);
        let tasks = format!("{}/{}", tasks("running"), tasks("total"));
        table.row([job.jid, job.state, millis(job.duration), tasks, job.name]);
    }
    print(table)?;
    Ok(ExitCode::SUCCESS)
}

const PATH: &str = "/v1/jobs/overview";
