//! The data plane over real sockets: plain, TLS under rotation, and through a network that cuts connections.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod many;
mod proxy;
mod stores;
mod strangers;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto::frame::{ALPN, Chunks, Decoder, ErrorCode, FRAME_CHARGE_BYTES, Frame, Hello, VERSION};
use tls_common::{ConnectionPolicy, HandshakeLimits, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use proxy::Proxy;
use stores::Stores;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

/// One TaskManager's data plane.
struct Node {
    id: TaskManagerId,
    shuffle: Shuffle,
    address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Node {
    async fn start(id: &str, endpoint: Endpoint, options: ShuffleOptions) -> Self {
        let id: TaskManagerId = id.parse().unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self::start_on(listener.into(), id, endpoint, options)
    }

    /// Over QUIC.
    fn quic(id: &str, endpoint: Endpoint, options: ShuffleOptions) -> Self {
        let socket = DataSocket::bind_quic(&endpoint, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self::start_on(socket, id.parse().unwrap(), endpoint, options)
    }

    fn start_on(socket: DataSocket, id: TaskManagerId, endpoint: Endpoint, options: ShuffleOptions) -> Self {
        let address = socket.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (shuffle, server) = Shuffle::start(id.clone(), endpoint, socket, options, shutdown.clone()).unwrap();
        Self { id, shuffle, address, shutdown, server: tokio::spawn(server) }
    }

    async fn plain(id: &str) -> Self {
        Self::start(id, plain(), ShuffleOptions::default()).await
    }

    /// A channel's spec as seen from elsewhere.
    fn at(&self, channel: u8) -> ChannelSpec {
        self.at_port(channel, self.address.port())
    }

    fn at_port(&self, channel: u8, data_port: u16) -> ChannelSpec {
        let peer = Peer::Remote { id: self.id.clone(), host: "127.0.0.1".to_owned(), data_port };
        ChannelSpec { id: ChannelId::from_bytes([channel; 16]), peer }
    }

    fn stats_of(&self, peer: &Node) -> PeerStats {
        self.shuffle.stats().peers.get(&peer.id).cloned().unwrap_or_default()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap();
    }
}

fn plain() -> Endpoint {
    Endpoint::new("data", None, ConnectionPolicy::default(), HandshakeLimits::default())
}

fn local(channel: u8) -> ChannelSpec {
    ChannelSpec { id: ChannelId::from_bytes([channel; 16]), peer: Peer::Local }
}

/// A channel from one node to another.
fn channel(from: &Node, to: &Node, number: u8) -> (ChannelSender, ChannelReceiver) {
    (from.shuffle.sender(to.at(number)).unwrap(), to.shuffle.receiver(from.at(number)).unwrap())
}

/// Sends numbers until `stop`, then finishes. Both tasks return how many; every one that is read is published.
fn numbers(
    (mut sender, mut receiver): (ChannelSender, ChannelReceiver),
    stop: CancellationToken,
) -> (JoinHandle<u64>, JoinHandle<u64>, watch::Receiver<u64>) {
    let (sent, received) = watch::channel(0);
    let sending = tokio::spawn(async move {
        let mut number = 0u64;
        while !stop.is_cancelled() {
            sender.send(PayloadKind::Data, vec![Bytes::copy_from_slice(&number.to_le_bytes())]).await.unwrap();
            number += 1;
        }
        sender.finish().await.unwrap();
        number
    });
    let receiving = tokio::spawn(async move {
        let mut number = 0u64;
        while let Some((_, payload)) = receiver.recv().await.unwrap() {
            assert_eq!(payload[..], number.to_le_bytes(), "not the next payload");
            number += 1;
            sent.send_replace(number);
        }
        number
    });
    (sending, receiving, received)
}

/// Sends `count` payloads that carry their number, of lengths that differ, and finishes.
fn send_all(mut sender: ChannelSender, count: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        let filling = Bytes::from(vec![0xa5; 20_000]);
        for number in 0..count {
            let kind = if number % 10 == 0 { PayloadKind::Event } else { PayloadKind::Data };
            let length = if number % 50 == 0 { 20_000 } else { (number % 300) as usize };
            let chunks = vec![Bytes::copy_from_slice(&number.to_le_bytes()), filling.slice(..length)];
            sender.send(kind, chunks).await.unwrap();
        }
        sender.finish().await.unwrap();
    })
}

/// Reads to the end; every payload must be the next one.
fn receive_all(mut receiver: ChannelReceiver, count: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        for number in 0..count {
            let (kind, payload) = receiver.recv().await.unwrap().expect("the channel ends too early");
            assert_eq!(payload[..8], number.to_le_bytes(), "not the next payload");
            let length = if number % 50 == 0 { 20_000 } else { (number % 300) as usize };
            assert_eq!(payload.len(), 8 + length);
            assert_eq!(kind == PayloadKind::Event, number % 10 == 0);
        }
        assert_eq!(receiver.recv().await, Ok(None));
    })
}

