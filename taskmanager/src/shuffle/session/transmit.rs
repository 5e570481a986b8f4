//! What a link shall write next: control frames first, then payloads of the channels in turn.

use std::time::Instant;

use proto::frame::{Chunks, Frame};

use super::inbound::Inbound;
use super::link::Half;
use super::{LinkId, Session};

/// Payload bytes a channel may send before it is the next one's turn.
const TURN_BYTES: u64 = 64 << 10;

/// What to do after writing what [`Session::transmit`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask again as soon as there is room.
    More,
    /// Ask again after [`super::Event::Transmit`].
    Wait,
    /// Close the connection once everything is written.
    Close,
}

impl Session {
    /// Appends to `out` the frames that the link shall write: all control frames that are due, and payloads of at least
    /// `budget` bytes if there are as many (at most one payload more).
    pub(crate) fn transmit(&mut self, id: LinkId, budget: u64, now: Instant, out: &mut Vec<Frame<Chunks>>) -> Next {
        let Some(link) = self.links.get_mut(&id) else { return Next::Close };
        let before = out.len();
        link.woken = false;
        let resume = std::mem::take(&mut link.resume_due);
        if std::mem::take(&mut link.goaway_due) {
            out.push(Frame::GoAway);
        }
        if resume {
            // A new link begins with all that is true, whatever has been said on others.
            self.repeat_control();
            self.transmit_control(out);
            out.push(Frame::Resume);
        }
        let is_current = self.current == Some(id);
        if is_current {
            self.transmit_control(out);
            self.transmit_payloads(id, budget, out);
        }
        let more = is_current && !self.ready.is_empty();
        let Some(link) = self.links.get_mut(&id) else { return Next::Close };
        if link.fin == Half::Due {
            link.fin = Half::Sent;
            out.push(Frame::Fin);
        }
        if link.peer_fin == Half::Due {
            link.peer_fin = Half::Done;
            out.push(Frame::FinAck);
        }
        if std::mem::take(&mut link.ping_due) && out.len() == before {
            out.push(Frame::Ping);
        }
        if out.len() > before {
            link.spoke = now;
        }
        match (link.is_closed(), more) {
            (true, _) => Next::Close,
            (false, true) => Next::More,
            (false, false) => Next::Wait,
        }
    }

    fn transmit_control(&mut self, out: &mut Vec<Frame<Chunks>>) {
        while let Some(key) = self.opens_due.pop_first() {
            if let Some(channel) =
                self.outbound.get_mut(&key).filter(|channel| !channel.opened && channel.failure.is_none())
            {
                channel.announced = true;
                out.push(Frame::Open { channel: key.0, id: channel.id });
            }
        }
        while let Some((channel, reason)) = self.refusals_due.pop_first() {
            out.push(Frame::Stop { channel, reason });
        }
        while let Some(key) = self.stops_due.pop_first() {
            let stopped = self.inbound.get(&key).and_then(|channel| channel.number.zip(channel.stopped));
            out.extend(stopped.map(|(channel, reason)| Frame::Stop { channel, reason }));
        }
        while let Some(key) = self.credits_due.pop_first() {
            out.extend(self.inbound.get_mut(&key).and_then(Inbound::tell));
        }
        while let Some((channel, next)) = self.farewells_due.pop_first() {
            out.push(Frame::Credit { channel, next, limit: 0 });
        }
    }

    fn transmit_payloads(&mut self, link: LinkId, budget: u64, out: &mut Vec<Frame<Chunks>>) {
        let mut total = 0;
        while total < budget
            && let Some(key) = self.ready.pop_front()
        {
            let Some(channel) = self.outbound.get_mut(&key) else { continue };
            let mut turn = 0;
            while turn < TURN_BYTES
                && total + turn < budget
                && let Some(transmission) = channel.transmit(key.0, link)
            {
                // A frame without payload must count as well, or a turn of them would never end.
                turn += transmission.bytes.max(1);
                self.stats.frames_out += 1;
                self.stats.bytes_out += transmission.bytes;
                if transmission.again {
                    self.stats.retransmitted_bytes += transmission.bytes;
                }
                out.push(transmission.frame);
            }
            total += turn;
            channel.queued = channel.has_unsent();
            if channel.queued {
                self.ready.push_back(key);
            }
        }
    }
}
