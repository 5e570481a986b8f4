//! Hosts that rotate at different instants, against each other in memory.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::*;

const OVERLAP: Duration = Duration::from_secs(60);

/// What the files of a host hold before and after a rotation.
#[derive(Clone)]
struct Step {
    own: String,
    trusted: String,
}

impl Step {
    fn new(own: &Pair, trusted: &[&Pair]) -> Self {
        Self { own: own.keystore(&[]), trusted: trusted.iter().map(|pair| pair.certificate_pem()).collect() }
    }
}

/// A host with the generation it has built from its files so far.
struct Host {
    protocol: ProtocolVersion,
    overlap: Duration,
    generation: Generation,
}

impl Host {
    fn new(protocol: ProtocolVersion, overlap: Duration, step: &Step) -> Self {
        let generation = Self::bundle(protocol, overlap, step).first();
        Self { protocol, overlap, generation }
    }

    fn rotate(&mut self, step: &Step) {
        self.generation = Self::bundle(self.protocol, self.overlap, step).after(&self.generation);
    }

    fn bundle(protocol: ProtocolVersion, overlap: Duration, step: &Step) -> Bundle {
        let mut bundle = Bundle::new(Some(&step.own), Some(&step.trusted)).protocol(protocol);
        bundle.options.overlap = overlap;
        // Every handshake is a full one.
        bundle.options.session_cache_size = 0;
        bundle
    }
}

/// As a connector and an acceptor do it: with a protocol of their own, and the client's hint beside it.
fn dial(client: &Generation, server: &Generation) -> Result<HandshakeKind, (&'static str, Rejection)> {
    let mut client_config = ClientConfig::clone(client.client_config());
    client_config.alpn_protocols = client.offered(&[b"x".to_vec()]);
    let mut server_config = ServerConfig::clone(server.server_config().unwrap());
    server_config.alpn_protocols = vec![b"x".to_vec()];
    connect_configs(&Arc::new(client_config), &Arc::new(server_config))
}

/// Flink's recipe, one pair shared by all as keystore and truststore: three successive pairs under one name.
fn shared_secrets() -> Vec<Step> {
    let pairs: Vec<_> = (0..3).map(|_| Pair::self_signed(leaf("flink.internal", &[]))).collect();
    pairs.iter().map(|pair| Step::new(pair, &[pair])).collect()
}

/// Three successive CAs, of which the next knows nothing of the one before; a certificate of its own in each step.
fn authorities(names: [&str; 3]) -> Vec<Step> {
    let steps = names.map(|name| {
        let root = Pair::self_signed(authority(name));
        Step::new(&root.sign(leaf("host", &[])), &[&root])
    });
    steps.into()
}

fn scenarios() -> [(&'static str, Vec<Step>); 3] {
    [
        ("one shared pair", shared_secrets()),
        ("a CA of another name", authorities(["root 1", "root 2", "root 3"])),
        ("a CA of the same name", authorities(["root", "root", "root"])),
    ]
}

/// Every order of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| insert(order, at))).collect()
}

