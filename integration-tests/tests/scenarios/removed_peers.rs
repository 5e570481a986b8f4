//! Who is taken out of the truststore, or put on a revocation list, is off every connection of every process; nobody else
//! notices.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use held::{Held, Manner, Outcome};
use integration_tests::{Authority, Client, Cluster, Internal, PASSWORD, Port, TRUSTSTORE, eventually, within};
use rest_gateway::dto::TlsReport;
use serde_json::Value;
use tidemill::rotation::{Identity, truststore};
use tls_common::Secret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const CRL: &str = "crl.pem";

/// What the configuration of the harness says.
const QUIET_PERIOD: Duration = Duration::from_millis(50);

/// Somebody outside the cluster.
struct Peer {
    /// On the data plane; lower than those of TaskManagers, because the lower one dials.
    name: &'static str,
    client: Client,
    fingerprint: String,
    leaves: bool,
}

#[tokio::test]
async fn a_removed_and_a_revoked_peer_are_off_every_endpoint_and_all_others_stay_untouched() {
    let (own, removed, neighbour) = (Internal::pair(), Internal::pair(), Internal::pair());
    let authority = Authority::new();
    let [revoked, colleague] = [("revoked", 1), ("colleague", 2)].map(|(name, serial)| authority.admit(name, serial));
    let self_signed = |name, pair: &Identity, leaves| {
        let (client, fingerprint) = (Client::new(Some(pair)), pair.fingerprint());
        Peer { name, client, fingerprint, leaves }
    };
    let peers = [
        self_signed("outside-removed", &removed, true),
        Peer { name: "outside-revoked", client: revoked.client, fingerprint: revoked.fingerprint, leaves: true },
        self_signed("outside-neighbour", &neighbour, false),
        Peer { name: "outside-colleague", client: colleague.client, fingerprint: colleague.fingerprint, leaves: false },
        self_signed("outside-member", &own, false),
    ];
    let trust = |pairs: &[&Identity]| {
        let certificates = pairs.iter().map(|pair| pair.certificate()).chain([authority.certificate()]);
        truststore("peer", certificates, &Secret::new(PASSWORD.to_owned())).unwrap()
    };

    let mut builder = Cluster::builder()
        .set("security.ssl.reload", "true")
        .set("security.ssl.reload.quiet-period", &format!("{} ms", QUIET_PERIOD.as_millis()))
        // Far longer than this test: nobody is cut off at its end.
        .set("security.ssl.reload.drain-grace", "1 h")
        .set("security.ssl.rest.authentication-enabled", "true")
        .set("security.ssl.rest.verify-hostname", "false")
        .set("log.format", "json");
    let mut bundles = Vec::new();
    for name in ["internal", "rest"] {
        let bundle = Internal::create(&builder.scratch().join(name), &own, &[]);
        bundle.overwrite(TRUSTSTORE, &trust(&[&own, &removed, &neighbour]));
        bundle.overwrite(CRL, authority.revokes(&[]).as_bytes());
        let settings = bundle.settings().into_iter().map(|(key, value)| (key.replace("internal", name), value));
        builder = builder.set_all(settings.collect());
        builder = builder.set(&format!("security.ssl.{name}.crl"), &bundle.file(CRL).display().to_string());
        bundles.push(bundle);
    }
    let cluster = builder.start().await;
    let before = connections(&cluster.tls().await);

    let stop = CancellationToken::new();
    let mut held = Vec::new();
    for process in cluster.processes() {
        for (port, alpn, address) in process.ports().flat_map(|(port, address)| protocols(port, address)) {
            for peer in &peers {
                for manner in manners(port, alpn, peer.leaves) {
                    let what = format!("{} {} {alpn} {manner:?}", process.name(), port.name());
                    let target = (port, alpn, address);
                    let connection =
                        within(&what, Held::open(&peer.client, peer.name, target, manner, stop.clone())).await;
                    held.push((peer, what, process.name(), port, manner, connection));
                }
            }
        }
    }

    let changed = Instant::now();
    for bundle in &bundles {
        bundle.overwrite(TRUSTSTORE, &trust(&[&own, &neighbour]));
        bundle.overwrite(CRL, authority.revokes(&[1]).as_bytes());
    }

    let total = held.len();
    let (leaving, staying): (Vec<_>, Vec<_>) = held.into_iter().partition(|(peer, ..)| peer.leaves);
    let mut gone = BTreeMap::new();
    let (mut left, mut stayed) = (BTreeSet::new(), BTreeMap::<_, u64>::new());
    for (peer, what, _, port, manner, connection) in leaving {
        // One that never says hello may have been let go for that.
        if (port, manner) != (Port::Data, Manner::Silent) {
            left.insert((peer.fingerprint.clone(), connection.address.to_string()));
        }
        let outcome = within(&format!("{} leaves {what}", peer.name), connection.outcome()).await;
        let Outcome::Gone(at) = outcome else { panic!("{} still has {what}", peer.name) };
        let latest: &mut Instant = gone.entry((manner, port.name())).or_insert(at);
        *latest = at.max(*latest);
    }
    let last = gone.values().max().unwrap().duration_since(changed);
    let allowed = QUIET_PERIOD + Duration::from_secs(1);
    println!(
        "{} of {total} connections had to go; the last was off {last:?} after the change (quiet period + 1 s: {allowed:?})",
        total - staying.len()
    );
    for ((manner, port), at) in gone {
        println!("  {manner:?} {port}: {:?}", at.saturating_duration_since(changed));
    }

    stop.cancel();
    for (peer, what, process, port, _, connection) in staying {
        *stayed.entry((process.to_owned(), port.name().to_owned())).or_default() += 1;
        match within(&format!("{} is answered by {what}", peer.name), connection.outcome()).await {
            Outcome::Stayed(asked) => assert!(asked > 0, "{} {what}", peer.name),
            Outcome::Gone(_) => panic!("{} lost {what}", peer.name),
        }
    }

    // Every process has told exactly these connections to go, and says whose they were.
    let strangers: BTreeSet<_> = peers.iter().filter(|peer| peer.leaves).map(|peer| peer.fingerprint.clone()).collect();
    let mut drained = BTreeSet::new();
    for process in cluster.processes() {
        let records: Vec<_> = process.audit().into_iter().filter(|record| record["event"] == "drain").collect();
        assert!(records.iter().all(|record| record["reason_code"] == "untrusted"), "{}: {records:?}", process.name());
        let told: BTreeSet<_> = records.iter().map(|record| text(record, "peer_fingerprint")).collect();
        assert_eq!(told, strangers, "{}", process.name());
        drained.extend(records.iter().map(|record| (text(record, "peer_fingerprint"), text(record, "peer"))));
        assert!(process.audit().iter().all(|record| record["event"] != "cut"), "{}", process.name());
    }
    assert!(left.is_subset(&drained), "never told to go: {:?}", left.difference(&drained));

    eventually("the report has none of them", async || {
        let report = cluster.tls().await;
        let now = connections(&report);
        let too_many = now.iter().find(|(endpoint, count)| {
            **count > before.get(*endpoint).unwrap_or(&0) + stayed.get(*endpoint).unwrap_or(&0)
        });
        too_many.map_or(Ok(()), |too_many| Err(format!("{too_many:?}, before {before:?}, stayed {stayed:?}")))
    })
    .await;
    cluster.runs_a_job().await;
}

