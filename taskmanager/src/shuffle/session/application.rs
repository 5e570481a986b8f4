//! What the two ends of a channel ask of the session. Nothing here waits.

use std::time::Instant;

use proto::frame::{ChannelId, Chunks, PayloadKind, StopReason};

use super::debloat::Debloat;
use super::inbound::{Inbound, Item};
use super::outbound::Outbound;
use super::{Read, ReceiverKey, SenderKey, Session};
use crate::shuffle::error::ChannelError;

impl Session {
    /// Registers the sending end of a channel and announces it to the peer.
    pub(crate) fn open_sender(&mut self, id: ChannelId, now: Instant) -> Result<SenderKey, ChannelError> {
        if self.sender_ids.contains_key(&id) {
            return Err(ChannelError::AlreadyRegistered(id));
        }
        if self.outbound.len() >= self.options.max_channels {
            return Err(self.too_many_channels());
        }
        let key = SenderKey(self.next_number);
        self.next_number += 1;
        self.outbound.insert(key, Outbound::new(id, now + self.options.open_timeout, self.options.retained_bytes));
        self.sender_ids.insert(id, key);
        self.opens_due.insert(key);
        self.wake_current();
        self.changed();
        Ok(key)
    }

    /// Registers the receiving end of a channel: from now on the peer may open it.
    pub(crate) fn open_receiver(&mut self, id: ChannelId, now: Instant) -> Result<ReceiverKey, ChannelError> {
        if self.receiver_ids.contains_key(&id) {
            return Err(ChannelError::AlreadyRegistered(id));
        }
        if self.inbound.len() >= self.options.max_channels {
            return Err(self.too_many_channels());
        }
        let key = ReceiverKey(self.next_key);
        self.next_key += 1;
        let debloat = self.options.debloat_target.map(Debloat::new);
        let deadline = now + self.options.open_timeout;
        self.inbound.insert(key, Inbound::new(id, deadline, self.options.max_payload_bytes, debloat));
        self.receiver_ids.insert(id, key);
        if let Some((number, _)) = self.pending.remove(&id) {
            self.bind(key, number);
        }
        self.changed();
        Ok(key)
    }

    /// Takes a payload if there is credit; otherwise gives it back, and [`super::Event::Writable`] says when to come
    /// again.
    pub(crate) fn send(
        &mut self,
        key: SenderKey,
        kind: PayloadKind,
        chunks: Chunks,
    ) -> Result<Option<Chunks>, ChannelError> {
        let channel = self.outbound.get_mut(&key).ok_or(ChannelError::ShutDown)?;
        if let Some(failure) = &channel.failure {
            return Err(failure.clone());
        }
        if !channel.may_send() {
            channel.waiting = true;
            return Ok(Some(chunks));
        }
        channel.push_payload(kind, chunks);
        self.enqueue(key);
        Ok(None)
    }

    /// Nothing more comes on this channel.
    pub(crate) fn finish(&mut self, key: SenderKey) {
        if let Some(channel) = self.outbound.get_mut(&key) {
            channel.push_finish(false);
            self.enqueue(key);
        }
    }

    /// Whether the peer has received everything up to the end of the channel; [`super::Event::Writable`] says when to
    /// ask again.
    pub(crate) fn poll_finish(&mut self, key: SenderKey) -> Result<bool, ChannelError> {
        let channel = self.outbound.get_mut(&key).ok_or(ChannelError::ShutDown)?;
        if let Some(failure) = &channel.failure {
            return Err(failure.clone());
        }
        channel.waiting = true;
        Ok(channel.is_done())
    }

    /// The handle is gone. An unfinished channel is aborted.
    pub(crate) fn close_sender(&mut self, key: SenderKey) {
        let Some(channel) = self.outbound.get_mut(&key) else { return };
        channel.detached = true;
        channel.push_finish(true);
        let lost = matches!(channel.failure, Some(ChannelError::PeerLost { .. }));
        if lost || channel.is_done() || !channel.announced {
            self.forget_sender(key);
        } else {
            self.enqueue(key);
        }
    }

    /// The next payload in order, whose credit goes back to the sender; [`super::Event::Readable`] says when to ask
    /// again.
    pub(crate) fn read(&mut self, key: ReceiverKey, now: Instant) -> Result<Read, ChannelError> {
        let channel = self.inbound.get_mut(&key).ok_or(ChannelError::ShutDown)?;
        match channel.read(now) {
            Some(Item::Payload(kind, body)) => {
                self.tell_if_wanted(key);
                Ok(Read::Payload(kind, body))
            }
            Some(Item::Finish { aborted: false }) => Ok(Read::End),
            Some(Item::Finish { aborted: true }) => Err(ChannelError::SenderAborted),
            None => channel.failure.clone().map_or(Ok(Read::Nothing), Err),
        }
    }

    /// The handle is gone. The sender of an unfinished channel is told to stop.
    pub(crate) fn close_receiver(&mut self, key: ReceiverKey) {
        let Some(channel) = self.inbound.get_mut(&key) else { return };
        channel.stop(StopReason::Closed);
        if channel.number.is_none() || channel.is_complete() {
            self.forget_receiver(key);
        } else {
            self.stops_due.insert(key);
            self.wake_current();
        }
    }

    fn too_many_channels(&self) -> ChannelError {
        ChannelError::TooManyChannels { peer: self.peer.clone(), max: self.options.max_channels }
    }
}
