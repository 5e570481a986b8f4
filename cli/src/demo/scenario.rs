//! The course of a demo, from an empty directory to the report.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use engine::batch::{self, Comparison, Oracle};
use rest_gateway::dto::{JobDetails, SubmitSql};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Arguments;
use super::ending::{delivered, job_report};
use super::follow::follow;
use super::incidents::Incidents;
use super::job::{Job, rows_per_second};
use super::probe::Probers;
use super::progress::Progress;
use super::report::{Observations, Report};
use super::rotation::{self, Rotations};
use super::settle::{last_reports, settle};
use crate::cluster::{Cluster, ClusterOptions};
use crate::commands::interrupt::Interrupt;
use crate::commands::local::EXIT_INTERRUPTED;
use crate::commands::output::{note, print, say};
use crate::commands::warn_of;
use crate::rest::RestClient;
use crate::rotation::Rotator;

/// On a cluster of our own.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    let scratch = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
    let outcome = tokio::select! {
        outcome = play(&arguments, scratch.path()) => outcome,
        () = interrupt.received() => {
            note("interrupted");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(error.context(format!("everything is left in {}", scratch.keep().display()))),
    };
    let Outcome { mut report, cluster, url, ca_pem } = outcome;
    if arguments.keep {
        print(format_args!("\n{report}"))?;
        save(&report, arguments.report.as_deref())?;
        invite(&cluster, &url, &ca_pem)?;
        interrupt.received().await;
    }
    for name in cluster.stop().await {
        let finding = format!("{name} did not end cleanly after SIGTERM");
        if arguments.keep {
            note(&finding);
        }
        report.add_finding(finding);
    }
    if !arguments.keep {
        print(format_args!("\n{report}"))?;
    }
    save(&report, arguments.report.as_deref())?;
    if !report.passed {
        say(format_args!("everything is left in {}", scratch.keep().display()))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A demo that came to its end, for better or worse.
struct Outcome {
    report: Report,
    cluster: Cluster,
    /// Of the REST gateway.
    url: String,
    ca_pem: PathBuf,
}

async fn play(arguments: &Arguments, directory: &Path) -> anyhow::Result<Outcome> {
    let job = Job::prepare(directory, arguments.data.as_deref()).context("cannot use the data")?;
    note("running the query by plain DataFusion, to know the answer");
    let oracle = batch::run(&job.sql(None)).await?;
    let pace = rows_per_second(oracle.rows_in, arguments.seconds)?;

    note(format_args!("making identities and starting the cluster in {}", directory.display()));
    let (tls, options) = (directory.join("tls"), rotation::options(arguments.rotate_every));
    let rotator = spawn_blocking(move || Rotator::create(&tls, options)).await??;
    let ca_pem = rotator.ca_pem();
    let cluster = Cluster::start(cluster_options(directory, &rotator)?).await?;
    let configuration = cluster.configuration()?;
    warn_of(&configuration);
    let client = RestClient::from_config(&configuration).await?;

    let timelines = rotation::begin(&rotator, Instant::now());
    let probers = Probers::start(&cluster, &configuration, &timelines).await?;
    let submission =
        SubmitSql { sql: job.sql(Some(pace)), name: Some(JOB_NAME.to_owned()), parallelism: Some(PARALLELISM) };
    let id = client.submit(&submission).await?.jobid;
    let (done, rotations) = watch::channel(Rotations::default());
    let stop = CancellationToken::new();
    let _stop_if_we_fail = stop.clone().drop_guard();
    let rotating = tokio::spawn(rotation::rotate(rotator, arguments.rotate_every, timelines, done, stop.clone()));

    let mut incidents = Incidents::default();
    let mut progress = Progress::new(oracle.rows_in, arguments.seconds);
    let in_time = Duration::from_secs(arguments.seconds) + JOB_GRACE;
    let show = |details: &JobDetails| progress.show(delivered(details), Some(*rotations.borrow()));
    let details = follow(&client, &id, in_time, show, &mut incidents).await;
    progress.finish();
    stop.cancel();
    let rotator = rotating.await??;

    settle(&client, &probers, rotator.on_disk(), &mut incidents).await;
    // Their handshakes are in the reports.
    let probed = probers.stop().await;
    let processes = last_reports(&client, cluster.processes().len(), &mut incidents).await;
    let rows = compare(&job, oracle, &mut incidents).await?;
    let job = job_report(&client, &id, details, rows, &mut incidents).await;
    let report = Report::new(Observations {
        rotate_every: arguments.rotate_every,
        job,
        rotations: *rotations.borrow(),
        processes_started: cluster.processes().len(),
        processes,
        probed,
        incidents: incidents.into_words(),
    });
    Ok(Outcome { report, cluster, url: client.url(), ca_pem })
}

fn cluster_options(directory: &Path, rotator: &Rotator) -> anyhow::Result<ClusterOptions> {
    let mut settings = rotator.settings();
    let own = [("security.ssl.reload", "true"), ("security.ssl.reload.established-connections", "renew")];
    settings.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Ok(ClusterOptions {
        executable: env::current_exe()?,
        directory: directory.to_owned(),
        task_managers: 2,
        slots: 2,
        rest_port: 0,
        settings,
    })
}

/// Compares the sink with the oracle; a sink that cannot be read has lost everything.
pub(super) async fn compare(job: &Job, oracle: Oracle, incidents: &mut Incidents) -> anyhow::Result<Comparison> {
    let (output, rows_in, missing) = (job.output.clone(), oracle.rows_in, oracle.rows.len() as u64);
    let compared = spawn_blocking(move || batch::compare(&output, &oracle)).await?;
    Ok(compared.unwrap_or_else(|error| {
        incidents.note(format!("the sink cannot be read: {error}"));
        Comparison { rows_in, rows_out: 0, missing, extra: 0, exact: false }
    }))
}

/// Writes the report as JSON, if somebody wants it.
pub(super) fn save(report: &impl Serialize, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, serde_json::to_vec_pretty(report)?).with_context(|| format!("cannot write {}", file.display()))
}

/// Says how to talk to the cluster from any directory.
fn invite(cluster: &Cluster, url: &str, ca_pem: &Path) -> anyhow::Result<()> {
    let (executable, config_dir) = (env::current_exe()?, cluster.config_dir());
    say(format_args!("\nthe cluster stays up at {url}"))?;
    say(format_args!("  curl --cacert {} {url}/v1/overview", ca_pem.display()))?;
    say(format_args!("  {} tls status --config-dir {}", executable.display(), config_dir.display()))?;
    say(format_args!("logs in {}; Ctrl-C stops the cluster", cluster.log_dir().display()))
}

pub(super) const JOB_NAME: &str = "departures";
/// All four slots.
pub(super) const PARALLELISM: u32 = 4;
/// How much longer the job may take than it is paced to.
pub(super) const JOB_GRACE: Duration = Duration::from_secs(60);
