//! Connections come and go, time passes, the peer is lost.

use std::time::Instant;

use proto::frame::{ErrorCode, Hello, StopReason};

use super::link::{Half, Link};
use super::{Event, LinkId, Session};
use crate::shuffle::error::ChannelError;

impl Session {
    /// Whether the peer's hello belongs here; then its connection is attached. For the accepting side.
    pub(crate) fn admit(&mut self, hello: &Hello, now: Instant) -> Result<LinkId, ErrorCode> {
        let link = LinkId(hello.connection);
        if self.id != Some(hello.session) {
            if hello.resumed {
                return Err(ErrorCode::UnknownSession);
            }
            if !self.links.is_empty() {
                return Err(ErrorCode::SessionBusy);
            }
            if self.id.is_some() {
                self.reset("it has begun a new session", now);
            }
            self.id = Some(hello.session);
        }
        if self.links.len() >= self.options.max_connections || self.links.contains_key(&link) {
            return Err(ErrorCode::TooMany);
        }
        self.attach(link, now);
        Ok(link)
    }

    /// What the dialling side's hello says: the session, named `fresh` if it has no name yet, and whether the peer must
    /// know it.
    pub(crate) fn identity(&mut self, fresh: u64) -> (u64, bool) {
        (*self.id.get_or_insert(fresh), self.established)
    }

    /// A connection to the peer is there and both sides have said hello. Its number must be new.
    pub(crate) fn attach(&mut self, link: LinkId, now: Instant) {
        self.links.insert(link, Link::new(now));
        self.wake(link);
        self.changed();
    }

    /// The connection is gone, for whatever reason.
    pub(crate) fn detach(&mut self, id: LinkId, cause: &str, now: Instant) {
        let Some(link) = self.links.remove(&id) else { return };
        if !link.is_closed() {
            self.last_error = Some(cause.to_owned());
        }
        // What we said may not have arrived, unless the peer has confirmed our end; what it said, unless we have seen
        // its end.
        let (ours, theirs) = (link.fin != Half::Done, link.peer_fin == Half::Open);
        if ours || theirs {
            self.unsettled = true;
            self.repeat_control();
            self.requeue(ours.then_some(id));
        }
        self.choose_current(now);
        self.changed();
    }

