//! A job on a cluster: `datagen`, a keyed exchange, `blackhole`, with the sources on one TaskManager and the sinks on the
//! other, so that every record crosses. What it has moved and used is read from the cluster's own reports.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use rest_gateway::dto::{JobDetails, ProcessUsage, SubmitSql, TaskManagers, TlsReport};
use tokio::time::{Instant, interval, sleep};

use super::cell::Cell;
use super::sample::{Sample, Series};
use crate::rest::{RestClient, RestError, is_final};

/// What each TaskManager has reported, by its id.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) task_managers: BTreeMap<String, Series>,
    /// When a TaskManager took new certificates, milliseconds since the epoch, at most once per heartbeat; empty where
    /// nobody asked.
    pub(super) rotations: Vec<i64>,
}

/// Who replaces certificates while a job is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotated {
    /// We do, and know when.
    ByUs,
    /// Somebody else: a TaskManager is asked, twice a second.
    ByOthers,
}

/// Runs the job for `span` after it has begun to move records, then cancels it.
pub(super) async fn run(client: &RestClient, cell: &Cell, span: Duration, rotated: Rotated) -> anyhow::Result<Watched> {
    let parallelism = u32::try_from(cell.parallelism)?;
    let submission = SubmitSql { sql: sql(cell), name: Some(cell.to_string()), parallelism: Some(parallelism) };
    let job = client.submit(&submission).await?.jobid;
    let watched = watch(client, &job, cell.record_bytes, span, rotated).await;
    // Whatever came of it: the next cell needs the slots.
    let cancelled = cancel(client, &job).await;
    let watched = watched?;
    cancelled.map(|()| watched)
}

async fn watch(
    client: &RestClient,
    job: &str,
    record_bytes: usize,
    span: Duration,
    rotated: Rotated,
) -> anyhow::Result<Watched> {
    running(client, job).await?;
    let managers: TaskManagers = client.get("/v1/taskmanagers").await?;
    let ids: Vec<String> = managers.taskmanagers.into_iter().map(|manager| manager.id).collect();
    let mut watched = Watched::default();
    let mut ticks = interval(POLL);
    let mut until = None;
    let mut looks = 0_u32;
    while until.is_none_or(|until| Instant::now() < until) {
        ticks.tick().await;
        looks += 1;
        if rotated == Rotated::ByOthers && looks.is_multiple_of(LOOKS_PER_ROTATION_LOOK) {
            watched.rotations.extend(last_reload(client, ids.first()).await?);
        }
        for id in &ids {
            let usage = match client.get::<ProcessUsage>(&format!("/v1/taskmanagers/{id}/usage")).await {
                Ok(usage) => usage,
                // In the middle of a rotation, say.
                Err(error) if error.may_pass() => continue,
                Err(error) => return Err(error).context("a TaskManager's usage"),
            };
            if usage.read_bytes > 0 && until.is_none() {
                until = Some(Instant::now() + span);
            }
            watched.task_managers.entry(id.clone()).or_default().push(sample(&usage, record_bytes));
        }
    }
    watched.rotations.dedup();
    if watched.task_managers.values().filter(|series| series.last().is_some_and(|last| last.bytes > 0)).count() > 1 {
        bail!(
            "sources and sinks are on the same TaskManagers; give each of two TaskManagers as many slots as the parallelism"
        );
    }
    let state = client.get::<JobDetails>(&format!("/v1/jobs/{job}")).await?.state;
    if state != "RUNNING" {
        let cause = client.cause(job).await?.unwrap_or_default();
        bail!("the job is {state}: {cause}");
    }
    Ok(watched)
}

/// When a TaskManager has taken the certificates that it last reported; it reports with its heartbeats. `None` in the
/// middle of a rotation, say.
async fn last_reload(client: &RestClient, id: Option<&String>) -> anyhow::Result<Option<i64>> {
    let report: TlsReport = match client.get("/v1/tls").await {
        Ok(report) => report,
        Err(error) if error.may_pass() => return Ok(None),
        Err(error) => return Err(error).context("the cluster's TLS"),
    };
    let of_it = report.processes.into_iter().filter(|process| Some(&process.id) == id);
    let mut endpoints = of_it.flat_map(|process| process.endpoints);
    let data = endpoints.find(|endpoint| endpoint.endpoint == "data");
    Ok(data.and_then(|data| data.bundle).map(|bundle| bundle.last_reload))
}

