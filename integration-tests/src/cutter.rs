//! A network that cuts connections: passes bytes on in both directions, and drops a connection after a while.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Stands before one port. Dropping it closes the port; connections that are there go on.
#[derive(Debug)]
pub struct Cutter {
    cut: Arc<AtomicU64>,
    down: CancellationToken,
    _accepting: AbortOnDropHandle<()>,
}

impl Cutter {
    /// Listens on `address` for `target`. A connection moves so many bytes at most in either direction, a number drawn
    /// by `seed`, and is then cut in the middle of whatever it does.
    pub async fn start(address: SocketAddr, target: SocketAddr, lives: RangeInclusive<u64>, seed: u64) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (cut, down) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        let (counted, broken) = (Arc::clone(&cut), down.clone());
        let accepting = tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            while let Ok((caller, _)) = listener.accept().await {
                let lives = [rng.random_range(lives.clone()), rng.random_range(lives.clone())];
                let (counted, broken) = (Arc::clone(&counted), broken.clone());
                tokio::spawn(async move {
                    let Ok(called) = TcpStream::connect(target).await else { return };
                    let (from_caller, to_caller) = caller.into_split();
                    let (from_called, to_called) = called.into_split();
                    let mut there = pin!(pass(from_caller, to_called, lives[0]));
                    let mut back = pin!(pass(from_called, to_caller, lives[1]));
                    // Who ends in order only ends its own way.
                    let was_cut = tokio::select! {
                        was_cut = &mut there => was_cut || back.await,
                        was_cut = &mut back => was_cut || there.await,
                        () = broken.cancelled() => true,
                    };
                    counted.fetch_add(u64::from(was_cut), Ordering::Relaxed);
                });
            }
        });
        Self { cut, down, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// How many connections it has cut so far.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// From now on it cuts every connection, and every new one at once.
    pub fn break_down(&self) {
        self.down.cancel();
    }
}

/// Whether it ended because `lives` bytes have passed; an end in order is passed on.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut lives: u64) -> bool {
    let mut buffer = vec![0; 64 << 10];
    while lives > 0 {
        let Ok(count) = from.read(&mut buffer).await else { return false };
        let passed = count.min(usize::try_from(lives).unwrap_or(usize::MAX));
        if count == 0 || to.write_all(&buffer[..passed]).await.is_err() {
            let _ = to.shutdown().await; // it may be gone
            return false;
        }
        lives -= passed as u64;
    }
    true
}
