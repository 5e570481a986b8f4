//! `tidemill bench peer`: one end of a transfer between two processes, for the levels below a job.
//!
//! It reads its assignment, one line of JSON, from standard input, says on standard output where it can be reached (if
//! it is the receiving end) and then what it has moved so far, a line of JSON each [`TICK`]. It ends when its standard
//! input does.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use config::{Configuration, bootstrap, tls};
use serde::{Deserialize, Serialize};
use taskmanager::usage;
use tls_common::Endpoint;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::cell::{Level, Transport};
use super::sample::Sample;
use super::{plane, raw};

/// Between two samples.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// What a peer is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) level: Level,
    pub(crate) transport: Transport,
    pub(crate) record_bytes: usize,
    /// Where the receiving end is; absent: this is it.
    pub(crate) port: Option<u16>,
    /// Options of the configuration, for the identity and what happens when it changes.
    pub(crate) settings: Vec<(String, String)>,
}

/// A line on standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// Where the receiving end listens.
    Port(u16),
    Sample(Sample),
}

/// What a transfer counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Delays of frames since the last sample, microseconds.
    pub(super) delays_us: Mutex<Vec<u32>>,
}

impl Counters {
    pub(super) fn moved(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn delay_p99_us(&self) -> u64 {
        let mut delays = std::mem::take(&mut *self.delays_us.lock().unwrap_or_else(PoisonError::into_inner));
        delays.sort_unstable();
        let index = delays.len().saturating_sub(1) * 99 / 100;
        delays.get(index).copied().unwrap_or_default().into()
    }
}

/// What a transfer can tell beyond its counters.
pub(super) type Extra = Box<dyn Fn(&mut Sample) + Send>;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let assignment: Assignment = serde_json::from_str(&line).context("the assignment on standard input")?;
    let mut runtime = match assignment.level {
        // Nothing is faster for one stream: whoever waits for it is who is woken.
        Level::Raw => tokio::runtime::Builder::new_current_thread(),
        Level::Plane | Level::Job => tokio::runtime::Builder::new_multi_thread(),
    };
    // As TaskManagers have it.
    runtime.worker_threads(bootstrap::task_threads());
    let runtime = runtime.enable_all().build()?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    std::thread::spawn(move || {
        // Until there is nothing more to read, whatever it is.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        told.cancel();
    });
    let ended = runtime.block_on(stop.run_until_cancelled(transfer(&assignment, Arc::default())));
    // What is under way is given up: nobody wants it.
    runtime.shutdown_background();
    ended.unwrap_or(Ok(())).map(|()| ExitCode::SUCCESS)
}

async fn transfer(assignment: &Assignment, counters: Arc<Counters>) -> anyhow::Result<()> {
    let settings = assignment.settings.iter().filter(|_| assignment.transport != Transport::Plain).cloned();
    let configuration = Configuration::from_pairs(settings)?;
    let context = tls::internal_context(&configuration).await?;
    match assignment.level {
        Level::Raw => raw::run(assignment, context.as_ref(), counters).await,
        Level::Job => bail!("a job is no transfer between two processes"),
        Level::Plane => {
            let endpoint = tls::internal_endpoint(&configuration, tls::Internal::Data, context.as_ref())?;
            plane::run(assignment, endpoint, counters).await
        }
    }
}

pub(super) fn tell(line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&text).and_then(|()| output.flush()).context("nobody reads the samples")
}

/// Tells what has been moved, for ever.
pub(super) async fn tell_samples(counters: &Counters, extra: Extra) -> anyhow::Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let usage = usage::own();
        let mut sample = Sample {
            time_ms: usage.time_ms,
            records: counters.records.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            cpu_ms: usage.cpu_ms,
            peak_resident_bytes: usage.peak_resident_bytes,
            delay_p99_us: counters.delay_p99_us(),
            ..Sample::default()
        };
        extra(&mut sample);
        tell(&Line::Sample(sample))?;
    }
}

/// What an endpoint tells about rotations.
pub(super) fn last_old_byte_ms(endpoint: &Endpoint) -> u64 {
    endpoint.status().last_old_byte_ms
}

/// Unix microseconds; both ends are on one machine.
pub(super) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
