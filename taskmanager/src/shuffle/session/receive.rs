//! What the peer says.

use std::time::Instant;

use proto::frame::{ChannelId, Frame, StopReason};

use super::inbound::{Arrival, Item};
use super::link::Half;
use super::{Event, LinkId, SenderKey, Session};
use crate::shuffle::error::{ChannelError, Violation};

impl Session {
    /// A frame came on a link. After a violation the frame has had no effect; the link's connection must be cut and
    /// detached.
    pub(crate) fn handle_frame(&mut self, id: LinkId, frame: Frame, now: Instant) -> Result<(), Violation> {
        // Frames of a connection that has been given up may still trickle in.
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.heard = now;
        let in_turn = match &frame {
            Frame::Hello(_) | Frame::Error { .. } => false,
            Frame::Payload { .. } | Frame::Finish { .. } | Frame::Fin => link.ready && link.peer_fin == Half::Open,
            Frame::Open { .. } => link.peer_fin == Half::Open,
            Frame::Resume => !link.ready,
            Frame::FinAck => link.fin == Half::Sent,
            Frame::Credit { .. } | Frame::Stop { .. } | Frame::GoAway | Frame::Ping => true,
        };
        if !in_turn {
            self.stats.violations += 1;
            return Err(Violation::OutOfTurn(name(&frame)));
        }
        let judged = match frame {
            Frame::Open { channel, id } => self.handle_open(channel, id, now),
            Frame::Payload { kind, channel, sequence, body } => {
                self.handle_sequenced(channel, sequence, Item::Payload(kind, body))
            }
            Frame::Finish { channel, sequence, aborted } => {
                self.handle_sequenced(channel, sequence, Item::Finish { aborted })
            }
            Frame::Credit { channel, next, limit } => self.handle_credit(channel, next, limit),
            Frame::Stop { channel, reason } => self.handle_stop(channel, reason),
            Frame::Resume => {
                link.ready = true;
                self.choose_current(now);
                self.established = true;
                self.unsettled = false;
                // The peer may have noticed the break of an older link only after we asked it again for the last time.
                self.requeue(None);
                Ok(())
            }
            Frame::GoAway => {
                link.leaving = true;
                self.changed();
                Ok(())
            }
            Frame::Fin => {
                link.peer_fin = Half::Due;
                self.wake(id);
                self.changed();
                Ok(())
            }
            Frame::FinAck => {
                link.fin = Half::Done;
                self.wake(id);
                Ok(())
            }
            Frame::Ping | Frame::Hello(_) | Frame::Error { .. } => Ok(()),
        };
        if judged.is_err() {
            self.stats.violations += 1;
        }
        judged
    }

    fn handle_open(&mut self, number: u32, id: ChannelId, now: Instant) -> Result<(), Violation> {
        if let Some(key) = self.opened.get(&number).copied() {
            // Said again on a new link, because our answer had not come through.
            if self.receiver_ids.get(&id) != Some(&key) {
                return Err(Violation::ChannelReused(number));
            }
            self.tell(key);
            return Ok(());
        }
        if let Some((waiting, _)) = self.pending.get(&id) {
            return if *waiting == number { Ok(()) } else { Err(Violation::ChannelReused(number)) };
        }
        let receiver = self.receiver_ids.get(&id).copied();
        let receiver = receiver.and_then(|key| self.inbound.get(&key).map(|channel| (key, channel)));
        match receiver {
            Some((_, channel)) if channel.number.is_some() => return Err(Violation::ChannelReused(number)),
            Some((key, channel)) if channel.is_awaited() => self.bind(key, number),
            Some(_) => self.refuse(number, StopReason::Closed),
            None if self.pending.len() < self.options.max_pending_opens => {
                self.pending.insert(id, (number, now + self.options.open_timeout));
                self.changed();
            }
            None => self.refuse(number, StopReason::TooMany),
        }
        self.highest_number = self.highest_number.max(Some(number));
        Ok(())
    }

    fn handle_sequenced(&mut self, number: u32, sequence: u64, item: Item) -> Result<(), Violation> {
        let Some(key) = self.opened.get(&number).copied() else {
            return self.handle_unopened(number, sequence, &item);
        };
        let Some(channel) = self.inbound.get_mut(&key) else { return Ok(()) };
        let bytes = item.bytes();
        match channel.arrive(number, sequence, item)? {
            Arrival::Dropped => self.stats.duplicate_frames += 1,
            arrival => {
                self.stats.frames_in += 1;
                self.stats.bytes_in += bytes;
                if arrival == Arrival::Readable {
                    self.events.push_back(Event::Readable(key));
                }
            }
        }
        if channel.stopped.is_some() && channel.is_complete() {
            self.forget_receiver(key);
        } else {
            self.tell_if_wanted(key);
        }
        Ok(())
    }

    /// A channel that has been closed here, which its sender may not know yet; or nonsense.
    fn handle_unopened(&mut self, number: u32, sequence: u64, item: &Item) -> Result<(), Violation> {
        if Some(number) > self.highest_number {
            return Err(Violation::UnknownChannel(number));
        }
        if self.pending.values().any(|(pending, _)| *pending == number) {
            return Err(Violation::Credit { channel: number, limit: 0 });
        }
        self.stats.duplicate_frames += 1;
        if matches!(item, Item::Finish { .. }) {
            self.say_farewell(number, sequence.saturating_add(1));
        }
        Ok(())
    }

    fn handle_credit(&mut self, number: u32, next: u64, limit: u64) -> Result<(), Violation> {
        let key = SenderKey(number);
        let Some(channel) = self.outbound.get_mut(&key) else { return self.check_number(number) };
        channel.credit(number, next, limit)?;
        if channel.is_done() && channel.detached {
            self.forget_sender(key);
            return Ok(());
        }
        if channel.waiting && (channel.may_send() || channel.is_done()) {
            channel.waiting = false;
            self.events.push_back(Event::Writable(key));
        }
        self.enqueue(key);
        Ok(())
    }

    fn handle_stop(&mut self, number: u32, reason: StopReason) -> Result<(), Violation> {
        let key = SenderKey(number);
        let Some(channel) = self.outbound.get_mut(&key) else { return self.check_number(number) };
        channel.stop();
        if channel.failure.is_none() {
            channel.failure = Some(match reason {
                StopReason::Closed => ChannelError::ReceiverClosed,
                StopReason::NotRegistered => {
                    let peer = format!("TaskManager {}", self.peer);
                    ChannelError::NotOpened { peer, waited: self.options.open_timeout, cause: None }
                }
                StopReason::TooMany => {
                    ChannelError::TooManyChannels { peer: self.peer.clone(), max: self.options.max_pending_opens }
                }
            });
            self.events.push_back(Event::Writable(key));
        }
        self.enqueue(key);
        Ok(())
    }

    /// A word about one of our channels that is not there: either it is closed by now, or it never was.
    fn check_number(&self, number: u32) -> Result<(), Violation> {
        if number < self.next_number { Ok(()) } else { Err(Violation::UnknownChannel(number)) }
    }
}

fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "Hello",
        Frame::Open { .. } => "Open",
        Frame::Payload { .. } => "Payload",
        Frame::Finish { .. } => "Finish",
        Frame::Credit { .. } => "Credit",
        Frame::Stop { .. } => "Stop",
        Frame::Resume => "Resume",
        Frame::GoAway => "GoAway",
        Frame::Fin => "Fin",
        Frame::FinAck => "FinAck",
        Frame::Ping => "Ping",
        Frame::Error { .. } => "Error",
    }
}
