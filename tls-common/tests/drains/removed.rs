//! Removed HTTP peers that would rather stay: one that goes on asking, and those that ask nothing or half.

use super::*;

/// HTTP/2 by hand: one that would rather not go.
struct Deaf {
    connection: Connection,
    /// Of the next request.
    stream: u32,
}

/// Of a frame: its type, its flags, its stream.
type Header = (u8, u8, u32);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Deaf {
    async fn connect(endpoint: &Endpoint, address: SocketAddr) -> Self {
        let mut connection = endpoint.connector(&["h2"]).connect("127.0.0.1", address.port()).await.unwrap();
        // The preface and empty SETTINGS. Theirs are never acknowledged, and neither is a ping.
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        Self { connection, stream: 1 }
    }

    /// `GET http:/`, from HPACK's static table.
    async fn request(&mut self) -> std::io::Result<u32> {
        let stream = self.stream;
        self.stream += 2;
        let header = [0, 0, 3, HEADERS, END_STREAM | END_HEADERS];
        let head = [header.as_slice(), &stream.to_be_bytes(), &[0x82, 0x86, 0x84]];
        self.connection.write_all(&head.concat()).await?;
        self.connection.flush().await?;
        Ok(stream)
    }

    async fn frame(&mut self) -> std::io::Result<(Header, Vec<u8>)> {
        let mut header = [0; 9];
        self.connection.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.connection.read_exact(&mut body).await?;
        Ok(((kind, flags, u32::from_be_bytes(stream)), body))
    }

    async fn until(&mut self, wanted: impl Fn(Header) -> bool) -> Vec<u8> {
        let found = timeout(PATIENCE, async {
            loop {
                let (header, body) = self.frame().await.expect("the connection is still there");
                if wanted(header) {
                    return body;
                }
            }
        });
        found.await.expect("never came")
    }
}

#[tokio::test]
async fn a_removed_peer_that_ignores_its_goaway_gets_its_last_answer_whole_and_no_other() {
    removed_while_it_ignores_its_goaway(EstablishedConnections::DrainUntrusted).await;
}

#[tokio::test]
async fn so_does_one_that_ignored_a_renewal_before() {
    removed_while_it_ignores_its_goaway(EstablishedConnections::Renew).await;
}

async fn removed_while_it_ignores_its_goaway(established: EstablishedConnections) {
    let [server, next, mallory] = [(); 3].map(|()| Pair::new());
    let log = Log::json();
    let bundle = Bundle::new(&server, &[&server, &mallory]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let serving = endpoint("serving", &context, policy(established));
    // The first answer is as long as we want; all others are there at once.
    let (parts, rest) = mpsc::channel::<&'static str>(1);
    let rest = Arc::new(Mutex::new(Some(rest)));
    let service = tower::service_fn(move |_request: http::Request<Incoming>| {
        let rest = rest.lock().unwrap().take();
        async move {
            let Some(rest) = rest else {
                return Ok::<_, Infallible>(http::Response::new(BoxBody::new(Empty::new())));
            };
            let frames = futures::stream::unfold(rest, async |mut rest| {
                let part: &'static str = rest.recv().await?;
                Some((Ok(Frame::data(Bytes::from(part))), rest))
            });
            Ok(http::Response::new(BoxBody::new(StreamBody::new(frames))))
        }
    });
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    tokio::spawn(tls_common::http::serve(listener, serving.acceptor(&["h2"]), stop, service));
    let (_files, dialling) = client(&mallory, &[&server, &next]).await;
    let mut deaf = Deaf::connect(&dialling, address).await;
    let first = deaf.request().await.unwrap();
    parts.send("begun").await.unwrap();
    assert_eq!(deaf.until(|(kind, _, stream)| kind == DATA && stream == first).await, b"begun");

    let mut reasons = Vec::new();
    if established == EstablishedConnections::Renew {
        bundle.write_in_place(&next, &[&next, &server, &mallory]);
        reasons.push(by(&mallory, "renewed"));
        assert_eq!(told(&log.audited("serving", "drain", 1).await), reasons);
    }
    bundle.write_in_place(&next, &[&next, &server]);
    reasons.push(by(&mallory, "untrusted"));
    assert_eq!(told(&log.audited("serving", "drain", reasons.len()).await), reasons);
    deaf.until(|(kind, ..)| kind == GOAWAY).await;
    // What is on its way may still be answered, for a moment.
    let refused = async {
        loop {
            let stream = deaf.request().await.unwrap();
            loop {
                match deaf.frame().await.unwrap().0 {
                    (RST_STREAM, _, of) if of == stream => return,
                    (HEADERS, flags, of) if of == stream && flags & END_STREAM != 0 => break,
                    _ => {}
                }
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("it is answered for ever");
    parts.send("ended").await.unwrap();
    drop(parts);
    assert_eq!(deaf.until(|(kind, _, stream)| kind == DATA && stream == first).await, b"ended");
    let end = async { while deaf.frame().await.is_ok() {} };
    timeout(PATIENCE, end).await.expect("the connection ends");
    eventually("it is off the list", || serving.status().connections == 0).await;
    assert_eq!(serving.status().killed, 0);
}

#[tokio::test]
async fn a_removed_peer_that_asks_nothing_or_half_is_not_waited_for() {
    // All tests here have one: `tracing` would remember of a thread without that nobody wants the records.
    let log = Log::json();
    let [server, next, mallory] = [(); 3].map(|()| Pair::new());
    let cases = [
        (["http/1.1"], b"".as_slice()),
        (["http/1.1"], b"GET / HT"),
        (["http/1.1"], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /again HT"),
        (["h2"], b""),
        (["h2"], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    ];
    for (before, (alpn, words)) in cases.into_iter().enumerate() {
        let bundle = Bundle::new(&server, &[&server, &mallory]);
        let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
        let serving = endpoint("serving", &context, policy(EstablishedConnections::DrainUntrusted));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().port();
        let acceptor = serving.acceptor(&alpn);
        let stop = CancellationToken::new();
        tokio::spawn(tls_common::http::serve(listener, acceptor, stop, tower::service_fn(pong)));
        let (_files, dialling) = client(&mallory, &[&server, &next]).await;
        let mut connection = dialling.connector(&alpn).connect("127.0.0.1", port).await.unwrap();
        connection.write_all(words).await.unwrap();
        connection.flush().await.unwrap();
        eventually("it is on the list", || serving.status().connections == 1).await;
        bundle.write_in_place(&next, &[&next, &server]);
        eventually("it is off the list", || serving.status().connections == 0).await;
        let records = log.audited("serving", "drain", before + 1).await;
        assert_eq!(told(&records[before..]), [by(&mallory, "untrusted")], "{alpn:?} {words:?}");
        assert_eq!(serving.status().killed, 0);
    }
}
