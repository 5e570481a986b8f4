//! Probers: one task per listening port that connects again and again, as any client would, and sees what is served.
//!
//! Each probe goes on to the server's first bytes, because a TLS 1.3 client only learns then that it was accepted.
//! Probers do not resume sessions: a resumed session would show the certificate of the session's beginning.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use config::{Configuration, tls};
use tls_common::{
    BundleOptions, ConnectError, ConnectionPolicy, Connector, Endpoint, HandshakeLimits, ReloadOptions, TlsContext,
};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::rotation::{Shared, Timelines};
use super::timeline::Follower;
use crate::cluster::{Cluster, Role};
use crate::probe::{Kind, PROBE_TIMEOUT, ProbeError, probe};

/// What the probes of one port have seen.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) kind: Kind,
    pub(super) probes: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// The first failures, in words.
    pub(super) failures: Vec<String>,
    pub(super) follower: Follower,
    timeline: Shared,
}

impl Probed {
    /// How long this port has not served the certificate on disk.
    pub(super) fn behind(&self, now: Instant) -> Duration {
        self.follower.behind(&self.timeline.lock(), now)
    }

    fn note(&mut self, address: SocketAddr, begun: Instant, outcome: Result<String, ProbeError>) {
        self.probes += 1;
        match outcome {
            Ok(fingerprint) => self.follower.served(&self.timeline.lock(), &fingerprint, begun, Instant::now()),
            Err(error) => {
                let refused = matches!(error, ProbeError::Connect(ConnectError::Unreachable { .. }));
                *(if refused { &mut self.refused } else { &mut self.failed }) += 1;
                if self.failures.len() < MAX_FAILURES_TOLD {
                    self.failures.push(format!("{} {address}: {error}", self.kind.name()));
                }
            }
        }
    }
}

/// The probers of a cluster.
#[derive(Debug)]
pub(super) struct Probers {
    ports: Vec<Arc<Mutex<Probed>>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Probers {
    /// Starts one for every port of the cluster.
    pub(super) async fn start(
        cluster: &Cluster,
        configuration: &Configuration,
        timelines: &Timelines,
    ) -> anyhow::Result<Self> {
        let internal = endpoint(tls::internal_bundle(configuration)?).await?;
        let rest = endpoint(tls::rest_client_bundle(configuration)?).await?;
        let targets = [
            (Role::JobManager, Kind::Rpc),
            (Role::TaskManager, Kind::Rpc),
            (Role::TaskManager, Kind::Data),
            (Role::BlobServer, Kind::Blob),
            (Role::RestGateway, Kind::Rest),
        ];
        let mut probers = Self { ports: Vec::new(), tasks: JoinSet::new(), stop: CancellationToken::new() };
        for (role, kind) in targets {
            let (endpoint, timeline) =
                if kind == Kind::Rest { (&rest, &timelines.rest) } else { (&internal, &timelines.internal) };
            for address in cluster.addresses(role, kind.name()) {
                let probed = Arc::new(Mutex::new(Probed {
                    kind,
                    probes: 0,
                    refused: 0,
                    failed: 0,
                    failures: Vec::new(),
                    follower: Follower::default(),
                    timeline: timeline.clone(),
                }));
                // Spread over the interval, so that the probes of the ports do not come in bursts.
                let first = STAGGER * u32::try_from(probers.ports.len()).unwrap_or(0);
                let connector = endpoint.connector(&[kind.alpn()]);
                let stop = probers.stop.clone();
                probers.tasks.spawn(probe_port(kind, address, connector, Arc::clone(&probed), first, stop));
                probers.ports.push(probed);
            }
        }
        Ok(probers)
    }

    /// Whether every port serves the certificate on disk.
    pub(super) fn all_current(&self) -> bool {
        let now = Instant::now();
        self.ports.iter().all(|port| lock(port).behind(now).is_zero())
    }

    /// Ends the probing and says what was seen, per port.
    pub(super) async fn stop(self) -> Vec<Probed> {
        self.stop.cancel();
        self.tasks.join_all().await;
        self.ports.into_iter().filter_map(Arc::into_inner).map(unlock).collect()
    }
}

async fn endpoint(bundle: Option<BundleOptions>) -> anyhow::Result<Endpoint> {
    let mut bundle = bundle.context("the demo's cluster has no TLS")?;
    bundle.session_cache_size = 0;
    let context = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;
    Ok(Endpoint::new("probe", Some(context), ConnectionPolicy::default(), HandshakeLimits::default()))
}

async fn probe_port(
    kind: Kind,
    address: SocketAddr,
    connector: Connector,
    probed: Arc<Mutex<Probed>>,
    first: Duration,
    stop: CancellationToken,
) {
    let mut ticks = interval_at(tokio::time::Instant::now() + first, PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A probe under way ends in its own time: cut short, it would count as a failed handshake at the server.
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let begun = Instant::now();
        let outcome = timeout(PROBE_TIMEOUT, probe(kind, address, &connector)).await;
        lock(&probed).note(address, begun, outcome.unwrap_or(Err(ProbeError::Timeout)));
    }
}

fn lock(probed: &Mutex<Probed>) -> MutexGuard<'_, Probed> {
    probed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unlock(probed: Mutex<Probed>) -> Probed {
    probed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Between two probes of a port.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Between the first probes of two ports.
const STAGGER: Duration = Duration::from_millis(13);
/// Failures per port that the report tells in words.
const MAX_FAILURES_TOLD: usize = 5;
