//! The TaskManagers that have registered, and when each was last heard of.
//!
//! A registration is an *instance*: the same TaskManager id that comes back after a restart, or after it was given up,
//! gets another one, and whatever still speaks for the old instance is told that it is not known.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::ids::{InstanceId, TaskManagerId};
use proto::v1;

use crate::clock::Now;

/// Where a TaskManager can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub id: TaskManagerId,
    pub host: String,
    pub rpc_port: u16,
    pub data_port: u16,
}

/// What a TaskManager says of itself when it registers.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub address: Address,
    /// Chosen at random by the TaskManager for one attempt to register: tells a repeated call from a new process.
    pub incarnation: String,
    pub slots: u32,
    pub hardware: v1::Hardware,
}

/// What the last heartbeat said, for those who ask; nothing is decided by it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub endpoints_json: String,
    pub shuffle_json: String,
    pub usage: Option<v1::ProcessUsage>,
}

/// A registered TaskManager.
#[derive(Debug, Clone)]
pub struct Registration {
    pub introduction: Introduction,
    pub instance: InstanceId,
    pub last_heartbeat: Now,
    /// How much of the time since then is not its silence but our absence.
    excused: Duration,
    /// `None` until the first heartbeat.
    pub report: Option<Report>,
    /// The last call to it that failed, if no heartbeat has come since: a hint at what happened to it, no more.
    unreachable: Option<String>,
}

/// A TaskManager that is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub id: TaskManagerId,
    pub instance: InstanceId,
    /// The cause its jobs fail with.
    pub cause: String,
}

/// All registered TaskManagers.
#[derive(Debug)]
pub struct Registry {
    heartbeat_timeout: Duration,
    managers: BTreeMap<TaskManagerId, Registration>,
}

impl Registry {
    /// A TaskManager that has been silent for `heartbeat_timeout` is lost.
    pub fn new(heartbeat_timeout: Duration) -> Self {
        Self { heartbeat_timeout, managers: BTreeMap::new() }
    }

    /// Takes a TaskManager in under the instance id `fresh`, unless this is the repetition of an earlier call, which
    /// keeps its instance. Answers the instance, and the one it replaced.
    pub fn register(&mut self, now: Now, introduction: Introduction, fresh: InstanceId) -> (InstanceId, Option<Lost>) {
        let id = introduction.address.id.clone();
        if let Some(known) = self.managers.get_mut(&id)
            && known.introduction.incarnation == introduction.incarnation
        {
            known.hear(now);
            return (known.instance, None);
        }
        let registration = Registration {
            introduction,
            instance: fresh,
            last_heartbeat: now,
            excused: Duration::ZERO,
            report: None,
            unreachable: None,
        };
        let replaced = self.managers.insert(id, registration);
        (fresh, replaced.map(|old| old.into_lost("it registered again after a restart")))
    }

    /// Whether the instance is known; if so it is alive.
    pub fn heartbeat(&mut self, now: Now, id: &TaskManagerId, instance: InstanceId, report: Report) -> bool {
        let Some(known) = self.managers.get_mut(id).filter(|known| known.instance == instance) else {
            return false;
        };
        known.hear(now);
        known.report = Some(report);
        known.unreachable = None;
        true
    }

    /// The TaskManager leaves on purpose.
    pub fn unregister(&mut self, id: &TaskManagerId, instance: InstanceId, reason: &str) -> Option<Lost> {
        self.managers.get(id).filter(|known| known.instance == instance)?;
        self.managers.remove(id).map(|known| known.into_lost(reason))
    }

    /// Remembers that a call to the TaskManager failed.
    pub fn note_unreachable(&mut self, instance: InstanceId, error: &str) {
        if let Some(known) = self.managers.values_mut().find(|known| known.instance == instance) {
            known.unreachable = Some(error.to_owned());
        }
    }

    /// This process was absent for the last `absence`: what came meanwhile has not been heard yet.
    pub fn excuse(&mut self, now: Now, absence: Duration) {
        for known in self.managers.values_mut() {
            known.excused += absence.min(known.since_last_heartbeat(now));
        }
    }

    /// Removes one that has been silent for too long, if any. To be called until it answers `None`.
    pub fn expire(&mut self, now: Now) -> Option<Lost> {
        let timeout = self.heartbeat_timeout;
        let silent = |known: &Registration| known.silence(now) >= timeout;
        let id = self.managers.iter().find(|(_, known)| silent(known)).map(|(id, _)| id.clone())?;
        self.managers.remove(&id).map(|known| known.into_lost(&format!("no heartbeat for {}", seconds(timeout))))
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.managers.values()
    }

    /// The one registered as `instance`.
    pub fn by_instance(&self, instance: InstanceId) -> Option<&Registration> {
        self.managers.values().find(|known| known.instance == instance)
    }
}

impl Registration {
    /// How long it could have been heard of, and was not.
    pub fn silence(&self, now: Now) -> Duration {
        self.since_last_heartbeat(now).saturating_sub(self.excused)
    }

