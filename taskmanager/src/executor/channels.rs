//! The data plane's channels as the engine wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{ChannelFailure, ChannelKind, Compression, InputChannel, OutputChannel};

use super::deployment::Deployment;
use crate::shuffle::{ChannelError, ChannelReceiver, ChannelSender, PayloadKind, Shuffle};

/// All channels of one task.
pub(super) struct Channels {
    pub(super) inputs: Vec<Vec<Box<dyn InputChannel>>>,
    pub(super) outputs: Vec<Vec<Box<dyn OutputChannel>>>,
    pub(super) neighbours: Neighbours,
}

/// Whether a channel failed because the other end of it went away: then what went wrong is known best over there.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours {
    left: Arc<AtomicBool>,
}

impl Channels {
    /// Registers the channels. From now on peers may open their ends; dropping the channels ends that.
    pub(super) fn register(
        shuffle: &Shuffle,
        deployment: &Deployment,
        compression: Compression,
    ) -> Result<Self, ChannelError> {
        let neighbours = Neighbours::default();
        let mut inputs: Vec<Vec<Box<dyn InputChannel>>> = Vec::new();
        for specs in &deployment.inputs {
            let mut edge: Vec<Box<dyn InputChannel>> = Vec::new();
            for spec in specs {
                let receiver = shuffle.receiver(spec.clone())?;
                edge.push(Box::new(Input { receiver, neighbours: neighbours.clone() }));
            }
            inputs.push(edge);
        }
        let mut outputs: Vec<Vec<Box<dyn OutputChannel>>> = Vec::new();
        for specs in &deployment.outputs {
            let mut edge: Vec<Box<dyn OutputChannel>> = Vec::new();
            for spec in specs {
                let sender = shuffle.sender(spec.clone())?;
                edge.push(Box::new(Output { sender, compression, neighbours: neighbours.clone() }));
            }
            outputs.push(edge);
        }
        Ok(Self { inputs, outputs, neighbours })
    }
}

impl Neighbours {
    /// Whether one went away.
    pub(super) fn left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    fn failure(&self, error: &ChannelError) -> ChannelFailure {
        let left = match error {
            ChannelError::PeerLost { .. }
            | ChannelError::NotOpened { .. }
            | ChannelError::ReceiverClosed
            | ChannelError::SenderAborted
            | ChannelError::ShutDown => true,
            ChannelError::AlreadyRegistered(_)
            | ChannelError::RemoteIsSelf(_)
            | ChannelError::TooLarge { .. }
            | ChannelError::TooManyChannels { .. } => false,
        };
        self.left.fetch_or(left, Ordering::AcqRel);
        ChannelFailure(error.to_string())
    }
}

struct Input {
    receiver: ChannelReceiver,
    neighbours: Neighbours,
}

#[async_trait]
impl InputChannel for Input {
    async fn recv(&mut self) -> Result<Option<(ChannelKind, Bytes)>, ChannelFailure> {
        let received = self.receiver.recv().await.map_err(|error| self.neighbours.failure(&error))?;
        Ok(received.map(|(kind, payload)| match kind {
            PayloadKind::Data => (ChannelKind::Data, payload),
            PayloadKind::Event => (ChannelKind::Event, payload),
        }))
    }
}

struct Output {
    sender: ChannelSender,
    compression: Compression,
    neighbours: Neighbours,
}

#[async_trait]
impl OutputChannel for Output {
    async fn send(&mut self, kind: ChannelKind, chunks: Vec<Bytes>) -> Result<(), ChannelFailure> {
        let kind = match kind {
            ChannelKind::Data => PayloadKind::Data,
            ChannelKind::Event => PayloadKind::Event,
        };
        self.sender.send(kind, chunks).await.map_err(|error| self.neighbours.failure(&error))
    }

    fn is_local(&self) -> bool {
        self.sender.is_local()
    }

    fn default_compression(&self) -> Compression {
        self.compression
    }

    async fn finish(self: Box<Self>) -> Result<(), ChannelFailure> {
        let Self { sender, neighbours, .. } = *self;
        sender.finish().await.map_err(|error| neighbours.failure(&error))
    }
}