/// The protocols spoken at a port.
fn protocols(port: Port, address: SocketAddr) -> Vec<(Port, &'static str, SocketAddr)> {
    let both = (port == Port::Rest).then_some((port, "h2", address));
    [(port, port.alpn(), address)].into_iter().chain(both).collect()
}

/// Whoever stays is asked all the time, so that no timeout of an idle connection matters.
fn manners(port: Port, alpn: &str, leaves: bool) -> Vec<Manner> {
    match (leaves, alpn, port) {
        (false, ..) => vec![Manner::Busy],
        (true, "h2", _) => vec![Manner::Silent, Manner::Deaf, Manner::Idle, Manner::Busy],
        // Its first session is its only one.
        (true, _, Port::Data) => vec![Manner::Silent, Manner::Busy],
        (true, ..) => vec![Manner::Silent, Manner::Idle, Manner::Busy],
    }
}

/// Live connections by process and endpoint.
fn connections(report: &TlsReport) -> BTreeMap<(String, String), u64> {
    let endpoints = report.processes.iter().flat_map(|process| {
        let name = if process.process == "taskmanager" { &process.id } else { &process.process };
        process.endpoints.iter().map(|endpoint| ((name.clone(), endpoint.endpoint.clone()), endpoint.connections))
    });
    endpoints.collect()
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}
