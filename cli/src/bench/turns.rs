//! The course of a benchmark: cells take turns, then everything is reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::arguments::{Arguments, Choice};
use super::cell::{Cell, Level};
use super::clusters::{Clusters, PREPARED_MAX, rotation_settings};
use super::job::Rotated;
use super::peer::Assignment;
use super::report::Report;
use super::run::Run;
use super::sample::Series;
use super::spin::spin;
use super::{job, markdown, pair, plot};
use crate::commands::interrupt::Interrupt;
use crate::commands::local::EXIT_INTERRUPTED;
use crate::commands::output::{note, say};
use crate::rest::RestClient;
use crate::rotation::{Rotator, RotatorOptions};

/// Measures, and writes the report; what could be measured before an interrupt or a failure is in it.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = Interrupt::new()?;
    let choice = arguments.choice();
    anyhow::ensure!(!choice.cells.is_empty(), "nothing is chosen");
    fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    // Before the minutes that it takes.
    tempfile::tempfile_in(&arguments.out)
        .with_context(|| format!("cannot write to {}: let everybody write there", arguments.out.display()))?;
    let scratch = tempfile::Builder::new().prefix("tidemill-bench-").tempdir()?;
    let existing = if arguments.existing_cluster { Some(arguments.connection.client().await?) } else { None };
    let mut bench = Bench {
        clusters: Clusters::new(scratch.path(), arguments.connection.settings()),
        existing,
        directory: scratch.path(),
        runs: Vec::new(),
    };
    let ended = tokio::select! {
        ended = bench.turns(&choice) => Some(ended),
        () = interrupt.received() => None,
    };
    let Bench { clusters, runs, .. } = bench;
    clusters.stop().await;
    let report = Report::new(choice, runs);
    save(&report, &arguments.out)?;
    say(markdown::render(&report))?;
    say(format_args!("report.json, report.md and throughput.svg are in {}", arguments.out.display()))?;
    match ended {
        Some(ended) => ended.context("the report has what was measured before").map(|()| ExitCode::SUCCESS),
        None => {
            note("interrupted: the report has what was measured before");
            Ok(ExitCode::from(EXIT_INTERRUPTED))
        }
    }
}

struct Bench<'a> {
    clusters: Clusters,
    /// Where jobs run, if it is not on clusters of our own.
    existing: Option<RestClient>,
    directory: &'a Path,
    runs: Vec<Vec<Run>>,
}

impl Bench<'_> {
    async fn turns(&mut self, choice: &Choice) -> anyhow::Result<()> {
        let bar = progress(choice);
        for turn in 1..=choice.repeats {
            self.runs.push(Vec::new());
            for cell in &choice.cells {
                bar.set_message(format!("turn {turn} of {}: {cell}", choice.repeats));
                if bar.is_hidden() {
                    note(format_args!("turn {turn} of {}: {cell}", choice.repeats));
                }
                let run = self.measure(cell, choice).await.with_context(|| cell.to_string())?;
                if let Some(turn) = self.runs.last_mut() {
                    turn.push(run);
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn measure(&mut self, cell: &Cell, choice: &Choice) -> anyhow::Result<Run> {
        let span = choice.warm_up + choice.window + MARGIN;
        let (processes, marks) = match (cell.level, &self.existing) {
            (Level::Raw | Level::Plane, _) => self.transfer(cell, span).await?,
            (Level::Job, None) => {
                let (watched, marks) = self.clusters.run(cell, span).await?;
                (watched.task_managers, marks)
            }
            (Level::Job, Some(client)) => {
                let watched = job::run(client, cell, span, Rotated::ByOthers).await?;
                (watched.task_managers, watched.rotations)
            }
        };
        let begun = begun(&processes).context("nothing has moved")?;
        let from = begun + millis(choice.warm_up);
        let run = Run::new(*cell, &processes, &marks, (from, from + millis(choice.window)));
        let run = run.context("too few readings: give a longer --window")?;
        anyhow::ensure!(
            run.seconds >= choice.window.as_secs_f64() * WINDOW_LEAST,
            "only {} s could be measured: the machine is overloaded, or --window is too short for the cluster's reports",
            run.seconds
        );
        Ok(run)
    }

    async fn transfer(&self, cell: &Cell, span: Duration) -> anyhow::Result<(BTreeMap<String, Series>, Vec<i64>)> {
        let scratch = tempfile::Builder::new().prefix("pair-").tempdir_in(self.directory)?;
        let directory = scratch.path().to_owned();
        let steps = cell.rotate_every().map_or(0, |every| span.as_millis().div_ceil(every.as_millis().max(1)));
        let steps = usize::try_from(steps).unwrap_or(usize::MAX).min(PREPARED_MAX);
        let rotator = spawn_blocking(move || {
            let mut rotator = Rotator::create(&directory, RotatorOptions::default())?;
            rotator.prepare_many(steps).map(|()| rotator)
        });
        let rotator = rotator.await??;
        let mut settings = rotator.settings();
        settings.retain(|(key, _)| key.starts_with("security.ssl.internal"));
        settings.extend(rotation_settings(cell.policy));
        let stop = CancellationToken::new();
        let _stop_if_we_fail = stop.clone().drop_guard();
        let rotating = tokio::spawn(spin(rotator, cell.rotate_every(), stop.clone()));
        let Cell { level, transport, record_bytes, .. } = *cell;
        let watched = pair::run(Assignment { level, transport, record_bytes, port: None, settings }, span).await?;
        stop.cancel();
        let (_, marks) = rotating.await??;
        let ends = [("receiver", watched.receiver), ("sender", watched.sender)];
        Ok((ends.map(|(name, series)| (name.to_owned(), series)).into(), marks))
    }
}

/// When the first bytes had arrived.
fn begun(processes: &BTreeMap<String, Series>) -> Option<i64> {
    let firsts = processes.values().filter_map(|series| series.iter().find(|sample| sample.bytes > 0));
    firsts.map(|sample| sample.time_ms).min()
}

fn progress(choice: &Choice) -> ProgressBar {
    let measurements = u64::from(choice.repeats) * choice.cells.len() as u64;
    let bar = ProgressBar::new(measurements);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left; {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn save(report: &Report, directory: &Path) -> anyhow::Result<()> {
    let write = |name: &str, content: Vec<u8>| {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    write("report.json", serde_json::to_vec_pretty(report)?)?;
    write("report.md", markdown::render(report).into_bytes())?;
    write("throughput.svg", plot::render(report).context("cannot draw throughput.svg")?.into_bytes())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Readings do not come at the window's ends; less than this share of it is no measurement.
const WINDOW_LEAST: f64 = 0.5;

/// A little longer than the window, so that it is full.
const MARGIN: Duration = Duration::from_millis(500);
