//! Callers and peers that do not keep to what is agreed: strangers, garbage, silence, deafness.

use super::*;
use crate::shuffle::wire::Called;

/// Says `hello` to a node, then `words`, and returns what comes back until the node closes.
async fn talk(node: &Node, hello: Option<Hello>, words: &[u8]) -> Vec<Frame> {
    let mut socket = TcpStream::connect(node.address).await.unwrap();
    let mut bytes = bytes::BytesMut::new();
    if let Some(hello) = hello {
        Frame::<Chunks>::Hello(hello).encode(&mut bytes);
    }
    bytes.extend_from_slice(words);
    let _ = socket.write_all(&bytes).await;
    let _ = socket.shutdown().await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    let (mut decoder, mut rest) = (Decoder::new(1 << 20), answer.as_slice());
    std::iter::from_fn(|| decoder.decode(&mut rest).unwrap()).collect()
}

#[tokio::test]
async fn strangers_and_garbage_harm_nobody() {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    let (mut sender, mut receiver) = channel(&a, &b, 1);
    sender.send(PayloadKind::Data, vec![Bytes::new()]).await.unwrap();
    assert!(receiver.recv().await.unwrap().is_some(), "connected");
    let hello = |name: &str, version, session, resumed| Hello {
        version,
        task_manager: name.parse().unwrap(),
        lane: 0,
        lanes: 1,
        session,
        connection: 1,
        resumed,
    };
    let code = |frames: &[Frame]| match frames.last() {
        Some(Frame::Error { code, .. }) => Some(*code),
        _ => None,
    };
    for round in 0..20 {
        let garbage = vec![round; 500];
        assert_eq!(talk(&b, None, &garbage).await.len(), 1, "only the hello");
        // The stranger's own session is cut off.
        let answer = talk(&b, Some(hello("Z", VERSION, 9, false)), &garbage).await;
        assert_eq!(code(&answer), Some(ErrorCode::Violation), "{answer:?}");
        assert_eq!(code(&talk(&b, Some(hello("zz", VERSION, 9, false)), &[]).await), Some(ErrorCode::WrongPeer));
        assert_eq!(code(&talk(&b, Some(hello("a", VERSION, 9, false)), &[]).await), Some(ErrorCode::SessionBusy));
        assert_eq!(code(&talk(&b, Some(hello("a", VERSION, 9, true)), &[]).await), Some(ErrorCode::UnknownSession));
        assert_eq!(code(&talk(&b, Some(hello("a", VERSION + 1, 9, true)), &[]).await), None);
        sender.send(PayloadKind::Data, vec![Bytes::from(vec![round; 100])]).await.unwrap();
        assert_eq!(receiver.recv().await, Ok(Some((PayloadKind::Data, Bytes::from(vec![round; 100])))));
    }
    let stats = b.stats_of(&a);
    assert_eq!((stats.reconnects, stats.violations), (0, 0));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_let_go() {
    let options = ShuffleOptions { hello_timeout: Duration::from_millis(50), ..ShuffleOptions::default() };
    let b = Node::start("b", plain(), options).await;
    let mut socket = TcpStream::connect(b.address).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.is_empty(), "the accepting side speaks first");
    b.stop().await;
}

/// A peer that is there, gives all the credit there is, and reads nothing any more.
async fn deaf_peer(listener: TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut bytes = bytes::BytesMut::new();
    Frame::<Chunks>::Hello(greeting::accepting_hello(&"b".parse().unwrap(), 1)).encode(&mut bytes);
    socket.write_all(&bytes).await.unwrap();
    let (mut decoder, mut heard) = (Decoder::new(1 << 20), Vec::new());
    let number = loop {
        let mut rest = heard.as_slice();
        let mut frames = std::iter::from_fn(|| decoder.decode(&mut rest).unwrap());
        let opened =
            frames.find_map(|frame| if let Frame::Open { channel, .. } = frame { Some(channel) } else { None });
        match opened {
            Some(channel) => break channel,
            None => heard.clear(),
        }
        assert!(socket.read_buf(&mut heard).await.unwrap() > 0);
    };
    bytes.clear();
    Frame::<Chunks>::Credit { channel: number, next: 0, limit: 1 << 40 }.encode(&mut bytes);
    Frame::<Chunks>::Resume.encode(&mut bytes);
    socket.write_all(&bytes).await.unwrap();
    socket
}

