//! Session stores: what makes the next handshake of the same pair shorter.
//!
//! A resumed session skips the certificate verifier, so these stores belong to exactly one trust (see
//! [`crate::generation`]) and are thrown away with it. State stays on our side: no tickets encrypted under a key that
//! would outlive a trust. No 0-RTT data.

pub(crate) mod client;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    client::Resumption,
    server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions},
};

use self::client::ClientSessions;

/// Sessions of both directions.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    server: Arc<dyn StoresServerSessions>,
    client: Resumption,
    enabled: bool,
}

impl Sessions {
    /// Fresh stores for `size` sessions on each side; 0 turns resumption off.
    pub(crate) fn new(size: usize, timeout: Duration) -> Self {
        if size == 0 {
            return Self::disabled();
        }
        Self {
            server: Arc::new(ExpiringSessions::new(size, timeout)),
            client: Resumption::store(Arc::new(ClientSessions::new(size, timeout))),
            enabled: true,
        }
    }

    /// Remembers nothing and offers nothing.
    pub(crate) fn disabled() -> Self {
        Self { server: Arc::new(NoServerSessionStorage {}), client: Resumption::disabled(), enabled: false }
    }

    pub(crate) fn install_server(&self, config: &mut rustls::ServerConfig) {
        config.session_storage = Arc::clone(&self.server);
        if !self.enabled {
            config.send_tls13_tickets = 0;
        }
    }

    pub(crate) fn install_client(&self, config: &mut rustls::ClientConfig) {
        config.resumption = self.client.clone();
    }
}

/// rustls' bounded cache plus a time limit, which it lacks: each value is stored behind the moment it ends.
#[derive(Debug)]
struct ExpiringSessions {
    sessions: Arc<ServerSessionMemoryCache>,
    timeout: Duration,
    started: Instant,
}

/// Bytes of the deadline in front of each value: milliseconds since `started`, little-endian.
const DEADLINE_LEN: usize = size_of::<u64>();

impl ExpiringSessions {
    fn new(size: usize, timeout: Duration) -> Self {
        Self { sessions: ServerSessionMemoryCache::new(size), timeout, started: Instant::now() }
    }

    fn unexpired(&self, stored: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (deadline, value) = stored.split_first_chunk::<DEADLINE_LEN>()?;
        (self.millis(now) < u64::from_le_bytes(*deadline)).then(|| value.to_vec())
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn put_at(&self, key: Vec<u8>, value: &[u8], now: Instant) -> bool {
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.millis(now).saturating_add(timeout);
        self.sessions.put(key, [deadline.to_le_bytes().as_slice(), value].concat())
    }
}

impl StoresServerSessions for ExpiringSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, &value, Instant::now())
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.unexpired(&self.sessions.get(key)?, Instant::now())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.unexpired(&self.sessions.take(key)?, Instant::now())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_session_ends_with_its_timeout() {
        let sessions = ExpiringSessions::new(8, Duration::from_secs(10));
        let stored_at = sessions.started + Duration::from_secs(5);
        sessions.put_at(b"id".to_vec(), b"secret", stored_at);
        let stored = sessions.sessions.get(b"id").unwrap();
        let at = |seconds| sessions.unexpired(&stored, stored_at + Duration::from_secs(seconds));
        assert_eq!(at(9).as_deref(), Some(b"secret".as_slice()));
        assert_eq!(at(10), None);
    }

    #[test]
    fn a_taken_session_is_gone() {
        let sessions = ExpiringSessions::new(8, Duration::from_secs(3600));
        assert!(sessions.put(b"id".to_vec(), b"secret".to_vec()));
        assert_eq!(sessions.get(b"id").as_deref(), Some(b"secret".as_slice()));
        assert_eq!(sessions.take(b"id").as_deref(), Some(b"secret".as_slice()));
        assert_eq!(sessions.take(b"id"), None);
        assert_eq!(sessions.get(b"id"), None);
    }

    #[test]
    fn a_timeout_without_end_does_not_overflow() {
        let sessions = ExpiringSessions::new(8, Duration::MAX);
        assert!(sessions.put(b"id".to_vec(), b"secret".to_vec()));
        assert!(sessions.get(b"id").is_some());
    }
}
