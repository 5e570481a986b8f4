//! `tidemill info <job>`: one job and its vertices.

use std::process::ExitCode;

use proto::ids::JobId;
use rest_gateway::dto::JobDetails;

use super::connection::Common;
use super::output::{print, say};
use super::table::{Table, count, millis};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The job's id: 32 hex digits
    job: JobId,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.common.connection.client().await?;
    let path = format!("/v1/jobs/{}", arguments.job);
    if arguments.common.json {
        say(format_args!("{:#}", client.get::<serde_json::Value>(&path).await?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let job: JobDetails = client.get(&path).await?;
    say(format_args!("{}  {}  {}  {}\n", job.jid, job.state, millis(job.duration), job.name))?;
    let mut table =
        Table::new(["STATUS", "PARALLELISM", "RECORDS IN", "RECORDS OUT", "BYTES IN", "BYTES OUT", "VERTEX"]);
    for vertex in job.vertices {
        let metrics = vertex.metrics;
        table.row([
            vertex.status,
            vertex.parallelism.to_string(),
            count(metrics.read_records),
            count(metrics.write_records),
            count(metrics.read_bytes),
            count(metrics.write_bytes),
            vertex.name,
        ]);
    }
    print(table)?;
    if let Some(cause) = client.cause(&arguments.job.to_string()).await? {
        say(format_args!("\n{cause}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