    /// Payloads can be sent.
    pub(crate) fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn is_attached(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Bytes came, be it a whole frame or a part of a long one.
    pub(crate) fn heard(&mut self, link: LinkId, now: Instant) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard = now;
        }
    }

    /// The connection should be replaced: its certificate is not current any more. Asks the peer for it, too.
    pub(crate) fn leave(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.leaving) {
            link.leaving = true;
            link.goaway_due = true;
            self.wake(id);
            self.changed();
        }
    }

    /// Whether the dialling side should make a new connection: there is none that lasts, and somebody needs one.
    pub(crate) fn wants_link(&self) -> bool {
        let lasts = |link: &Link| !link.leaving && link.fin == Half::Open && link.peer_fin == Half::Open;
        !self.is_unused() && self.links.len() < self.options.max_connections && !self.links.values().any(lasts)
    }

    /// Something went wrong on the way to the peer: the reason to give if it is lost.
    pub(crate) fn note_error(&mut self, error: String) {
        self.last_error = Some(error);
    }

    /// Everything that is due by now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let silent = |link: &Link| now >= link.heard + self.options.keepalive_timeout;
        let dead: Vec<_> = self.links.iter().filter(|(_, link)| silent(link)).map(|(id, _)| *id).collect();
        for id in dead {
            self.detach(id, "nothing was heard from it within the keepalive timeout", now);
            self.events.push_back(Event::Dead(id));
        }
        let quiet = |link: &Link| self.ping_time(link).is_some_and(|time| time <= now);
        let quiet: Vec<_> = self.links.iter().filter(|(_, link)| quiet(link)).map(|(id, _)| *id).collect();
        for id in quiet {
            if let Some(link) = self.links.get_mut(&id) {
                link.ping_due = true;
            }
            self.wake(id);
        }
        if self.lost_time().is_some_and(|time| time <= now) {
            let cause = self.last_error.take().unwrap_or_else(|| "there is no connection".to_owned());
            self.reset(&cause, now);
        }
        self.expire_opens(now);
    }

    /// When to call [`Self::handle_timeout`] next, at the latest.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let dead = self.links.values().map(|link| link.heard + self.options.keepalive_timeout);
        let quiet = self.links.values().filter_map(|link| self.ping_time(link));
        let senders =
            self.outbound.values().filter(|channel| channel.awaits_receiver()).map(|channel| channel.open_deadline);
        let receivers =
            self.inbound.values().filter(|channel| channel.is_awaited()).map(|channel| channel.open_deadline);
        let pending = self.pending.values().map(|(_, deadline)| *deadline);
        dead.chain(quiet).chain(senders).chain(receivers).chain(pending).chain(self.lost_time()).min()
    }

    /// The peer is lost: channels that it knew fail; those it never answered are kept for the next session.
    pub(crate) fn reset(&mut self, cause: &str, now: Instant) {
        let failure = ChannelError::PeerLost { peer: self.peer.clone(), cause: cause.to_owned() };
        self.id = None;
        self.established = false;
        self.current = None;
        self.unsettled = false;
        self.idle_since = now;
        self.events.extend(std::mem::take(&mut self.links).into_keys().map(Event::Dead));
        self.ready.clear();
        self.opened.clear();
        self.pending.clear();
        self.highest_number = None;
        self.refusals_due.clear();
        self.farewells_due.clear();
        for (key, channel) in &mut self.outbound {
            channel.queued = false;
            channel.announced = false;
            if channel.opened {
                self.events.push_back(Event::Writable(*key));
                channel.fail(failure.clone());
            }
        }
        for (key, channel) in &mut self.inbound {
            if channel.number.is_some() {
                self.events.push_back(Event::Readable(*key));
                channel.fail(failure.clone());
            }
        }
        self.outbound.retain(|_, channel| !channel.detached);
        self.sender_ids.retain(|_, key| self.outbound.contains_key(key));
        self.inbound.retain(|_, channel| channel.stopped.is_none());
        self.receiver_ids.retain(|_, key| self.inbound.contains_key(key));
        self.repeat_control();
        self.changed();
    }

    /// This process stops: every channel that is not complete fails. Links are left to their connections.
    pub(crate) fn shut_down(&mut self) {
        for (key, channel) in &mut self.outbound {
            channel.failure.get_or_insert(ChannelError::ShutDown);
            self.events.push_back(Event::Writable(*key));
        }
        for (key, channel) in self.inbound.iter_mut().filter(|(_, channel)| !channel.is_complete()) {
            channel.failure.get_or_insert(ChannelError::ShutDown);
            self.events.push_back(Event::Readable(*key));
        }
    }

    /// The newest link that is ready carries our payloads; older ones have seen their last.
    pub(super) fn choose_current(&mut self, now: Instant) {
        let newest = self.links.iter().rev().find(|(_, link)| link.carries()).map(|(id, _)| *id);
        if newest == self.current {
            return;
        }
        match (self.current, newest) {
            (_, None) => self.idle_since = now,
            (Some(old), Some(_)) if self.links.contains_key(&old) => self.stats.migrations += 1,
            _ if self.established => self.stats.reconnects += 1,
            _ => {}
        }
        self.current = newest;
        let Some(newest) = newest else { return };
        let older: Vec<_> = self.links.range(..newest).map(|(id, _)| *id).collect();
        for id in older {
            if let Some(link) = self.links.get_mut(&id).filter(|link| link.fin == Half::Open) {
                link.fin = Half::Due;
            }
            self.wake(id);
        }
        self.wake(newest);
        self.changed();
    }

    /// A link broke, or a new one begins: whatever control frames were under way are made again from what is true now.
    pub(super) fn repeat_control(&mut self) {
        self.opens_due = self
            .outbound
            .iter()
            .filter(|(_, channel)| !channel.opened && channel.failure.is_none())
            .map(|(key, _)| *key)
            .collect();
        self.stops_due =
            self.inbound.iter().filter(|(_, channel)| channel.stopped.is_some()).map(|(key, _)| *key).collect();
        self.credits_due = self.opened.values().copied().collect();
        self.wake_current();
    }

    /// Sequenced frames whose arrival is in doubt are sent again: the payloads that went with `lost`, and every end.
    pub(super) fn requeue(&mut self, lost: Option<LinkId>) {
        for (key, channel) in &mut self.outbound {
            channel.requeue(lost);
            if !channel.queued && channel.has_unsent() {
                channel.queued = true;
                self.ready.push_back(*key);
            }
        }
        self.wake_current();
    }

    fn expire_opens(&mut self, now: Instant) {
        let waited = self.options.open_timeout;
        let cause = if self.current.is_none() { self.last_error.clone() } else { None };
        let failure = ChannelError::NotOpened { peer: format!("TaskManager {}", self.peer), waited, cause };
        for (key, channel) in &mut self.outbound {
            if channel.awaits_receiver() && channel.open_deadline <= now {
                channel.failure = Some(failure.clone());
                self.events.push_back(Event::Writable(*key));
            }
        }
        for (key, channel) in &mut self.inbound {
            if channel.is_awaited() && channel.open_deadline <= now {
                channel.failure = Some(failure.clone());
                self.events.push_back(Event::Readable(*key));
            }
        }
        let expired: Vec<_> = self.pending.extract_if(|_, (_, deadline)| *deadline <= now).collect();
        for (_, (number, _)) in expired {
            self.refuse(number, StopReason::NotRegistered);
        }
    }

    /// When the peer is lost; never while there is nothing to lose.
    fn lost_time(&self) -> Option<Instant> {
        let dependent = self.unsettled
            || self.outbound.values().any(|channel| channel.opened || channel.announced && channel.detached)
            || self.inbound.values().any(|channel| channel.number.is_some() && !channel.is_complete());
        (self.current.is_none() && dependent).then(|| self.idle_since + self.options.reconnect_timeout)
    }

    fn ping_time(&self, link: &Link) -> Option<Instant> {
        (!link.ping_due).then(|| link.spoke + self.options.keepalive_interval)
    }
}