    fn since_last_heartbeat(&self, now: Now) -> Duration {
        now.instant.duration_since(self.last_heartbeat.instant)
    }

    fn hear(&mut self, now: Now) {
        self.last_heartbeat = now;
        self.excused = Duration::ZERO;
    }

    fn into_lost(self, why: &str) -> Lost {
        let Address { id, host, .. } = self.introduction.address;
        let hint = self.unreachable.map(|error| format!(" (the last call to it failed: {error})")).unwrap_or_default();
        Lost { cause: format!("TaskManager {id} at {host} lost: {why}{hint}"), id, instance: self.instance }
    }
}

/// `10 s`, or `1.5 s`.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn introduction(id: &str, incarnation: &str, slots: u32) -> Introduction {
        Introduction {
            address: Address { id: id.parse().unwrap(), host: "host".to_owned(), rpc_port: 1, data_port: 2 },
            incarnation: incarnation.to_owned(),
            slots,
            hardware: v1::Hardware::default(),
        }
    }

    fn at(start: Instant, seconds: u64) -> Now {
        Now { instant: start + Duration::from_secs(seconds), unix_ms: i64::try_from(seconds * 1000).unwrap() }
    }

    fn instance(n: u8) -> InstanceId {
        InstanceId::from_bytes([n; 16])
    }

    #[test]
    fn silence_is_counted_from_the_last_heartbeat() {
        let start = Instant::now();
        let mut registry = Registry::new(TIMEOUT);
        let id = "a".parse().unwrap();
        registry.register(at(start, 0), introduction("a", "x", 1), instance(1));
        assert!(registry.heartbeat(at(start, 9), &id, instance(1), Report::default()));
        assert_eq!(registry.expire(at(start, 18)), None);
        let lost = registry.expire(at(start, 19)).unwrap();
        assert_eq!(lost.cause, "TaskManager a at host lost: no heartbeat for 10 s");
        assert!(!registry.heartbeat(at(start, 19), &id, instance(1), Report::default()), "must register again");
    }

    #[test]
    fn an_absence_of_our_own_is_nobodys_silence() {
        let start = Instant::now();
        let mut registry = Registry::new(TIMEOUT);
        let (quiet, loud) = ("a".parse().unwrap(), "b".parse().unwrap());
        registry.register(at(start, 0), introduction("a", "x", 1), instance(1));
        registry.register(at(start, 0), introduction("b", "x", 1), instance(2));
        // Absent from second 4 to 100, but for one heartbeat in between.
        assert!(registry.heartbeat(at(start, 90), &loud, instance(2), Report::default()));
        registry.excuse(at(start, 100), Duration::from_secs(96));
        assert_eq!(registry.expire(at(start, 105)), None, "4 s before and 5 s after");
        assert_eq!(registry.expire(at(start, 106)).unwrap().id, quiet);
        assert_eq!(registry.expire(at(start, 109)), None);
        assert_eq!(registry.expire(at(start, 110)).unwrap().id, loud, "only the 10 s since its heartbeat were excused");
        registry.register(at(start, 110), introduction("a", "y", 1), instance(3));
        registry.excuse(at(start, 119), Duration::from_secs(9));
        assert!(registry.heartbeat(at(start, 119), &quiet, instance(3), Report::default()));
        assert_eq!(registry.expire(at(start, 129)).unwrap().id, quiet, "a heartbeat starts anew");
    }

    #[test]
    fn a_repeated_registration_keeps_its_instance_and_a_restarted_process_does_not() {
        let start = Instant::now();
        let mut registry = Registry::new(TIMEOUT);
        let id = "a".parse().unwrap();
        assert_eq!(registry.register(at(start, 0), introduction("a", "x", 1), instance(1)), (instance(1), None));
        assert_eq!(registry.register(at(start, 1), introduction("a", "x", 1), instance(2)), (instance(1), None));
        let (fresh, replaced) = registry.register(at(start, 2), introduction("a", "y", 1), instance(3));
        assert_eq!((fresh, replaced.unwrap().instance), (instance(3), instance(1)));
        assert!(!registry.heartbeat(at(start, 3), &id, instance(1), Report::default()), "the old process is stale");
        assert!(registry.unregister(&id, instance(1), "late").is_none(), "the old process cannot remove the new one");
        assert!(registry.heartbeat(at(start, 3), &id, instance(3), Report::default()));
    }

    #[test]
    fn a_failed_call_is_a_hint_until_the_next_heartbeat() {
        let start = Instant::now();
        let mut registry = Registry::new(TIMEOUT);
        let id = "a".parse().unwrap();
        registry.register(at(start, 0), introduction("a", "x", 1), instance(1));
        registry.note_unreachable(instance(1), "connection refused");
        assert_eq!(registry.expire(at(start, 9)), None, "a hint alone loses nobody");
        registry.heartbeat(at(start, 9), &id, instance(1), Report::default());
        registry.note_unreachable(instance(1), "connection refused");
        let lost = registry.expire(at(start, 20)).unwrap();
        assert!(lost.cause.ends_with("(the last call to it failed: connection refused)"), "{}", lost.cause);
    }
}