fn sample(usage: &ProcessUsage, record_bytes: usize) -> Sample {
    let peers = usage.shuffle["peers"].as_object();
    let sum = |field: &str| {
        let peers = peers.into_iter().flat_map(|peers| peers.values());
        peers.filter_map(|peer| peer[field].as_u64()).sum()
    };
    // A source's rows come from nowhere: only what arrives over a channel has bytes.
    let records = if usage.read_bytes > 0 { usage.read_records } else { 0 };
    Sample {
        time_ms: usage.time,
        records,
        bytes: records * record_bytes as u64,
        cpu_ms: usage.cpu_millis,
        peak_resident_bytes: usage.peak_resident_bytes,
        migrations: sum("migrations"),
        reconnects: sum("reconnects"),
        retransmitted_bytes: sum("retransmitted_bytes"),
        ..Sample::default()
    }
}

async fn running(client: &RestClient, job: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        let details: JobDetails = client.get(&format!("/v1/jobs/{job}")).await?;
        if details.state == "RUNNING" && details.vertices.iter().all(|vertex| vertex.status == "RUNNING") {
            return Ok(());
        }
        if is_final(&details.state) {
            let cause = client.cause(job).await?.unwrap_or_default();
            bail!("the job is {}: {cause}", details.state);
        }
        sleep(POLL).await;
    }
    bail!(
        "the job does not run after {START_TIMEOUT:?}: it needs two TaskManagers with as many free slots as the parallelism"
    )
}

async fn cancel(client: &RestClient, job: &str) -> anyhow::Result<()> {
    match client.cancel(job).await {
        // It has ended by itself.
        Ok(()) | Err(RestError::Refused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        let details: JobDetails = client.get(&format!("/v1/jobs/{job}")).await?;
        if is_final(&details.state) {
            return Ok(());
        }
        sleep(POLL).await;
    }
    bail!("the job does not end")
}

/// Random keys, and the rest of a record's bytes as text. Sources and sinks share no slot: with as many slots per
/// TaskManager as the parallelism, they sit on different ones.
fn sql(cell: &Cell) -> String {
    let payload = cell.record_bytes.saturating_sub(KEY_BYTES);
    format!(
        "CREATE TABLE source (k BIGINT NOT NULL, payload STRING NOT NULL) WITH (\
           'connector' = 'datagen', 'slot-sharing-group' = 'sources', \
           'fields.payload.kind' = 'pooled', 'fields.payload.length' = '{payload}');\n\
         CREATE TABLE sink (k BIGINT NOT NULL, payload STRING NOT NULL) WITH (\
           'connector' = 'blackhole', 'slot-sharing-group' = 'sinks');\n\
         INSERT INTO sink SELECT k, payload FROM source DISTRIBUTE BY k;"
    )
}

/// Of a BIGINT.
const KEY_BYTES: usize = 8;
const POLL: Duration = Duration::from_millis(100);
const LOOKS_PER_ROTATION_LOOK: u32 = 5;
/// From the submission until all tasks run, and from the cancellation until none does.
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::bench::cell::{Level, Policy, Transport};

    #[tokio::test]
    async fn the_script_plans_and_nothing_shares_a_slot() {
        let cell = Cell {
            level: Level::Job,
            transport: Transport::Tls,
            record_bytes: 100,
            parallelism: 2,
            rotate_every_ms: None,
            policy: Policy::Renew,
        };
        let graph = engine::plan(&sql(&cell), &engine::PlanOptions { parallelism: 2 }).await.unwrap();
        let groups: Vec<_> = graph.vertices.iter().map(|vertex| vertex.slot_sharing_group.as_str()).collect();
        assert_eq!(groups, ["sources", "sinks"]);
        assert_eq!(graph.edges.len(), 1);
    }

    #[test]
    fn a_sample_sums_over_the_peers() {
        let usage = ProcessUsage {
            time: 7,
            read_records: 3,
            read_bytes: 345,
            shuffle: serde_json::json!({"peers": {"a": {"migrations": 1}, "b": {"migrations": 2}}}),
            ..ProcessUsage::default()
        };
        let sample = sample(&usage, 100);
        assert_eq!((sample.records, sample.bytes, sample.migrations), (3, 300, 3));
    }
}
