//! Bytes between a connection and memory, in bounded pieces and bounded time. Server and client share these limits.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Bytes that are read or written at once: what one transfer holds in memory.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// A header or a chunk that takes longer than this to pass ends the connection.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole request, body included, that takes longer than this ends the connection.
pub(crate) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a clean close may take; after it the connection is just dropped.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs IO with a limit; `waiting_for` completes the error's sentence.
pub(crate) async fn within<T>(
    limit: Duration,
    waiting_for: &str,
    io: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("waited {} s for {waiting_for}", limit.as_secs())))
    })
}

/// Reads a header of known length.
pub(crate) async fn read_header<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut header = [0; N];
    within(STALL_TIMEOUT, "the peer's answer", io.read_exact(&mut header)).await?;
    Ok(header)
}

/// Reads the next piece of a body of which `left` bytes are still to come; `left` is lowered. Memory is taken as
/// bytes arrive, never because a header promised them.
pub(crate) async fn read_chunk(
    io: &mut (impl AsyncRead + Unpin),
    left: &mut u64,
    stall: Duration,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(*left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let mut chunk = vec![0; length];
    within(stall, "the next bytes of a transfer", io.read_exact(&mut chunk)).await?;
    *left -= length as u64;
    Ok(chunk)
}

/// Writes all of `data` in pieces, without the flush.
pub(crate) async fn write_chunks(io: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    for chunk in data.chunks(CHUNK_BYTES) {
        within(STALL_TIMEOUT, "the peer to take bytes", io.write_all(chunk)).await?;
    }
    Ok(())
}

/// Sends what is still buffered. TLS keeps bytes back until it is told.
pub(crate) async fn flush(io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    within(STALL_TIMEOUT, "the peer to take bytes", io.flush()).await
}
