//! The clusters that jobs run on: one per configuration, started when it is first needed.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::cell::{Cell, Policy, Transport};
use super::job::{self, Rotated, Watched};
use super::spin::spin;
use crate::cluster::{Cluster, ClusterOptions};
use crate::rest::RestClient;
use crate::rotation::{Rotator, RotatorOptions};

/// What needs a cluster of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    transport: Transport,
    policy: Policy,
    slots: usize,
}

/// One that runs.
#[derive(Debug)]
struct Running {
    cluster: Cluster,
    client: RestClient,
    /// `None` while it rotates.
    rotator: Option<Rotator>,
}

/// All of them. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Clusters {
    directory: PathBuf,
    /// Of every `config.yaml`, beside our own.
    settings: Vec<(String, String)>,
    running: BTreeMap<Kind, Running>,
}

impl Clusters {
    /// Everything goes below `directory`.
    pub(super) fn new(directory: &Path, settings: &[(String, String)]) -> Self {
        Self { directory: directory.to_owned(), settings: settings.to_vec(), running: BTreeMap::new() }
    }

    /// Runs the cell's job for `span`; also returns when certificates were replaced.
    pub(super) async fn run(&mut self, cell: &Cell, span: Duration) -> anyhow::Result<(Watched, Vec<i64>)> {
        let running = self.running(cell).await?;
        let mut rotator = running.rotator.take().context("the last rotation has failed")?;
        if let Some(every) = cell.rotate_every() {
            // The job's start comes before the span.
            let steps = (span + START_ALLOWANCE).as_millis().div_ceil(every.as_millis().max(1));
            let steps = usize::try_from(steps).unwrap_or(usize::MAX).min(PREPARED_MAX);
            rotator = spawn_blocking(move || rotator.prepare_many(steps).map(|()| rotator)).await??;
        }
        let stop = CancellationToken::new();
        let _stop_if_we_fail = stop.clone().drop_guard();
        let rotating = tokio::spawn(spin(rotator, cell.rotate_every(), stop.clone()));
        let watched = job::run(&running.client, cell, span, Rotated::ByUs).await;
        stop.cancel();
        let (rotator, marks) = rotating.await??;
        running.rotator = Some(rotator);
        Ok((watched?, marks))
    }

    /// Stops all of them.
    pub(super) async fn stop(self) {
        for running in self.running.into_values() {
            running.cluster.stop().await;
        }
    }

    async fn running(&mut self, cell: &Cell) -> anyhow::Result<&mut Running> {
        let kind = Kind { transport: cell.transport, policy: cell.policy, slots: cell.parallelism };
        if !self.running.contains_key(&kind) {
            let directory = self.directory.join(format!("cluster-{}", self.running.len() + 1));
            self.running.insert(kind, start(kind, &directory, &self.settings).await?);
        }
        self.running.get_mut(&kind).context("just started")
    }
}

async fn start(kind: Kind, directory: &Path, more: &[(String, String)]) -> anyhow::Result<Running> {
    let tls = directory.join("tls");
    let rotator = spawn_blocking(move || Rotator::create(&tls, RotatorOptions::default())).await??;
    let mut settings = rotator.settings();
    settings.extend(rotation_settings(kind.policy));
    let data = match kind.transport {
        Transport::Plain => Some(("taskmanager.data.ssl.enabled", "false")),
        Transport::Tls => None,
        Transport::Quic => Some(("taskmanager.data.transport", "quic")),
    };
    settings.extend(data.map(|(key, value)| (key.to_owned(), value.to_owned())));
    // The reports are what is measured.
    settings.push(("heartbeat.interval".to_owned(), "200 ms".to_owned()));
    settings.extend_from_slice(more);
    let options = ClusterOptions {
        executable: env::current_exe()?,
        directory: directory.to_owned(),
        task_managers: 2,
        slots: kind.slots,
        rest_port: 0,
        settings,
    };
    let cluster = Cluster::start(options).await?;
    let client = RestClient::from_config(&cluster.configuration()?).await?;
    Ok(Running { cluster, client, rotator: Some(rotator) })
}

/// How processes follow a rotation, for a `config.yaml`.
pub(super) fn rotation_settings(policy: Policy) -> Vec<(String, String)> {
    let settings = [
        ("security.ssl.reload", "true"),
        ("security.ssl.reload.established-connections", policy.name()),
        ("security.ssl.reload.quiet-period", "50 ms"),
        ("security.ssl.protocol", "TLSv1.3"),
    ];
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Steps made ahead at most; each holds some key pairs and stores in memory.
pub(super) const PREPARED_MAX: usize = 256;

/// Planning and deploying a job takes a moment before its rows flow.
const START_ALLOWANCE: Duration = Duration::from_secs(2);
