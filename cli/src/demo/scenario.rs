//! The course of a demo, from an empty directory to the report.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use config::Configuration;
use engine::batch::{self, Comparison, Oracle};
use rest_gateway::dto::{JobDetails, ProcessTls, SubmitSql, TlsReport};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Arguments;
use super::job::{Job, rows_per_second};
use super::probe::Probers;
use super::progress::Progress;
use super::report::{JobReport, Observations, Report, STALE_AFTER};
use super::rotation::{self, Rotations};
use crate::cluster::{Cluster, ClusterOptions, Role};
use crate::commands::interrupt::Interrupt;
use crate::commands::local::EXIT_INTERRUPTED;
use crate::rest::{RestClient, is_final};
use crate::rotation::Rotator;

/// Runs the demo; the exit code says whether it passed.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    let scratch = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
    let outcome = tokio::select! {
        outcome = play(&arguments, scratch.path()) => outcome,
        () = interrupt.received() => {
            eprintln!("interrupted");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(error.context(format!("everything is left in {}", scratch.keep().display()))),
    };
    let Outcome { mut report, cluster, ca_pem } = outcome;
    if arguments.keep {
        print!("\n{report}");
        invite(&cluster, &ca_pem);
        interrupt.received().await;
        cluster.stop().await;
    } else {
        for name in cluster.stop().await {
            report.add_finding(format!("{name} did not end cleanly after SIGTERM"));
        }
        print!("\n{report}");
    }
    if let Some(file) = &arguments.report {
        let json = serde_json::to_vec_pretty(&report)?;
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !report.passed {
        println!("everything is left in {}", scratch.keep().display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A demo that came to its end, for better or worse.
struct Outcome {
    report: Report,
    cluster: Cluster,
    ca_pem: PathBuf,
}

async fn play(arguments: &Arguments, directory: &Path) -> anyhow::Result<Outcome> {
    let job = Job::prepare(directory, arguments.data.as_deref()).context("cannot use the data")?;
    eprintln!("running the query by plain DataFusion, to know the answer");
    let oracle = batch::run(&job.sql(None)).await?;
    let pace = rows_per_second(oracle.rows_in, arguments.seconds)?;

    eprintln!("making identities and starting the cluster in {}", directory.display());
    let (tls, options) = (directory.join("tls"), rotation::options(arguments.rotate_every));
    let rotator = spawn_blocking(move || Rotator::create(&tls, options)).await??;
    let ca_pem = rotator.ca_pem();
    let cluster = Cluster::start(cluster_options(directory, &rotator)?).await?;
    let configuration = Configuration::load(&cluster.config_dir(), &[])?;
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

    let mut incidents = Vec::new();
    let mut progress = Progress::new(oracle.rows_in, arguments.seconds);
    let details = watch_job(&client, &id, &rotations, &mut progress, &mut incidents).await?;
    progress.finish();
    stop.cancel();
    let rotator = rotating.await??;

    let on_disk = rotator.on_disk();
    let processes = settle(&client, &probers, on_disk, &mut incidents).await?;
    let rows = compare(&job, oracle, &mut incidents).await?;
    let job = JobReport {
        cause: if details.state == "FINISHED" { None } else { client.cause(&id).await? },
        state: details.state,
        duration_ms: details.duration,
        rows,
    };
    let report = Report::new(Observations {
        rotate_every: arguments.rotate_every,
        job,
        rotations: *rotations.borrow(),
        processes,
        probed: probers.stop().await,
        incidents,
    });
    Ok(Outcome { report, cluster, ca_pem })
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

/// Follows the job until it has ended. A request that fails is an incident: rotations must not be felt here either.
async fn watch_job(
    client: &RestClient,
    id: &str,
    rotations: &watch::Receiver<Rotations>,
    progress: &mut Progress,
    incidents: &mut Vec<String>,
) -> anyhow::Result<JobDetails> {
    let path = format!("/v1/jobs/{id}");
    loop {
        match client.get::<JobDetails>(&path).await {
            Ok(details) if is_final(&details.state) => return Ok(details),
            Ok(details) => {
                let source = details.vertices.first();
                progress.show(source.map_or(0, |source| source.metrics.write_records), *rotations.borrow());
            }
            Err(error) if incidents.len() < MAX_INCIDENTS => incidents.push(format!("a request failed: {error}")),
            Err(error) => return Err(error).context("the REST gateway does not answer any more"),
        }
        sleep(JOB_POLL).await;
    }
}

/// Waits until every process and every port uses what is on disk; the last report of the cluster.
async fn settle(
    client: &RestClient,
    probers: &Probers,
    on_disk: (&str, &str),
    incidents: &mut Vec<String>,
) -> anyhow::Result<Vec<ProcessTls>> {
    let mut processes = Vec::new();
    let settled = timeout(STALE_AFTER, async {
        loop {
            processes = client.get::<TlsReport>("/v1/tls").await?.processes;
            if left_behind(&processes, on_disk).is_empty() && probers.all_current() {
                return anyhow::Ok(());
            }
            sleep(SETTLE_POLL).await;
        }
    });
    match settled.await {
        Ok(result) => result?,
        Err(_) => {
            incidents.extend(left_behind(&processes, on_disk));
            if !probers.all_current() {
                incidents.push(format!("a port did not serve the last certificate within {STALE_AFTER:?}"));
            }
        }
    }
    Ok(processes)
}

/// Who does not use the certificates on disk (internal, REST), in words.
fn left_behind(processes: &[ProcessTls], on_disk: (&str, &str)) -> Vec<String> {
    let mut behind = Vec::new();
    for process in processes {
        let name = format!("{} {}", process.process, process.id);
        if let Some(error) = &process.error {
            behind.push(format!("{name}: {error}"));
        }
        for status in &process.endpoints {
            let expected = if status.endpoint == "rest" { on_disk.1 } else { on_disk.0 };
            match &status.bundle {
                None => behind.push(format!("{name}: {} is not secured", status.endpoint)),
                Some(bundle) if bundle.fingerprint.as_deref() != Some(expected) => {
                    let error = bundle.last_error.as_deref().unwrap_or("no error");
                    behind.push(format!(
                        "{name}: {} is left at generation {} ({error})",
                        status.endpoint, bundle.generation
                    ));
                }
                Some(_) => {}
            }
        }
    }
    behind
}

/// Compares the sink with the oracle; a sink that cannot be read has lost everything.
async fn compare(job: &Job, oracle: Oracle, incidents: &mut Vec<String>) -> anyhow::Result<Comparison> {
    let (output, rows_in, missing) = (job.output.clone(), oracle.rows_in, oracle.rows.len() as u64);
    let compared = spawn_blocking(move || batch::compare(&output, &oracle)).await?;
    Ok(compared.unwrap_or_else(|error| {
        incidents.push(format!("the sink cannot be read: {error}"));
        Comparison { rows_in, rows_out: 0, missing, extra: 0, exact: false }
    }))
}

fn invite(cluster: &Cluster, ca_pem: &Path) {
    for address in cluster.addresses(Role::RestGateway, "rest") {
        let url = format!("https://localhost:{}", address.port());
        println!("\nthe cluster stays up at {url}");
        println!("  curl --cacert {} {url}/v1/overview", ca_pem.display());
        println!("  tidemill tls status --config-dir {}", cluster.config_dir().display());
    }
    println!("logs in {}; Ctrl-C stops the cluster", cluster.log_dir().display());
}

const JOB_NAME: &str = "departures";
/// All four slots.
const PARALLELISM: u32 = 4;
const JOB_POLL: Duration = Duration::from_millis(250);
const SETTLE_POLL: Duration = Duration::from_millis(200);
/// Failed requests that the demo bears before it gives up.
const MAX_INCIDENTS: usize = 20;
