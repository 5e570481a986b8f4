//! The accepting side: who calls, is it their turn to dial, and to which session does the connection belong.

use std::sync::Arc;

use proto::frame::{ALPN, Decoder, ErrorCode, Frame};
use tls_common::{Endpoint, StreamTuning, quic, serve};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::connection::Link;
use super::greeting::{self, GreetingError};
use super::wire::{Called, DataSocket, quic_acceptor};

/// Serves until `shutdown`, then waits for all tasks of the data plane.
pub(super) async fn run(shuffle: Arc<Inner>, socket: DataSocket, endpoint: Endpoint, shutdown: CancellationToken) {
    let for_each = Arc::clone(&shuffle);
    match socket {
        DataSocket::Tcp(listener) => {
            let acceptor = endpoint.acceptor(&[ALPN]).tuned(StreamTuning::BULK);
            let handler = move |connection| handle(Arc::clone(&for_each), Called::Tcp(connection));
            serve(listener, acceptor, shutdown, handler).await;
        }
        DataSocket::Quic(socket) => {
            let handler = move |connection| handle(Arc::clone(&for_each), Called::Quic(connection));
            quic::serve(socket, quic_acceptor(&endpoint), shutdown, handler).await;
        }
    }
    shuffle.tasks.close();
    shuffle.tasks.wait().await;
}

async fn handle(shuffle: Arc<Inner>, connection: Called) {
    let info = connection.info().clone();
    let limit = shuffle.options.hello_timeout;
    let greeted = tokio::select! {
        greeted = timeout(limit, greet(&shuffle, connection)) => {
            greeted.map_err(|_| GreetingError::Timeout(limit)).flatten()
        }
        why = info.untrusted() => Err(GreetingError::Untrusted(why)),
    };
    match greeted {
        Ok(link) => link.run(shuffle.shutdown.clone(), shuffle.options.close_timeout).await,
        Err(error) => {
            let (address, fingerprint) = (info.peer_addr(), info.peer().and_then(|identity| identity.fingerprint()));
            tracing::info!(target: "audit", %address, fingerprint, %error, "refused a data connection");
        }
    }
}

async fn greet(shuffle: &Arc<Inner>, caller: Called) -> Result<Link, GreetingError> {
    let mut connection = caller.answered().await?;
    let own = Frame::Hello(greeting::accepting_hello(&shuffle.own, shuffle.options.lanes));
    greeting::write(&mut connection, &own).await?;
    let mut decoder = Decoder::new(shuffle.options.max_payload_bytes);
    let hello = greeting::read_hello(&mut connection, &mut decoder, shuffle.options.lanes).await?;
    let admitted =
        if hello.task_manager < shuffle.own { shuffle.greeted_peer(&hello) } else { Err(ErrorCode::WrongPeer) };
    match admitted {
        Ok((peer, id)) => Ok(Link { connection, decoder, peer, id }),
        Err(code) => {
            let message = format!("the connection of TaskManager {} is not welcome", hello.task_manager);
            greeting::write(&mut connection, &Frame::Error { code, message: message.clone() }).await?;
            // It is told why before the connection goes.
            greeting::linger(&mut connection).await?;
            Err(GreetingError::Refused { code, message })
        }
    }
}