#[tokio::test]
async fn a_connection_given_up_by_the_session_goes_although_its_peer_reads_nothing() {
    // More than the kernel takes on both sides of a connection.
    let options = ShuffleOptions { retained_bytes: 48 << 20, ..ShuffleOptions::default() };
    let endpoint = plain();
    let a = Node::start("a", endpoint.clone(), options).await;
    // One connection, and no second one.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let data_port = listener.local_addr().unwrap().port();
    let peer = Peer::Remote { id: "b".parse().unwrap(), host: "127.0.0.1".to_owned(), data_port };
    let mut sender = a.shuffle.sender(ChannelSpec { id: ChannelId::from_bytes([1; 16]), peer }).unwrap();
    let sending = tokio::spawn(async move {
        // Fails only once the peer is lost.
        while sender.send(PayloadKind::Data, vec![Bytes::from(vec![0; 1 << 20])]).await.is_ok() {}
    });
    let _deaf = within("the peer has said what it has to say", deaf_peer(listener)).await;
    // The peer's silence is found by the keepalive timeout.
    within("the socket is closed", until(|| endpoint.status().connections == 0)).await;
    within("no task is left but the peer's", until(|| a.shuffle.inner.tasks.len() <= 1)).await;
    sending.abort();
    a.stop().await;
}

#[tokio::test]
async fn a_caller_over_quic_is_told_why_it_is_not_welcome() {
    let stores = Stores::new();
    let b = Node::quic("b", stores.endpoint().await, ShuffleOptions::default());
    let caller = stores.endpoint().await.quic_connector(&[ALPN]).unwrap();
    let connection = caller.connect("127.0.0.1", b.address.port()).await.unwrap();
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    let task_manager = "a".parse().unwrap();
    let hello = Hello { version: VERSION, task_manager, lane: 0, lanes: 1, session: 9, connection: 1, resumed: true };
    let mut bytes = bytes::BytesMut::new();
    Frame::<Chunks>::Hello(hello).encode(&mut bytes);
    send.write_all(&bytes).await.unwrap();
    let answer = receive.read_to_end(1 << 16).await.unwrap();
    let (mut decoder, mut rest) = (Decoder::new(1 << 16), answer.as_slice());
    let frames: Vec<Frame> = std::iter::from_fn(|| decoder.decode(&mut rest).unwrap()).collect();
    assert!(matches!(frames.last(), Some(Frame::Error { code: ErrorCode::UnknownSession, .. })), "{frames:?}");
    drop(connection);
    b.stop().await;
}

/// What Ethernet takes, and what peers are believed to take unless they say otherwise.
const ETHERNET_BYTES: u16 = 1500 - 28;

#[tokio::test]
async fn packets_over_quic_grow_to_what_both_ends_and_the_network_take() {
    let stores = Stores::new();
    let (b, endpoint) = (Node::quic("b", stores.endpoint().await, ShuffleOptions::default()), stores.endpoint().await);
    let socket = DataSocket::bind_quic(&endpoint, "127.0.0.1:0".parse().unwrap()).unwrap();
    let called = socket.caller(&endpoint).unwrap().call("127.0.0.1", b.address.port()).await.unwrap();
    let Called::Quic(connection) = called else { panic!("TCP") };
    let grown = until(|| connection.stats().path.current_mtu > 4 * ETHERNET_BYTES);
    within("packets have grown", grown).await;
    drop(connection);
    b.stop().await;
}
