//! The accepting side: who calls, is it their turn to dial, and to which session does the connection belong.

use std::sync::Arc;

use proto::frame::{Decoder, ErrorCode, Frame};
use tls_common::{Acceptor, Connection, Listener, serve};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::connection::Link;
use super::greeting::{self, GreetingError};

/// Serves until `shutdown`, then waits for all tasks of the data plane.
pub(super) async fn run(shuffle: Arc<Inner>, listener: Listener, acceptor: Acceptor, shutdown: CancellationToken) {
    let handler = {
        let shuffle = Arc::clone(&shuffle);
        move |connection| handle(Arc::clone(&shuffle), connection)
    };
    serve(listener, acceptor, shutdown, handler).await;
    shuffle.tasks.close();
    shuffle.tasks.wait().await;
}

async fn handle(shuffle: Arc<Inner>, connection: Connection) {
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

async fn greet(shuffle: &Arc<Inner>, mut connection: Connection) -> Result<Link, GreetingError> {
    let own = Frame::Hello(greeting::accepting_hello(&shuffle.own));
    greeting::write(&mut connection, &own).await?;
    let mut decoder = Decoder::new(shuffle.options.max_payload_bytes);
    let hello = greeting::read_hello(&mut connection, &mut decoder).await?;
    let admitted =
        if hello.task_manager < shuffle.own { shuffle.greeted_peer(&hello) } else { Err(ErrorCode::WrongPeer) };
    match admitted {
        Ok((peer, id)) => Ok(Link { connection, decoder, peer, id }),
        Err(code) => {
            let message = format!("the connection of TaskManager {} is not welcome", hello.task_manager);
            greeting::write(&mut connection, &Frame::Error { code, message: message.clone() }).await?;
            Err(GreetingError::Refused { code, message })
        }
    }
}
