//! The data plane without a job: one channel from one process to another.
//!
//! Records travel in payloads of about 256 KiB, each with its length before it, and the receiving end finds each of them.
//! Small ones are packed as a serializer would do it, by copying; large ones are handed over as they are, as the buffers of
//! a column are.

use std::sync::Arc;
use std::sync::PoisonError;

use anyhow::Context;
use bytes::Bytes;
use proto::ids::TaskManagerId;
use taskmanager::shuffle::{
    ChannelId, ChannelReceiver, ChannelSender, ChannelSpec, DataSocket, PayloadKind, Peer, Shuffle, ShuffleOptions,
};
use tls_common::{Endpoint, Listener};
use tokio_util::sync::CancellationToken;

use super::cell::{BLOCK_BYTES, Transport};
use super::peer::{Assignment, Counters, Extra, Line, last_old_byte_ms, now_us, tell, tell_samples};

pub(super) async fn run(assignment: &Assignment, endpoint: Endpoint, counters: Arc<Counters>) -> anyhow::Result<()> {
    let sends = assignment.port.is_some();
    let [own, other] = if sends { ["bench-a", "bench-b"] } else { ["bench-b", "bench-a"] };
    let any_port = ([127, 0, 0, 1], 0).into();
    let socket = match assignment.transport {
        Transport::Plain | Transport::Tls => Listener::bind(any_port).await?.into(),
        Transport::Quic => DataSocket::bind_quic(&endpoint, any_port)?,
    };
    let port = socket.local_addr()?.port();
    let (options, stop) = (ShuffleOptions::default(), CancellationToken::new());
    let (shuffle, server) = Shuffle::start(id(own)?, endpoint.clone(), socket, options, stop)?;
    tokio::spawn(server);
    // Of the two, the one with the smaller id dials: the sending end. So the receiving one needs no address.
    let peer =
        Peer::Remote { id: id(other)?, host: "localhost".to_owned(), data_port: assignment.port.unwrap_or(port) };
    let spec = ChannelSpec { id: ChannelId::from_bytes([1; 16]), peer };
    let watched = shuffle.clone();
    let extra: Extra = Box::new(move |sample| {
        for peer in watched.stats().peers.values() {
            sample.migrations += peer.migrations;
            sample.reconnects += peer.reconnects;
            sample.retransmitted_bytes += peer.retransmitted_bytes;
        }
        sample.last_old_byte_ms = last_old_byte_ms(&endpoint);
    });
    let record_bytes = assignment.record_bytes;
    let sampling = Arc::clone(&counters);
    // Of their own: a task that samples must not wait until the one that transfers has nothing to do.
    let samples = tokio::spawn(async move { tell_samples(&sampling, extra).await });
    let transfer = if sends {
        let sender = shuffle.sender(spec)?;
        tokio::spawn(send(sender, record_bytes, counters))
    } else {
        let receiver = shuffle.receiver(spec)?;
        tell(&Line::Port(port))?;
        tokio::spawn(receive(receiver, counters))
    };
    tokio::select! {
        ended = transfer => ended?,
        ended = samples => ended?,
    }
}

async fn send(mut sender: ChannelSender, record_bytes: usize, counters: Arc<Counters>) -> anyhow::Result<()> {
    let record = Bytes::from(vec![0xa5; record_bytes]);
    let length = u32::try_from(record_bytes)?.to_le_bytes();
    let records = (BLOCK_BYTES / record_bytes).max(1);
    loop {
        let stamp = now_us().to_le_bytes();
        let chunks = if record_bytes <= PACKED_BYTES {
            // Memory of its own each time: the data plane keeps it until it is acknowledged.
            let mut block = Vec::with_capacity(stamp.len() + records * (length.len() + record_bytes));
            block.extend_from_slice(&stamp);
            for _ in 0..records {
                block.extend_from_slice(&length);
                block.extend_from_slice(&record);
            }
            vec![block.into()]
        } else {
            let length = Bytes::copy_from_slice(&length);
            let records = std::iter::repeat_n([length, record.clone()], records);
            std::iter::once(Bytes::copy_from_slice(&stamp)).chain(records.flatten()).collect()
        };
        sender.send(PayloadKind::Data, chunks).await?;
        counters.moved(records as u64, (records * record_bytes) as u64);
    }
}

async fn receive(mut receiver: ChannelReceiver, counters: Arc<Counters>) -> anyhow::Result<()> {
    while let Some((_, block)) = receiver.recv().await? {
        let (stamp, mut rest) = block.split_first_chunk().context("a block without its time")?;
        let delay = u32::try_from(now_us().saturating_sub(u64::from_le_bytes(*stamp))).unwrap_or(u32::MAX);
        counters.delays_us.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
        let (mut records, mut bytes) = (0, 0);
        while !rest.is_empty() {
            let (length, record) = rest.split_first_chunk().context("a record without its length")?;
            let length = u32::from_le_bytes(*length) as usize;
            rest = record.get(length..).context("a record that is cut off")?;
            records += 1;
            bytes += length as u64;
        }
        counters.moved(records, bytes);
    }
    Ok(())
}

fn id(name: &str) -> anyhow::Result<TaskManagerId> {
    Ok(name.parse()?)
}

/// Records up to this length are copied together.
const PACKED_BYTES: usize = 4 << 10;
