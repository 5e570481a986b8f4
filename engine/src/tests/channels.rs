//! Channels in memory.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::Compression;
use crate::channel::{ChannelFailure, ChannelKind, InputChannel, OutputChannel};

/// Payloads in flight: few, so that back-pressure is part of every test.
const CAPACITY: usize = 4;

pub(crate) fn channel() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Sender(sender), Receiver(receiver))
}

#[derive(Debug)]
pub(crate) struct Sender(mpsc::Sender<(ChannelKind, Bytes)>);

#[derive(Debug)]
pub(crate) struct Receiver(mpsc::Receiver<(ChannelKind, Bytes)>);

impl Sender {
    /// Sends at once; the channel has to have room.
    pub(crate) fn push(&self, kind: ChannelKind, payload: Bytes) {
        self.0.try_send((kind, payload)).unwrap();
    }
}

#[async_trait]
impl OutputChannel for Sender {
    async fn send(&mut self, kind: ChannelKind, chunks: Vec<Bytes>) -> Result<(), ChannelFailure> {
        let sent = self.0.send((kind, chunks.concat().into())).await;
        sent.map_err(|_| ChannelFailure("the receiver is gone".to_owned()))
    }

    fn is_local(&self) -> bool {
        false
    }

    fn default_compression(&self) -> Compression {
        Compression::None
    }

    async fn finish(self: Box<Self>) -> Result<(), ChannelFailure> {
        Ok(())
    }
}

#[async_trait]
impl InputChannel for Receiver {
    async fn recv(&mut self) -> Result<Option<(ChannelKind, Bytes)>, ChannelFailure> {
        Ok(self.0.recv().await)
    }
}
