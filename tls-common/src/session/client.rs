//! Client sessions with an end: what rustls' own cache does (bounded, per server name), plus a time limit.
//!
//! The server decides whether it resumes, but how long we go on offering is ours: the option speaks of sessions, not
//! of one side. The lifetime that the server wrote into a ticket counts beside it (rustls looks at that).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// TLS 1.3 tickets kept per server: each is good for one connection.
const MAX_TICKETS_PER_SERVER: usize = 8;

/// The sessions of one trust.
pub(crate) struct ClientSessions {
    servers: Mutex<Servers>,
    max_servers: usize,
    timeout: Duration,
}

#[derive(Default)]
struct Servers {
    by_name: HashMap<ServerName<'static>, Server>,
    /// Every name once, the one that came first in front: it goes first.
    oldest: VecDeque<ServerName<'static>>,
}

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Kept<Tls12ClientSessionValue>>,
    /// Oldest first.
    tls13: VecDeque<Kept<Tls13ClientSessionValue>>,
}

struct Kept<T> {
    session: T,
    /// `None` where the timeout is beyond what a clock can hold.
    ends: Option<Instant>,
}

impl ClientSessions {
    /// For about `size` sessions.
    pub(crate) fn new(size: usize, timeout: Duration) -> Self {
        Self { servers: Mutex::default(), max_servers: size.div_ceil(MAX_TICKETS_PER_SERVER), timeout }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Server)) {
        let mut servers = self.servers();
        if !servers.by_name.contains_key(&name) {
            servers.oldest.push_back(name.clone());
        }
        edit(servers.by_name.entry(name).or_default());
        if servers.oldest.len() > self.max_servers
            && let Some(oldest) = servers.oldest.pop_front()
        {
            servers.by_name.remove(&oldest);
        }
    }

    fn keep<T>(&self, session: T) -> Kept<T> {
        Kept { session, ends: Instant::now().checked_add(self.timeout) }
    }

    pub(crate) fn tls12_at(&self, name: &ServerName<'_>, now: Instant) -> Option<Tls12ClientSessionValue> {
        let servers = self.servers();
        let kept = servers.by_name.get(name)?.tls12.as_ref()?;
        kept.is_good_at(now).then(|| kept.session.clone())
    }

    pub(crate) fn take_tls13_at(&self, name: &ServerName<'static>, now: Instant) -> Option<Tls13ClientSessionValue> {
        // The newest ends last: if it has ended, all have.
        let newest = self.servers().by_name.get_mut(name)?.tls13.pop_back()?;
        newest.is_good_at(now).then_some(newest.session)
    }
}

impl<T> Kept<T> {
    fn is_good_at(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

impl ClientSessionStore for ClientSessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.servers().by_name.get(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        let kept = self.keep(session);
        self.edit(name, |server| server.tls12 = Some(kept));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12_at(name, Instant::now())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(server) = self.servers().by_name.get_mut(name) {
            server.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let kept = self.keep(ticket);
        self.edit(name, |server| {
            if server.tls13.len() == MAX_TICKETS_PER_SERVER {
                server.tls13.pop_front();
            }
            server.tls13.push_back(kept);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.take_tls13_at(name, Instant::now())
    }
}

/// Sessions are secrets: only their bound is printed.
impl fmt::Debug for ClientSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSessions").field("max_servers", &self.max_servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_server_that_came_first_is_forgotten_first() {
        let sessions = ClientSessions::new(9, Duration::from_secs(1));
        let name = |name: &'static str| ServerName::try_from(name).unwrap();
        for server in ["one", "two", "one", "three"] {
            sessions.set_kx_hint(name(server), NamedGroup::X25519);
        }
        let kept = ["one", "two", "three"].map(|server| sessions.kx_hint(&name(server)).is_some());
        assert_eq!(kept, [false, true, true]);
        assert_eq!(sessions.servers().oldest.len(), 2);
    }
}
