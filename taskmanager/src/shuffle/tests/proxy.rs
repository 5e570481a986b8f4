//! A network that cuts connections: passes bytes on in both directions and drops a connection after a random number of
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub(super) struct Proxy {
    pub(super) port: u16,
    pub(super) cut: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
    broken: CancellationToken,
}

impl Proxy {
    /// Connections live for at most `longest_bytes` in either direction.
    pub(super) async fn start(target: SocketAddr, longest_bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, cut: Arc::default(), calm: Arc::default(), broken: CancellationToken::new() };
        let (cut, calm, broken) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.calm), proxy.broken.clone());
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(7);
            while let Ok((caller, _)) = listener.accept().await {
                let mut lives =
                    || if calm.load(Ordering::Relaxed) { u64::MAX } else { rng.random_range(1..longest_bytes) };
                let lives = (lives(), lives());
                let (cut, broken) = (Arc::clone(&cut), broken.clone());
                tokio::spawn(async move {
                    let Ok(called) = TcpStream::connect(target).await else { return };
                    let (from_caller, to_caller) = caller.into_split();
                    let (from_called, to_called) = called.into_split();
                    // Whichever way comes to its end first takes the other with it, in the middle of whatever it does.
                    tokio::select! {
                        () = pass(from_caller, to_called, lives.0) => {}
                        () = pass(from_called, to_caller, lives.1) => {}
                        () = broken.cancelled() => {}
                    }
                    cut.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        proxy
    }

    /// Cuts every connection, and every new one at once.
    pub(super) fn break_down(&self) {
        self.broken.cancel();
    }

    /// New connections live as long as they like.
    pub(super) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut lives: u64) {
    let mut buffer = vec![0; 64 << 10];
    while lives > 0 {
        let Ok(count) = from.read(&mut buffer).await else { return };
        let passed = count.min(usize::try_from(lives).unwrap_or(usize::MAX));
        if count == 0 || to.write_all(&buffer[..passed]).await.is_err() {
            return;
        }
        lives -= passed as u64;
    }
}
