//! Connections between TaskManagers that break in the middle of a job.
//!
//! Each TaskManager says that it is at another loopback address than where it listens; there, on the same ports, stands a
//! network that cuts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use integration_tests::{Cluster, Cutter, Port, Role};
use tidemill::rotation::{Rotator, RotatorOptions};

const CUTS: u64 = 50;
const ROTATIONS: u64 = 5;
const ROTATIONS_MOST: u64 = 500;
const ROUNDS_PER_ROTATION: u64 = 4;
const ROWS_PER_ROUND: u64 = 20_000;
/// Bytes between two cuts: from the middle of a handshake to several payloads.
const LIVES: RangeInclusive<u64> = 500..=300_000;
const FOR_EVER: RangeInclusive<u64> = u64::MAX..=u64::MAX;

/// Where the TaskManager of this number says that it is.
fn advertised(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 10 + number).into()
}

fn settings(number: u8) -> Vec<(String, String)> {
    [("taskmanager.host", advertised(number).to_string()), ("taskmanager.bind-host", "127.0.0.1".to_owned())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// What stands before the TaskManagers.
struct Before {
    data: Vec<Cutter>,
    /// Cut nothing.
    _rpc: Vec<Cutter>,
}

impl Before {
    /// Connections of the data plane are cut after so many bytes.
    async fn start(cluster: &Cluster, lives: RangeInclusive<u64>) -> Self {
        let managers = cluster.processes().iter().filter(|process| process.role() == Role::TaskManager);
        let mut before = Self { data: Vec::new(), _rpc: Vec::new() };
        for (number, manager) in (1..).zip(managers) {
            for (port, target) in manager.ports() {
                let address = SocketAddr::new(advertised(number), target.port());
                let seed = number.into();
                match port {
                    Port::Data => before.data.push(Cutter::start(address, target, lives.clone(), seed).await),
                    _ => before._rpc.push(Cutter::start(address, target, FOR_EVER, seed).await),
                }
            }
        }
        before
    }

    fn cut(&self) -> u64 {
        self.data.iter().map(Cutter::cut).sum()
    }
}

#[tokio::test]
async fn a_job_is_exact_while_its_data_connections_are_cut_50_times_and_all_certificates_are_replaced() {
    let builder = Cluster::builder();
    let mut rotator = Rotator::create(builder.scratch(), RotatorOptions::default()).unwrap();
    let builder = builder.set_all(rotator.settings()).set("security.ssl.reload", "true");
    let builder = builder.set("security.ssl.reload.established-connections", "renew");
    let builder = builder.set_for("taskmanager-1", settings(1)).set_for("taskmanager-2", settings(2));
    let cluster = builder.start().await;
    let before = Before::start(&cluster, LIVES).await;

    let mut fed = cluster.submit_fed("").await;
    let mut rotations = 0;
    while before.cut() < CUTS || rotations < ROTATIONS {
        assert!(rotations < ROTATIONS_MOST, "{} cuts in {rotations} rotations", before.cut());
        for _ in 0..ROUNDS_PER_ROTATION {
            fed.feed(ROWS_PER_ROUND).await;
        }
        let step = rotator.rotate().unwrap();
        cluster.follows(&step.internal.fingerprint, &step.rest.fingerprint).await;
        rotations += 1;
    }
    fed.ends_exact(&cluster).await;
}

#[tokio::test]
async fn a_job_whose_connections_stay_away_longer_than_the_reconnect_timeout_fails_with_the_lost_task_manager() {
    let builder = Cluster::builder().set("taskmanager.network.reconnect-timeout", "1 s");
    let builder = builder.set_for("taskmanager-1", settings(1)).set_for("taskmanager-2", settings(2));
    let cluster = builder.start().await;
    let before = Before::start(&cluster, FOR_EVER).await;
    let job = cluster.starts_an_endless_job().await;
    before.data.iter().for_each(Cutter::break_down);
    cluster.ends(&job, "FAILED").await;
    let cause = cluster.cause(&job).await;
    assert!(cause.contains("TaskManager taskmanager-") && cause.contains("is lost"), "{cause}");
}
