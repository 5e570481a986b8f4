//! [`Connection`]: a QUIC connection that knows its generation and can be told to drain.

use super::error::{alert_of, handshake_error};
use super::session::HandshakeData;
use crate::endpoint::EndpointInner;
use crate::endpoint::departure::End;
use crate::endpoint::error::HandshakeError;
use crate::endpoint::info::{ConnectionInfo, Handshake, LiveGuard};
use crate::generation::Generation;
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;

/// A QUIC connection under one generation. It derefs to quinn's, whose streams it opens and accepts.
///
/// Dropping it closes the connection, even if a clone of quinn's handle or a stream is left somewhere: what has left the
/// endpoint's list could not be drained any more. So keep it until the peer has what you sent; see
/// [`quinn::Connection::close`] on how to know.
#[derive(Debug)]
pub struct Connection {
    quic: quinn::Connection,
    live: LiveGuard,
}

impl Connection {
    /// Lists a connection whose handshake under `generation` is over; see [`LiveGuard::admit`].
    pub(super) fn admit(
        quic: quinn::Connection,
        endpoint: &Arc<EndpointInner>,
        generation: &Generation,
        dialled: Option<ServerName<'static>>,
        cut_code: quinn::VarInt,
    ) -> Result<Self, HandshakeError> {
        let data = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let handshake = Handshake {
            peer_addr: quic.remote_address(),
            chain: chain.as_ref().map(|chain| chain.as_slice()),
            alpn: data.as_ref().and_then(|data| data.protocol.as_deref()),
            negotiated: data.as_deref().map(HandshakeData::negotiated),
            dialled,
        };
        let live = LiveGuard::admit(endpoint, generation, handshake).map_err(HandshakeError::Rejected)?;
        tokio::spawn(attend(quic.clone(), Arc::clone(endpoint), live.info.clone(), cut_code));
        Ok(Self { quic, live })
    }

    /// What is known about this connection; cheap to clone and to keep.
    pub fn info(&self) -> &ConnectionInfo {
        &self.live.info
    }
}

impl Deref for Connection {
    type Target = quinn::Connection;

    fn deref(&self) -> &quinn::Connection {
        &self.quic
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.quic.close_reason().is_none() {
            self.quic.close(quinn::VarInt::from_u32(0), b"");
            // The close itself is the last that is sent under this connection's certificate.
            self.live.info.state.note_bytes_sent();
        }
    }
}

/// Stays with a connection until it is closed: cuts it when the judge says so, and hears of a late refusal.
async fn attend(quic: quinn::Connection, endpoint: Arc<EndpointInner>, info: ConnectionInfo, cut_code: quinn::VarInt) {
    let error = tokio::select! {
        error = quic.closed() => Some(error),
        () = poll_fn(|cx| info.state.departure.poll_cut(End::Read, cx)) => {
            quic.close(cut_code, b"drained: its time to finish is over");
            None
        }
    };
    info.state.note_bytes_sent();
    // A client hears only after its own handshake that the server refused its certificate.
    if let Some(error) = error
        && info.state.dialled.is_some()
        && alert_of(&error).is_some()
    {
        endpoint.note_late_refusal(&info.state, &handshake_error(error));
    }
}