/// What `work` comes to; ends a test that would hang.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(60), work).await;
    ended.unwrap_or_else(|_| panic!("never came: {what}"))
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_carry_everything_in_order_both_ways() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let mut tasks = Vec::new();
    for number in 0..8 {
        let (from, to) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (sender, receiver) = channel(from, to, number);
        tasks.push(send_all(sender, 20_000));
        tasks.push(receive_all(receiver, 20_000));
    }
    all(tasks).await;
    let stats = a.stats_of(&b);
    assert_eq!((stats.connections, stats.senders, stats.retransmitted_bytes, stats.violations), (1, 0, 0, 0));
    assert_eq!(stats.frames_out, 4 * 20_001);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_nothing() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let proxy = Proxy::start(b.address, 1_500_000).await;
    let mut tasks = Vec::new();
    for number in 0..4 {
        let sender = a.shuffle.sender(b.at_port(number, proxy.port)).unwrap();
        tasks.push(send_all(sender, 25_000));
        tasks.push(receive_all(b.shuffle.receiver(a.at(number)).unwrap(), 25_000));
        let receiver = a.shuffle.receiver(b.at_port(100 + number, proxy.port)).unwrap();
        tasks.push(receive_all(receiver, 25_000));
        tasks.push(send_all(b.shuffle.sender(a.at(100 + number)).unwrap(), 25_000));
    }
    all(tasks).await;
    proxy.calm_down();
    let stats = a.stats_of(&b);
    assert!(proxy.cut.load(Ordering::Relaxed) > 10, "the network was too kind");
    assert!(stats.reconnects > 10 && stats.violations == 0, "{stats:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_under_load_lose_nothing_and_resend_nothing() {
    let stores = Stores::new();
    let (at_a, at_b) = (stores.endpoint().await, stores.endpoint().await);
    let a = Node::start("a", at_a.clone(), ShuffleOptions::default()).await;
    let b = Node::start("b", at_b.clone(), ShuffleOptions::default()).await;
    rotate_under_load(stores, [at_a, at_b], a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_under_load_lose_nothing_and_resend_nothing_over_quic() {
    let stores = Stores::new();
    let (at_a, at_b) = (stores.endpoint().await, stores.endpoint().await);
    let a = Node::quic("a", at_a.clone(), ShuffleOptions::default());
    let b = Node::quic("b", at_b.clone(), ShuffleOptions::default());
    rotate_under_load(stores, [at_a, at_b], a, b).await;
}

async fn rotate_under_load(mut stores: Stores, [at_a, at_b]: [Endpoint; 2], a: Node, b: Node) {
    let mut tasks = Vec::new();
    for number in 0..2 {
        let (sender, receiver) = channel(&a, &b, number);
        tasks.extend([send_all(sender, 100_000), receive_all(receiver, 100_000)]);
        let (sender, receiver) = channel(&b, &a, 100 + number);
        tasks.extend([send_all(sender, 100_000), receive_all(receiver, 100_000)]);
    }
    let mut rotations = 0;
    let mut published = [&at_a, &at_b].map(|endpoint| endpoint.tls().unwrap().subscribe());
    while tasks.iter().any(|task| !task.is_finished()) {
        published.iter_mut().for_each(|published| drop(published.borrow_and_update()));
        stores.rotate();
        for published in &mut published {
            published.changed().await.unwrap();
        }
        // On a busy machine rotations would run away from the connections, until one is not trusted any more.
        let followed = || {
            let (status, current) = (at_b.status(), at_b.tls().unwrap().status().generation);
            status.connections_by_generation.contains_key(&current) || tasks.iter().all(JoinHandle::is_finished)
        };
        within("a connection of the newest generation", until(followed)).await;
        rotations += 1;
    }
    all(tasks).await;
    let stats = a.stats_of(&b);
    assert!(rotations > 5 && stats.migrations > 5, "{rotations} rotations, {stats:?}");
    assert_eq!((stats.reconnects, stats.retransmitted_bytes, stats.violations), (0, 0, 0), "{stats:?}");
    assert_eq!((at_a.status().killed, at_b.status().killed), (0, 0));
    a.stop().await;
    b.stop().await;
}

/// Both ends at once trust nothing that was there before: their connection must go soon, and the session goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_pair_that_is_replaced_without_handing_over_trust_loses_nothing() {
    let mut stores = Stores::trusting(1);
    let untrusted = ConnectionPolicy { drain_grace: NEVER, ..ConnectionPolicy::default() };
    let (at_a, at_b) = (stores.endpoint_with(untrusted.clone()).await, stores.endpoint_with(untrusted).await);
    let options = ShuffleOptions { reconnect_timeout: NEVER, ..ShuffleOptions::default() };
    let a = Node::start("a", at_a.clone(), options.clone()).await;
    let b = Node::start("b", at_b.clone(), options).await;
    let stop = CancellationToken::new();
    let (sending, receiving, mut received) = numbers(channel(&a, &b, 0), stop.clone());
    let mut published = [&at_a, &at_b].map(|endpoint| endpoint.tls().unwrap().subscribe());
    for _ in 0..5 {
        let before = *received.borrow_and_update();
        received.wait_for(|number| *number > before).await.unwrap();
        published.iter_mut().for_each(|published| drop(published.borrow_and_update()));
        stores.rotate();
        for published in &mut published {
            published.changed().await.unwrap();
        }
        // Something goes over a connection of the new pair before the next one comes.
        let current = at_b.tls().unwrap().status().generation;
        while at_b.status().connections_by_generation.keys().any(|generation| *generation != current)
            || at_b.status().connections == 0
        {
            tokio::task::yield_now().await;
        }
    }
    stop.cancel();
    assert_eq!(sending.await.unwrap(), receiving.await.unwrap());
    let (stats, drained) = (a.stats_of(&b), at_b.status().drained_by_reason);
    assert!(stats.violations == 0 && drained["untrusted"] > 0, "{stats:?} {drained:?}");
    assert_eq!((at_a.status().killed, at_b.status().killed), (0, 0));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_any_more_is_off_whether_it_has_said_hello_or_not() {
    let mut stores = Stores::trusting(1);
    let untrusted = ConnectionPolicy { drain_grace: NEVER, ..ConnectionPolicy::default() };
    let at_b = stores.endpoint_with(untrusted).await;
    let options = ShuffleOptions {
        hello_timeout: NEVER,
        keepalive_timeout: NEVER,
        reconnect_timeout: 2 * NEVER,
        ..ShuffleOptions::default()
    };
    let b = Node::start("b", at_b.clone(), options).await;
    // One that never lets go by itself.
    let keep =
        ConnectionPolicy { established: tls_common::EstablishedConnections::Keep, ..ConnectionPolicy::default() };
    let caller = stores.endpoint_with(keep).await;
    let connect = async || caller.connector(&[ALPN]).connect("127.0.0.1", b.address.port()).await.unwrap();
    let (mut silent, mut greeted) = (connect().await, connect().await);
    let mut bytes = bytes::BytesMut::new();
    let task_manager = "a".parse().unwrap();
    let hello = Hello { version: VERSION, task_manager, lane: 0, lanes: 1, session: 1, connection: 1, resumed: false };
    Frame::<Chunks>::Hello(hello).encode(&mut bytes);
    Frame::<Chunks>::Resume.encode(&mut bytes);
    greeted.write_all(&bytes).await.unwrap();
    greeted.flush().await.unwrap();
    while b.shuffle.stats().peers.is_empty() || at_b.status().connections < 2 {
        tokio::task::yield_now().await;
    }
    stores.rotate();
    for connection in [&mut silent, &mut greeted] {
        // What it says before it goes does not matter; a reset is as good as an end.
        let end = async { while matches!(connection.read(&mut [0; 64]).await, Ok(1..)) {} };
        tokio::time::timeout(Duration::from_secs(60), end).await.expect("it is still there");
    }
    while at_b.status().connections > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((at_b.status().drained_by_reason["untrusted"], at_b.status().killed), (2, 0));
    b.stop().await;
}

#[tokio::test]
async fn a_local_channel_hands_over_without_copying() {
    let node = Node::plain("a").await;
    let mut sender = node.shuffle.sender(local(1)).unwrap();
    let mut receiver = node.shuffle.receiver(local(1)).unwrap();
    let payload = Bytes::from_static(b"as it is");
    sender.send(PayloadKind::Data, vec![payload.clone()]).await.unwrap();
    let (_, received) = receiver.recv().await.unwrap().unwrap();
    assert_eq!((received.as_ptr(), received.len()), (payload.as_ptr(), payload.len()));
    let tasks = vec![send_all(sender, 0), receive_all(receiver, 0)];
    all(tasks).await;
    let tasks = vec![
        send_all(node.shuffle.sender(local(2)).unwrap(), 10_000),
        receive_all(node.shuffle.receiver(local(2)).unwrap(), 10_000),
    ];
    all(tasks).await;
    node.stop().await;
}

#[tokio::test]
async fn an_end_learns_what_became_of_the_other() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let remote = channel(&a, &b, 1);
    let inside = (a.shuffle.sender(local(2)).unwrap(), a.shuffle.receiver(local(2)).unwrap());
    for (mut sender, mut receiver) in [remote, inside] {
        sender.send(PayloadKind::Data, vec![Bytes::from_static(b"last")]).await.unwrap();
        drop(sender);
        assert_eq!(receiver.recv().await, Ok(Some((PayloadKind::Data, Bytes::from_static(b"last")))));
        assert_eq!(receiver.recv().await, Err(ChannelError::SenderAborted));
    }
    let remote = channel(&a, &b, 3);
    let inside = (a.shuffle.sender(local(4)).unwrap(), a.shuffle.receiver(local(4)).unwrap());
    for (mut sender, mut receiver) in [remote, inside] {
        // A remote receiver that was dropped before it was opened would be one that never was.
        sender.send(PayloadKind::Data, vec![Bytes::from_static(b"first")]).await.unwrap();
        assert!(receiver.recv().await.unwrap().is_some());
        drop(receiver);
        let refused = async {
            loop {
                if let Err(error) = sender.send(PayloadKind::Data, vec![Bytes::from_static(b"x")]).await {
                    return error;
                }
            }
        };
        assert_eq!(within("the sender hears of it", refused).await, ChannelError::ReceiverClosed);
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn an_end_is_registered_once() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let _sender = a.shuffle.sender(b.at(1)).unwrap();
    let _local = a.shuffle.sender(local(1)).unwrap();
    let twice = ChannelError::AlreadyRegistered(ChannelId::from_bytes([1; 16]));
    assert_eq!(a.shuffle.sender(b.at(1)).unwrap_err(), twice);
    assert_eq!(a.shuffle.sender(local(1)).unwrap_err(), twice);
    assert_eq!(a.shuffle.sender(a.at(2)).unwrap_err(), ChannelError::RemoteIsSelf(ChannelId::from_bytes([2; 16])));
    let options = ShuffleOptions::default();
    let mut sender = a.shuffle.sender(b.at(3)).unwrap();
    let large = Bytes::from(vec![0; options.max_payload_bytes + 1]);
    let refused = sender.send(PayloadKind::Data, vec![large]).await;
    assert!(matches!(refused, Err(ChannelError::TooLarge { .. })));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_peer_that_stops_is_lost_at_once() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let (mut sender, mut receiver) = channel(&a, &b, 1);
    sender.send(PayloadKind::Data, vec![Bytes::from_static(b"x")]).await.unwrap();
    assert!(receiver.recv().await.unwrap().is_some());
    b.stop().await;
    let lost = sender.finish().await.unwrap_err();
    assert!(matches!(&lost, ChannelError::PeerLost { cause, .. } if cause.contains("shutting down")), "{lost}");
    assert_eq!(receiver.recv().await, Err(ChannelError::ShutDown));
    a.stop().await;
}

#[tokio::test]
async fn a_receiver_that_stops_after_the_end_has_acknowledged_it() {
    for _ in 0..20 {
        let (a, b) = (Node::plain("a").await, Node::plain("b").await);
        let (sender, receiver) = channel(&a, &b, 1);
        let sending = send_all(sender, 100);
        receive_all(receiver, 100).await.unwrap();
        b.stop().await;
        sending.await.unwrap();
        a.stop().await;
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_is_lost_after_the_timeout() {
    let options = ShuffleOptions { reconnect_timeout: Duration::from_millis(300), ..ShuffleOptions::default() };
    let a = Node::start("a", plain(), options.clone()).await;
    let b = Node::start("b", plain(), options).await;
    let proxy = Proxy::start(b.address, u64::MAX).await;
    let mut sender = a.shuffle.sender(b.at_port(1, proxy.port)).unwrap();
    let mut receiver = b.shuffle.receiver(a.at(1)).unwrap();
    sender.send(PayloadKind::Data, vec![Bytes::from_static(b"x")]).await.unwrap();
    assert!(receiver.recv().await.unwrap().is_some());
    proxy.break_down();
    let lost = sender.finish().await.unwrap_err();
    assert!(matches!(&lost, ChannelError::PeerLost { peer, .. } if *peer == b.id), "{lost}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_named() {
    // Long enough for an attempt to connect to have failed before.
    let options = ShuffleOptions { open_timeout: Duration::from_secs(5), ..ShuffleOptions::default() };
    let a = Node::start("a", plain(), options).await;
    // Bound but not listening: nobody else can come to answer there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap().port();
    let mut receiver = a.shuffle.receiver(local(1)).unwrap();
    let peer = Peer::Remote { id: "b".parse().unwrap(), host: "127.0.0.1".to_owned(), data_port: nobody };
    let mut sender = a.shuffle.sender(ChannelSpec { id: ChannelId::from_bytes([1; 16]), peer }).unwrap();
    let error = sender.send(PayloadKind::Data, vec![]).await.unwrap_err().to_string();
    assert!(error.contains("TaskManager b") && error.contains(&format!("127.0.0.1:{nobody}")), "{error}");
    let error = receiver.recv().await.unwrap_err();
    assert!(matches!(&error, ChannelError::NotOpened { peer, .. } if peer == "this TaskManager"), "{error}");
    a.stop().await;
}

#[tokio::test]
async fn another_task_manager_at_the_address_is_not_the_peer() {
    let options = ShuffleOptions { open_timeout: Duration::from_secs(5), ..ShuffleOptions::default() };
    let a = Node::start("a", plain(), options).await;
    let c = Node::plain("c").await;
    let peer = Peer::Remote { id: "b".parse().unwrap(), host: "127.0.0.1".to_owned(), data_port: c.address.port() };
    let mut sender = a.shuffle.sender(ChannelSpec { id: ChannelId::from_bytes([1; 16]), peer }).unwrap();
    let error = sender.send(PayloadKind::Data, vec![]).await.unwrap_err().to_string();
    assert!(error.contains("TaskManager c answers there"), "{error}");
    a.stop().await;
    c.stop().await;
}

#[tokio::test]
async fn peers_that_nobody_needs_are_forgotten() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let (sender, receiver) = channel(&a, &b, 1);
    all(vec![send_all(sender, 10), receive_all(receiver, 10)]).await;
    b.stop().await;
    within("the peer is forgotten", until(|| a.shuffle.stats().peers.is_empty())).await;
    a.stop().await;
}
