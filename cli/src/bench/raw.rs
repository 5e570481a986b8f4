//! The limit: a bare TCP stream, or tokio-rustls on it, tuned as well as we know, and nothing else.
//!
//! The tuning is that of the data plane: writes of 256 KiB, as much beneath TLS and as the session's limit, and bytes
//! taken where they lie. It does not use the stream type of `tls-common`, only a generation's configurations.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::ServerName;
use tls_common::TlsContext;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::cell::{BLOCK_BYTES, Transport};
use super::peer::{Assignment, Counters, Line, tell, tell_samples};

pub(super) async fn run(
    assignment: &Assignment,
    context: Option<&TlsContext>,
    counters: Arc<Counters>,
) -> anyhow::Result<()> {
    match (assignment.port, assignment.transport) {
        (None, transport) => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            tell(&Line::Port(listener.local_addr()?.port()))?;
            let (tcp, _) = listener.accept().await?;
            let tcp = buffered(tcp)?;
            if transport == Transport::Plain {
                return receive(tcp, counters).await;
            }
            let config = context.and_then(|context| context.current().server_config().cloned());
            let acceptor = TlsAcceptor::from(config.context("no identity")?);
            let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(BLOCK_BYTES));
            receive(acceptor.accept_with(tcp, limit).await?, counters).await
        }
        (Some(port), transport) => {
            let tcp = buffered(TcpStream::connect(("127.0.0.1", port)).await?)?;
            if transport == Transport::Plain {
                return send(tcp, counters).await;
            }
            let context = context.context("no identity")?;
            let connector = TlsConnector::from(Arc::clone(context.current().client_config()));
            let name = ServerName::try_from("localhost")?;
            let limit = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(BLOCK_BYTES));
            send(connector.connect_with(name, tcp, limit).await?, counters).await
        }
    }
}

fn buffered(tcp: TcpStream) -> anyhow::Result<BufReader<TcpStream>> {
    tcp.set_nodelay(true)?;
    Ok(BufReader::with_capacity(BLOCK_BYTES, tcp))
}

async fn send(mut stream: impl AsyncWrite + Unpin, counters: Arc<Counters>) -> anyhow::Result<()> {
    let block = vec![0xa5; BLOCK_BYTES];
    let work = async {
        loop {
            if let Err(error) = stream.write_all(&block).await {
                return Err(error.into());
            }
            counters.moved(1, BLOCK_BYTES as u64);
        }
    };
    tokio::select! {
        ended = work => ended,
        ended = tell_samples(&counters, Box::new(|_| {})) => ended,
    }
}

async fn receive(mut stream: impl AsyncBufRead + Unpin, counters: Arc<Counters>) -> anyhow::Result<()> {
    let work = async {
        loop {
            let count = stream.fill_buf().await?.len();
            if count == 0 {
                return Ok(());
            }
            Pin::new(&mut stream).consume(count);
            counters.moved(0, count as u64);
        }
    };
    tokio::select! {
        ended = work => ended,
        ended = tell_samples(&counters, Box::new(|_| {})) => ended,
    }
}
