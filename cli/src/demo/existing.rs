//! The demo's job on a cluster that is there already: what became of its rows, and of everybody's connections meanwhile.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, io};

use anyhow::Context;
use engine::batch;
use rest_gateway::dto::{JobDetails, ProcessTls, SubmitSql, TlsReport};
use serde::Serialize;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::Arguments;
use super::ending::{delivered, job_report};
use super::follow::follow;
use super::incidents::Incidents;
use super::job::{Job, rows_per_second};
use super::progress::Progress;
use super::report::{EndpointReport, JobReport};
use super::scenario::{JOB_GRACE, JOB_NAME, PARALLELISM, compare, save};
use super::settle::{TLS, last_reports};
use crate::commands::interrupt::Interrupt;
use crate::commands::local::EXIT_INTERRUPTED;
use crate::commands::output::{note, say};
use crate::commands::table::{Table, count};
use crate::probe::Kind;
use crate::rest::RestClient;

/// Runs the job with its files in a new directory below `shared`, which is removed unless something is wrong.
pub(super) async fn run(arguments: &Arguments, shared: &Path) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    let client = arguments.connection.client().await?;
    let (place, data) = (shared.to_owned(), arguments.data.clone());
    let prepared = spawn_blocking(move || prepare(&place, data.as_deref())).await?;
    let (scratch, job) = prepared.with_context(|| format!("cannot use {}", shared.display()))?;
    let mut submitted = None;
    let outcome = tokio::select! {
        outcome = play(arguments, &client, &job, &mut submitted) => Some(outcome),
        () = interrupt.received() => None,
    };
    // Its files are its own for as long as it runs.
    if let (Some(id), None | Some(Err(_))) = (&submitted, &outcome)
        && let Err(error) = client.cancel(id).await
    {
        note(format_args!("job {id} cannot be canceled: {error}"));
    }
    let report = match outcome {
        Some(Ok(report)) => report,
        Some(Err(error)) => return Err(error.context(format!("everything is left in {}", scratch.keep().display()))),
        None => {
            note(format_args!("interrupted; everything is left in {}", scratch.keep().display()));
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    say(format_args!("\n{report}"))?;
    save(&report, arguments.report.as_deref())?;
    if !report.passed {
        say(format_args!("everything is left in {}", scratch.keep().display()))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A directory of the job's own below `shared`, with its data.
fn prepare(shared: &Path, data: Option<&Path>) -> io::Result<(TempDir, Job)> {
    let scratch = tempfile::Builder::new().prefix("demo-").tempdir_in(shared.canonicalize()?)?;
    let job = Job::prepare(scratch.path(), data)?;
    Ok((scratch, job))
}

async fn play(
    arguments: &Arguments,
    client: &RestClient,
    job: &Job,
    submitted: &mut Option<String>,
) -> anyhow::Result<Report> {
    note("running the query by plain DataFusion, to know the answer");
    let oracle = batch::run(&job.sql(None)).await?;
    let pace = rows_per_second(oracle.rows_in, arguments.seconds)?;
    let before = client.get::<TlsReport>(TLS).await?.processes;
    let submission =
        SubmitSql { sql: job.sql(Some(pace)), name: Some(JOB_NAME.to_owned()), parallelism: Some(PARALLELISM) };
    let id = submitted.insert(client.submit(&submission).await?.jobid).clone();
    note(format_args!("job {id} at {}", client.url()));

    let mut incidents = Incidents::default();
    let mut progress = Progress::new(oracle.rows_in, arguments.seconds);
    let in_time = Duration::from_secs(arguments.seconds) + JOB_GRACE;
    let show = |details: &JobDetails| progress.show(delivered(details), None);
    let details = follow(client, &id, in_time, show, &mut incidents).await;
    progress.finish();
    let after = last_reports(client, before.len(), &mut incidents).await;
    let rows = compare(job, oracle, &mut incidents).await?;
    let job = job_report(client, &id, details, rows, &mut incidents).await;
    Ok(Report::new(job, &before, &after, incidents))
}

#[derive(Debug, Serialize)]
struct Report {
    passed: bool,
    /// What is not as it must be, in words.
    findings: Vec<String>,
    job: JobReport,
    endpoints: Vec<Meanwhile>,
}

/// One kind of connection over all processes: what has happened while the job ran.
#[derive(Debug, Serialize)]
struct Meanwhile {
    endpoint: &'static str,
    processes: usize,
    /// The lowest of the processes', before and after.
    generations: (u64, u64),
    handshakes: u64,
    failed_handshakes: u64,
    refused_connects: u64,
    renewed: u64,
    cut: u64,
}

impl Meanwhile {
    fn of(kind: Kind, before: &[ProcessTls], after: &[ProcessTls]) -> Self {
        let (before, after) = (EndpointReport::of(kind, before, &[]), EndpointReport::of(kind, after, &[]));
        // A process that was started again counts anew.
        let grown = |field: fn(&EndpointReport) -> u64| field(&after).saturating_sub(field(&before));
        Self {
            endpoint: after.endpoint,
            processes: after.processes,
            generations: (before.generation, after.generation),
            handshakes: grown(|report| report.handshakes),
            failed_handshakes: grown(|report| report.failed_handshakes),
            refused_connects: grown(|report| report.refused_connects),
            renewed: grown(|report| report.renewed),
            cut: grown(|report| report.cut),
        }
    }

    fn findings(&self, findings: &mut Vec<String>) {
        let faults = [
            (self.failed_handshakes, "failed handshakes"),
            (self.refused_connects, "refused connects"),
            (self.cut, "connections cut because they did not finish in time"),
        ];
        let faults = faults.into_iter().filter(|(number, _)| *number > 0);
        findings.extend(faults.map(|(number, what)| format!("{}: {number} {what}", self.endpoint)));
    }
}

impl Report {
    fn new(job: JobReport, before: &[ProcessTls], after: &[ProcessTls], incidents: Incidents) -> Self {
        let mut findings = Vec::new();
        job.findings(&mut findings);
        let reporting = after.iter().filter(|process| process.error.is_none()).count();
        if reporting != before.len() {
            findings.push(format!("{} processes were there, {reporting} report", before.len()));
        }
        let endpoints: Vec<_> = Kind::ALL.map(|kind| Meanwhile::of(kind, before, after)).into();
        endpoints.iter().for_each(|endpoint| endpoint.findings(&mut findings));
        findings.extend(incidents.into_words());
        Self { passed: findings.is_empty(), findings, job, endpoints }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = self.job.late_rows.map_or_else(|| "unknown".to_owned(), count);
        writeln!(f, "rows in    {}", count(self.job.rows_in))?;
        writeln!(f, "rows late  {late}")?;
        writeln!(f, "rows out   {}", count(self.job.rows.rows_out))?;
        writeln!(f, "exact      {}\n", if self.job.rows.exact { "yes" } else { "no" })?;
        let heads = ["ENDPOINT", "PROCESSES", "GENERATION", "HANDSHAKES", "FAILED", "REFUSED", "RENEWED", "CUT"];
        let mut table = Table::new(heads);
        for endpoint in &self.endpoints {
            let (before, after) = endpoint.generations;
            table.row([
                endpoint.endpoint.to_owned(),
                endpoint.processes.to_string(),
                format!("{before} -> {after}"),
                count(endpoint.handshakes),
                count(endpoint.failed_handshakes),
                count(endpoint.refused_connects),
                count(endpoint.renewed),
                count(endpoint.cut),
            ]);
        }
        writeln!(f, "{table}")?;
        if self.passed {
            return write!(f, "passed: nothing lost, doubled, refused or cut");
        }
        write!(f, "FAILED:")?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::super::report::tests::job;
    use super::*;

    fn gateway(handshakes: u64, failed_handshakes: u64) -> ProcessTls {
        let status = json!({
            "endpoint": "rest", "bundle": null, "handshakes": handshakes, "handshakes_resumed": 0,
            "failed_handshakes": failed_handshakes, "refused_connects": 0, "connections": 0,
            "connections_by_generation": {}, "renewed": 0, "killed": 0, "slowest_reload_ms": 0, "last_old_byte_ms": 0,
            "listener_rebinds": 0
        });
        let endpoints = vec![serde_json::from_value(status).unwrap()];
        ProcessTls { process: "rest-gateway".to_owned(), id: String::new(), endpoints, error: None }
    }

    #[test]
    fn what_was_before_the_job_is_not_the_jobs() {
        let report = Report::new(job(), &[gateway(10, 3)], &[gateway(17, 3)], Incidents::default());
        assert!(report.passed, "{report}");
        assert_eq!(report.endpoints.last().map(|rest| rest.handshakes), Some(7));
        let report = Report::new(job(), &[gateway(10, 3)], &[gateway(17, 4)], Incidents::default());
        assert_eq!(report.findings, ["rest: 1 failed handshakes"]);
    }

    #[test]
    fn a_process_that_does_not_report_any_more_is_a_finding() {
        let report = Report::new(job(), &[gateway(10, 3)], &[], Incidents::default());
        assert_eq!(report.findings, ["1 processes were there, 0 report"]);
    }
}
