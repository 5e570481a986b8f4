//! Many of something: channels of which one stands still, rotations that must leave nothing behind.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_channels_one_that_is_never_read_stops_nobody_and_memory_keeps_its_bound() {
    const CHANNELS: u16 = 1_000;
    const STOPPED: u16 = 500;
    const PAYLOADS: u64 = 40;
    let payload = Bytes::from(vec![0x5a; 20_000]);
    // Far less than the channels would like to have.
    let options = ShuffleOptions { receive_buffer_bytes: 8 << 20, ..ShuffleOptions::default() };
    let bound = options.receive_buffer_bytes
        + u64::from(CHANNELS) * (options.min_window_bytes + payload.len() as u64 + FRAME_CHARGE_BYTES);
    let a = Node::start("a", plain(), options.clone()).await;
    let b = Node::start("b", plain(), options).await;
    let wide = |node: &Node, number: u16| {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&number.to_le_bytes());
        ChannelSpec { id: ChannelId::from_bytes(id), ..node.at(0) }
    };
    let (mut sending, mut reading, mut stopped) = (Vec::new(), Vec::new(), None);
    for number in 0..CHANNELS {
        let mut sender = a.shuffle.sender(wide(&b, number)).unwrap();
        let mut receiver = b.shuffle.receiver(wide(&a, number)).unwrap();
        let payload = payload.clone();
        let send = tokio::spawn(async move {
            for _ in 0..PAYLOADS {
                sender.send(PayloadKind::Data, vec![payload.clone()]).await?;
            }
            sender.finish().await
        });
        if number == STOPPED {
            stopped = Some((send, receiver));
            continue;
        }
        sending.push(send);
        reading.push(tokio::spawn(async move {
            let mut count = 0;
            while receiver.recv().await.unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, PAYLOADS);
        }));
    }
    let most = std::sync::atomic::AtomicU64::new(0);
    let watch = async {
        loop {
            let stats = b.shuffle.stats();
            let retained = a.stats_of(&b).retained_bytes;
            most.fetch_max(stats.receive_buffer_used_bytes.max(retained), Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let work = async {
        for task in sending {
            task.await.unwrap().unwrap();
        }
        all(reading).await;
    };
    tokio::select! {
        () = within("all but the stopped one end", work) => {}
        () = watch => {}
    }
    assert!(most.load(Ordering::Relaxed) <= bound, "{} of at most {bound}", most.load(Ordering::Relaxed));
    let (send, receiver) = stopped.unwrap();
    assert!(!send.is_finished(), "nobody has read it");
    assert_eq!(a.stats_of(&b).connections, 1);
    drop(receiver);
    assert_eq!(within("the sender hears", send).await.unwrap(), Err(ChannelError::ReceiverClosed));
    a.stop().await;
    b.stop().await;
}

/// More with `SHUFFLE_ROTATIONS=10000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_leave_no_connection_no_descriptor_and_no_task_behind() {
    let rotations = std::env::var("SHUFFLE_ROTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(100u64);
    let mut stores = Stores::new();
    let (at_a, at_b) = (stores.endpoint().await, stores.endpoint().await);
    let a = Node::start("a", at_a.clone(), ShuffleOptions::default()).await;
    let b = Node::start("b", at_b.clone(), ShuffleOptions::default()).await;
    let stop = CancellationToken::new();
    let (sending, receiving, _) = numbers(channel(&a, &b, 1), stop.clone());
    let mut published = [&at_a, &at_b].map(|endpoint| endpoint.tls().unwrap().subscribe());
    let mut first = None;
    for rotation in 0..rotations {
        published.iter_mut().for_each(|published| drop(published.borrow_and_update()));
        stores.rotate();
        for published in &mut published {
            published.changed().await.unwrap();
        }
        let moved = || {
            // The two files of a rotation may come as two generations.
            let (status, current) = (at_b.status(), at_b.tls().unwrap().status().generation);
            status.connections == 1 && status.connections_by_generation.get(&current) == Some(&1)
        };
        within("everything is on one connection of the newest generation", until(moved)).await;
        // Once everything is warm.
        if rotation == rotations / 10 {
            first = Some(left_behind(&b));
        }
    }
    stop.cancel();
    assert_eq!(sending.await.unwrap(), receiving.await.unwrap());
    let stats = a.stats_of(&b);
    assert!(stats.migrations >= rotations - 1, "{stats:?}");
    assert_eq!((stats.reconnects, stats.retransmitted_bytes, stats.violations), (0, 0, 0), "{stats:?}");
    let (sockets, tasks) = first.unwrap();
    let as_before = || {
        let left = left_behind(&b);
        // Of the transfer there is nothing more.
        left.0 <= sockets && left.1 <= tasks
    };
    within("there is no more than at the beginning", until(as_before)).await;
    a.stop().await;
    b.stop().await;
}

/// Sockets to and from the node that a process still holds, and tasks of this runtime.
fn left_behind(node: &Node) -> (usize, usize) {
    /// Nobody's any more: closed by us, and only waiting for its time to pass.
    const TIME_WAIT: &str = "06";
    let port = format!(":{:04X}", node.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let held = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 3 && fields[3] != TIME_WAIT && fields[1..3].iter().any(|address| address.ends_with(&port))
    });
    (held.count(), tokio::runtime::Handle::current().metrics().num_alive_tasks())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_spread_over_lanes_and_those_who_differ_in_lanes_say_so() {
    let lanes = |lanes| ShuffleOptions { lanes, open_timeout: Duration::from_secs(5), ..ShuffleOptions::default() };
    let (a, b) = (Node::start("a", plain(), lanes(3)).await, Node::start("b", plain(), lanes(3)).await);
    let mut tasks = Vec::new();
    for number in 0..9 {
        let (sender, receiver) = channel(&a, &b, number);
        tasks.extend([send_all(sender, 1_000), receive_all(receiver, 1_000)]);
    }
    all(tasks).await;
    let stats = a.stats_of(&b);
    assert_eq!((stats.connections, stats.frames_out, stats.violations), (3, 9 * 1_001, 0), "{stats:?}");

    let c = Node::start("c", plain(), lanes(1)).await;
    let mut sender = a.shuffle.sender(c.at(1)).unwrap();
    let error = sender.send(PayloadKind::Data, vec![]).await.unwrap_err().to_string();
    assert!(error.contains("taskmanager.network.lanes"), "{error}");
    for node in [a, b, c] {
        node.stop().await;
    }
}
