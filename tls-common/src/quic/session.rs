//! A TLS session of quinn's that tells how its handshake went, which quinn does not: resumed or full, suite and group.
//!
//! Everything is done by quinn's own session. On the way through, the ServerHello, which both sides see in the clear,
//! is read; it is not judged here, that is rustls' work.

use crate::endpoint::audit::Negotiated;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{
    ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn::{ConnectError, ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::{CipherSuite, NamedGroup};
use std::any::Any;
use std::sync::Arc;

/// A ServerHello in the making is not kept beyond this length, bytes. The largest known group takes 1.6 kB.
const MAX_SERVER_HELLO: usize = 16 * 1024;

/// Of TLS' handshake messages and extensions, those that are looked at (RFC 8446, section 4).
const SERVER_HELLO: u8 = 2;
const PRE_SHARED_KEY: u16 = 41;
const KEY_SHARE: u16 = 51;

/// What [`quinn::Connection::handshake_data`] of our connections gives, boxed.
#[derive(Clone, Debug)]
pub struct HandshakeData {
    /// The protocol that ALPN settled on.
    pub protocol: Option<Vec<u8>>,
    /// The name the client dialled; on the accepting side only, and only if it is no IP address.
    pub server_name: Option<String>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The group of the key exchange.
    pub key_exchange_group: Option<NamedGroup>,
}

impl HandshakeData {
    /// The same for the audit record.
    pub(super) fn negotiated(&self) -> Negotiated {
        Negotiated::over_quic(self.resumed, self.cipher_suite, self.key_exchange_group)
    }
}

/// Makes observed sessions on the accepting side.
pub(super) struct ObservedServer(Arc<QuicServerConfig>);

/// Makes observed sessions on the connecting side.
pub(super) struct ObservedClient(Arc<QuicClientConfig>);

impl ObservedServer {
    pub(super) fn new(config: QuicServerConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl ObservedClient {
    pub(super) fn new(config: QuicClientConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl ServerConfig for ObservedServer {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let session = Arc::clone(&self.0).start_session(version, params);
        Box::new(Observed { session, side: Side::Server, hello: ServerHello::default() })
    }
}

impl ClientConfig for ObservedClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = Arc::clone(&self.0).start_session(version, server_name, params)?;
        Ok(Box::new(Observed { session, side: Side::Client, hello: ServerHello::default() }))
    }
}

struct Observed {
    session: Box<dyn Session>,
    side: Side,
    hello: ServerHello,
}

impl Session for Observed {
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let data = self.session.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
        let settled = self.hello.settled?;
        Some(Box::new(HandshakeData {
            protocol: data.protocol,
            server_name: data.server_name,
            resumed: settled.resumed,
            cipher_suite: settled.cipher_suite,
            key_exchange_group: settled.key_exchange_group,
        }))
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        if self.side.is_client() {
            self.hello.observe(buf);
        }
        self.session.read_handshake(buf)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let before = buf.len();
        let keys = self.session.write_handshake(buf);
        if self.side.is_server() {
            self.hello.observe(buf.get(before..).unwrap_or_default());
        }
        keys
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

/// Collects the server's handshake messages until the last ServerHello (a HelloRetryRequest looks like one, too).
#[derive(Default)]
struct ServerHello {
    unread: Vec<u8>,
    settled: Option<Settled>,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settled {
    resumed: bool,
    cipher_suite: CipherSuite,
    key_exchange_group: Option<NamedGroup>,
}

impl ServerHello {
    /// `bytes` are the next ones of the server's handshake, cut anywhere.
    fn observe(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.unread.extend_from_slice(bytes);
        loop {
            let mut rest = self.unread.as_slice();
            let Some((kind, body)) = message(&mut rest) else { break };
            if kind != SERVER_HELLO {
                self.over = true;
                break;
            }
            self.settled = settled(body);
            self.unread = rest.to_vec();
        }
        self.over |= self.unread.len() > MAX_SERVER_HELLO;
        if self.over {
            self.unread = Vec::new();
        }
    }
}

/// Reads a server's handshake messages, cut once; in one piece they say the same (where neither is too long to keep).
#[cfg(feature = "fuzzing")]
pub(crate) fn read_server_hello(first: &[u8], second: &[u8]) {
    let (mut cut, mut whole) = (ServerHello::default(), ServerHello::default());
    cut.observe(first);
    cut.observe(second);
    whole.observe(&[first, second].concat());
    assert!([&cut, &whole].iter().all(|hello| hello.unread.len() <= MAX_SERVER_HELLO));
    if first.len() + second.len() <= MAX_SERVER_HELLO {
        assert_eq!((cut.settled, cut.unread, cut.over), (whole.settled, whole.unread, whole.over));
    }
}

/// One handshake message off the front, if it is there whole: its type, its body.
fn message<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let mut rest = *bytes;
    let &[kind] = take(&mut rest, 1)? else { return None };
    // Its length takes three bytes; anything but a ServerHello is known by its type alone.
    let length = take(&mut rest, 3)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let body = if kind == SERVER_HELLO { take(&mut rest, length)? } else { &[] };
    *bytes = rest;
    Some((kind, body))
}

/// RFC 8446, section 4.1.3.
fn settled(mut hello: &[u8]) -> Option<Settled> {
    const VERSION_AND_RANDOM: usize = 2 + 32;
    const COMPRESSION: usize = 1;
    take(&mut hello, VERSION_AND_RANDOM)?;
    let &[session_id] = take(&mut hello, 1)? else { return None };
    take(&mut hello, session_id.into())?;
    let cipher_suite = CipherSuite::from(take_u16(&mut hello)?);
    take(&mut hello, COMPRESSION)?;
    let extensions = take_u16(&mut hello)?;
    let mut extensions = take(&mut hello, extensions.into())?;
    let (mut resumed, mut key_exchange_group) = (false, None);
    while !extensions.is_empty() {
        let kind = take_u16(&mut extensions)?;
        let length = take_u16(&mut extensions)?;
        let mut content = take(&mut extensions, length.into())?;
        match kind {
            PRE_SHARED_KEY => resumed = true,
            KEY_SHARE => key_exchange_group = take_u16(&mut content).map(NamedGroup::from),
            _ => {}
        }
    }
    Some(Settled { resumed, cipher_suite, key_exchange_group })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    let (taken, rest) = bytes.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(u16::from_be_bytes(*taken))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, content) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            list.extend(*content);
        }
        let mut body = [[3; 2].as_slice(), &[7; 32], &[4, 1, 2, 3, 4], &[0x13, 0x01], &[0]].concat();
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[SERVER_HELLO], &length[1..], &body].concat()
    }

    const X25519: &[u8] = &[0x00, 0x1d, 0x00, 0x00];
    const P256: &[u8] = &[0x00, 0x17];

    #[test]
    fn a_hello_cut_anywhere_says_the_same() {
        let expected = Settled {
            resumed: true,
            cipher_suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
            key_exchange_group: Some(NamedGroup::X25519),
        };
        let flight =
            [hello(&[(43, &[3, 4]), (KEY_SHARE, X25519), (PRE_SHARED_KEY, &[0, 0])]), vec![8, 0, 0, 9]].concat();
        for cut in 0..flight.len() {
            let mut observer = ServerHello::default();
            observer.observe(&flight[..cut]);
            observer.observe(&flight[cut..]);
            assert_eq!(observer.settled, Some(expected), "cut at {cut}");
            assert!(observer.over && observer.unread.is_empty());
        }
    }

    #[test]
    fn after_a_retry_request_the_hello_counts() {
        let mut observer = ServerHello::default();
        observer.observe(&hello(&[(KEY_SHARE, P256)]));
        assert_eq!(observer.settled.unwrap().key_exchange_group, Some(NamedGroup::secp256r1));
        observer.observe(&hello(&[(PRE_SHARED_KEY, &[0, 0]), (KEY_SHARE, X25519)]));
        observer.observe(&[8, 0, 0, 0]);
        let settled = observer.settled.unwrap();
        assert_eq!((settled.resumed, settled.key_exchange_group), (true, Some(NamedGroup::X25519)));
    }

    #[test]
    fn nonsense_settles_nothing_and_is_not_kept() {
        let mut observer = ServerHello::default();
        observer.observe(&[SERVER_HELLO, 0xff, 0xff, 0xff]);
        observer.observe(&[0; MAX_SERVER_HELLO]);
        assert!(observer.over && observer.unread.is_empty() && observer.settled.is_none());
        let mut truncated = hello(&[(KEY_SHARE, X25519)]);
        truncated.truncate(20);
        truncated[3] = 16;
        let mut observer = ServerHello::default();
        observer.observe(&truncated);
        assert_eq!(observer.settled, None);
    }
}