fn all_connect(hosts: &[Host], what: &str) {
    for (from, client) in hosts.iter().enumerate() {
        for (to, server) in hosts.iter().enumerate() {
            let outcome = dial(&client.generation, &server.generation);
            assert!(outcome.is_ok(), "{what}: {from} -> {to}: {outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_that_rotate_in_any_order_within_the_overlap_always_connect() {
    for protocol in PROTOCOLS {
        for (what, steps) in scenarios() {
            for order in orders(3) {
                let mut hosts: Vec<Host> = (0..3).map(|_| Host::new(protocol, OVERLAP, &steps[0])).collect();
                all_connect(&hosts, what);
                for step in &steps[1..] {
                    for host in &order {
                        advance(OVERLAP / 4).await;
                        hosts[*host].rotate(step);
                        all_connect(&hosts, what);
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_may_be_two_rotations_ahead() {
    for protocol in PROTOCOLS {
        for (what, steps) in scenarios() {
            let mut hosts: Vec<Host> = (0..2).map(|_| Host::new(protocol, OVERLAP, &steps[0])).collect();
            for step in &steps[1..] {
                advance(OVERLAP / 4).await;
                hosts[0].rotate(step);
                all_connect(&hosts, what);
            }
            hosts[1].rotate(&steps[1]);
            all_connect(&hosts, what);
            hosts[1].rotate(&steps[2]);
            all_connect(&hosts, what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_overlap_a_rotated_host_and_another_refuse_each_other() {
    for protocol in PROTOCOLS {
        for (what, steps) in scenarios() {
            let mut hosts: Vec<Host> = (0..2).map(|_| Host::new(protocol, Duration::ZERO, &steps[0])).collect();
            hosts[0].rotate(&steps[1]);
            let [ahead, behind] = &hosts[..] else { unreachable!() };
            assert!(dial(&ahead.generation, &behind.generation).is_err(), "{what}");
            assert!(dial(&behind.generation, &ahead.generation).is_err(), "{what}");
            assert_eq!(ahead.generation.offered(&[b"x".to_vec()]).len(), 1, "nothing is said");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_overlap_the_previous_identity_is_neither_shown_nor_believed() {
    for protocol in PROTOCOLS {
        for (what, steps) in scenarios() {
            let mut hosts: Vec<Host> = (0..2).map(|_| Host::new(protocol, OVERLAP, &steps[0])).collect();
            hosts[0].rotate(&steps[1]);
            advance(OVERLAP - Duration::from_millis(1)).await;
            all_connect(&hosts, what);
            assert!(hosts[0].generation.overlap_ends().is_some_and(|end| end > Instant::now()));
            // The very same generation, only later: nothing has to be published for it.
            advance(Duration::from_millis(1)).await;
            let [ahead, behind] = &hosts[..] else { unreachable!() };
            // The one ahead believes only the new one, and shows only the new one, which the other refuses.
            assert_eq!(
                dial(&ahead.generation, &behind.generation),
                Err(("client", Rejection::Untrusted)).or_else(bad_signature(what)),
                "{what}"
            );
            assert_eq!(
                dial(&behind.generation, &ahead.generation),
                Err(("client", Rejection::Untrusted)).or_else(bad_signature(what)),
                "{what}"
            );
            let judged = ahead.generation.judge_client(&[behind.generation.leaf().unwrap().clone()], UnixTime::now());
            assert!(judged.is_err(), "{what}: {judged:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_before_does_not_help_a_new_bundle_through_its_self_test() {
    let [own, other] = [(); 2].map(|()| Pair::self_signed(leaf("flink.internal", &[])));
    let before = Host::bundle(ProtocolVersion::Tls13, OVERLAP, &Step::new(&own, &[&own])).first();
    // The truststore has moved on without the keystore: when the overlap ends, nobody could connect any more.
    let half = Host::bundle(ProtocolVersion::Tls13, OVERLAP, &Step::new(&own, &[&other]));
    let refused = Generation::build(&half.options, &half.files, 2, Some(&before));
    assert!(error(refused).contains("self-test"));
}

#[tokio::test(start_paused = true)]
async fn only_what_a_rotation_changes_is_handed_over() {
    let own = Pair::self_signed(leaf("flink.internal", &[]));
    let mut bundle = Host::bundle(ProtocolVersion::Tls13, OVERLAP, &Step::new(&own, &[&own]));
    let before = bundle.first();
    // As a new revocation list does, every hour.
    bundle.options.min_key.ec = 255;
    let after = bundle.after(&before);
    assert!(!after.keeps_sessions_of(&before));
    assert_eq!(after.overlap_ends(), None);
}

/// Where the CA keeps its name, its certificate looks like one of the trusted CA's with a wrong signature.
fn bad_signature(
    what: &str,
) -> impl FnOnce((&'static str, Rejection)) -> Result<HandshakeKind, (&'static str, Rejection)> {
    let same_name = what == "a CA of the same name";
    move |(side, rejection)| Err((side, if same_name { Rejection::BadSignature } else { rejection }))
}

#[tokio::test(start_paused = true)]
async fn a_session_made_under_the_previous_trust_ends_with_the_overlap() {
    for protocol in PROTOCOLS {
        let [server, old, new] = ["server", "old", "new"].map(|name| Pair::self_signed(leaf(name, &[])));
        let bundle = |own: &Pair, trusted: &[&Pair]| {
            let mut bundle = Bundle::mutual(own, trusted).protocol(protocol);
            bundle.options.overlap = OVERLAP;
            bundle
        };
        let client = bundle(&old, &[&server, &old]).first();
        let narrower = bundle(&server, &[&server, &new]);
        let during = narrower.after(&bundle(&server, &[&server, &old]).first());
        assert!(full(dial(&client, &during)));
        assert_eq!(dial(&client, &during), Ok(HandshakeKind::Resumed), "{protocol:?}");
        advance(OVERLAP).await;
        assert!(
            during.judge_client(&[old.der()], UnixTime::now()).is_err(),
            "what endpoints ask about resumed sessions"
        );
        // What is published at the end of the overlap has the same files and other sessions.
        let after = during.after_overlap(&narrower.options, 3).unwrap();
        assert!(!after.keeps_sessions_of(&during));
        assert_eq!(after.overlap_ends(), None);
        assert_eq!(dial(&client, &after), Err(("server", Rejection::Untrusted)), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_host_shows_the_new_certificate_to_all_who_say_nothing_against_it() {
    let steps = shared_secrets();
    let mut host = Host::new(ProtocolVersion::Tls13, OVERLAP, &steps[0]);
    host.rotate(&steps[1]);
    let shown = |client: &Generation| {
        let name = ServerName::try_from("localhost").unwrap();
        let mut config = ClientConfig::clone(client.client_config());
        config.alpn_protocols.clear();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(host.generation.server_config().unwrap())).unwrap();
        let _ = transfer(&mut client, &mut server);
        let _ = transfer(&mut server, &mut client);
        client.peer_certificates().map(|chain| Fingerprint::sha256_of(&chain[0]))
    };
    let bundle = Host::bundle(ProtocolVersion::Tls13, OVERLAP, &steps[1]);
    assert_eq!(shown(&bundle.first()), host.generation.fingerprint());
}

#[tokio::test(start_paused = true)]
async fn pins_are_handed_over_like_trust() {
    for protocol in PROTOCOLS {
        // One CA for the whole firm; only the pin tells our certificates from others.
        let root = Pair::self_signed(authority("firm"));
        let [old, new] = [(); 2].map(|()| root.sign(leaf("host", &[])));
        let pinned = |pair: &Pair| {
            let step = Step::new(pair, &[&root]);
            let mut bundle = Host::bundle(protocol, OVERLAP, &step);
            bundle.options.pins = vec![Fingerprint::sha1_of(&pair.der())];
            bundle
        };
        let behind = pinned(&old).first();
        let ahead = pinned(&new).after(&behind);
        assert!(dial(&ahead, &behind).is_ok() && dial(&behind, &ahead).is_ok(), "{protocol:?}");
        advance(OVERLAP).await;
        assert_eq!(dial(&behind, &ahead), Err(("client", Rejection::Pin)), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_hints_is_judged_by_the_authorities_it_names() {
    // As Java and OpenSSL servers do: names of authorities, no hints. Without overlap ours sends none either.
    let steps = authorities(["root 1", "root 2", "root 3"]);
    for protocol in PROTOCOLS {
        let mut ahead = Host::new(protocol, OVERLAP, &steps[0]);
        ahead.rotate(&steps[1]);
        let behind = Host::new(protocol, Duration::ZERO, &steps[0]);
        assert!(dial(&ahead.generation, &behind.generation).is_ok(), "{protocol:?}");
    }
}
