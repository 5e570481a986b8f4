//! Slots and who holds them. A job asks once for all the slots it needs and gets all or nothing; one slot takes one
//! subtask of each vertex of the job (Flink's slot sharing).
//!
//! Requests are served in order of arrival, but one that does not fit does not hold up a later one that does: it can
//! only be waiting for slots that may never come, and its own time limit ends that.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proto::ids::{InstanceId, JobId};
use tokio::time::Instant;

/// One slot of one registered TaskManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub instance: InstanceId,
    /// From 0, below the number of slots the TaskManager registered with.
    pub index: u32,
}

/// All slots a job asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub job: JobId,
    pub slots: Vec<Slot>,
}

/// A request whose time is over. Displays as the cause the job fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "NoResourceAvailableException: the job needs {needed} slot(s); within {waited_s} s the cluster offered {free} free of {total} slot(s) \
     on {managers} TaskManager(s). Start TaskManagers, raise taskmanager.numberOfTaskSlots, lower the parallelism, \
     or wait longer with slot.request.timeout"
)]
pub struct Shortage {
    pub job: JobId,
    pub needed: usize,
    pub free: usize,
    pub total: usize,
    pub managers: usize,
    pub waited_s: u64,
}

/// The slot table and the queue of requests.
#[derive(Debug, Default)]
pub struct Slots {
    /// In order of registration.
    managers: Vec<Manager>,
    /// In order of arrival; as long as there are jobs at most.
    waiting: VecDeque<Request>,
}

#[derive(Debug)]
struct Manager {
    instance: InstanceId,
    slots: Vec<Option<JobId>>,
}

#[derive(Debug)]
struct Request {
    job: JobId,
    needed: usize,
    since: Instant,
    deadline: Instant,
}

impl Slots {
    /// A TaskManager has come with `count` free slots.
    pub fn add(&mut self, instance: InstanceId, count: u32) {
        debug_assert!(self.managers.iter().all(|manager| manager.instance != instance), "registered twice");
        self.managers.push(Manager { instance, slots: vec![None; count as usize] });
    }

    /// A TaskManager and its slots are gone.
    pub fn remove(&mut self, instance: InstanceId) {
        self.managers.retain(|manager| manager.instance != instance);
    }

    /// `job` waits for `needed` slots until `deadline`.
    pub fn request(&mut self, job: JobId, needed: usize, now: Instant, deadline: Instant) {
        self.waiting.push_back(Request { job, needed, since: now, deadline });
    }

    /// `job` neither waits for slots nor holds any after this.
    pub fn release(&mut self, job: JobId) {
        self.waiting.retain(|request| request.job != job);
        for slot in self.managers.iter_mut().flat_map(|manager| &mut manager.slots) {
            slot.take_if(|holder| *holder == job);
        }
    }

    /// Serves the oldest request that fits, if any. To be called until it answers `None`.
    pub fn grant(&mut self) -> Option<Grant> {
        let free = self.free();
        let position = self.waiting.iter().position(|request| request.needed <= free)?;
        let request = self.waiting.remove(position)?;
        let slots = (0..request.needed).filter_map(|_| self.take(request.job)).collect();
        Some(Grant { job: request.job, slots })
    }

    /// The last `absence` does not count as waiting: nobody could have been given slots in it.
    pub fn excuse(&mut self, now: Instant, absence: Duration) {
        for request in &mut self.waiting {
            let excused = absence.min(now.duration_since(request.since));
            request.since += excused;
            request.deadline += excused;
        }
    }

    /// Gives up the oldest request whose deadline has come, if any. To be called until it answers `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Shortage> {
        let position = self.waiting.iter().position(|request| request.deadline <= now)?;
        let request = self.waiting.remove(position)?;
        Some(Shortage {
            job: request.job,
            needed: request.needed,
            free: self.free(),
            total: self.total(),
            managers: self.managers.len(),
            waited_s: now.duration_since(request.since).as_secs(),
        })
    }

    /// All slots there are.
    pub fn total(&self) -> usize {
        self.managers.iter().map(|manager| manager.slots.len()).sum()
    }

    /// Slots that no job holds.
    pub fn free(&self) -> usize {
        self.managers.iter().map(Manager::free).sum()
    }

    /// Slots of one TaskManager that no job holds.
    pub fn free_of(&self, instance: InstanceId) -> usize {
        self.managers.iter().filter(|manager| manager.instance == instance).map(Manager::free).sum()
    }

    /// Jobs that hold at least one slot.
    pub fn holders(&self) -> BTreeSet<JobId> {
        self.managers.iter().flat_map(|manager| &manager.slots).flatten().copied().collect()
    }

    /// Takes a slot of the TaskManager with the largest free share, so that jobs spread evenly.
    fn take(&mut self, job: JobId) -> Option<Slot> {
        let mut best: Option<&mut Manager> = None;
        for manager in &mut self.managers {
            if manager.free() > 0 && best.as_ref().is_none_or(|best| manager.is_emptier_than(best)) {
                best = Some(manager);
            }
        }
        let manager = best?;
        let (index, slot) = manager.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_none())?;
        *slot = Some(job);
        Some(Slot { instance: manager.instance, index: u32::try_from(index).ok()? })
    }
}

impl Manager {
    fn free(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }

    /// Compares free shares without dividing.
    fn is_emptier_than(&self, other: &Manager) -> bool {
        self.free() * other.slots.len() > other.free() * self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn instance(n: u8) -> InstanceId {
        InstanceId::from_bytes([n; 16])
    }

    fn job(n: u8) -> JobId {
        JobId::from_bytes([n; 16])
    }

    #[test]
    fn slots_are_spread_evenly_over_the_task_managers() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.add(instance(1), 2);
        slots.add(instance(2), 4);
        slots.request(job(1), 3, now, now);
        let grant = slots.grant().unwrap();
        let on_first = grant.slots.iter().filter(|slot| slot.instance == instance(1)).count();
        assert_eq!((on_first, slots.free_of(instance(1)), slots.free_of(instance(2))), (1, 1, 2));
    }

    #[test]
    fn a_request_that_fits_overtakes_one_that_does_not() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.add(instance(1), 2);
        slots.request(job(1), 3, now, now);
        slots.request(job(2), 2, now, now);
        assert_eq!(slots.grant().unwrap().job, job(2));
        slots.add(instance(2), 3);
        assert_eq!(slots.grant().unwrap().job, job(1));
        assert_eq!(slots.grant(), None);
    }

    #[test]
    fn a_shortage_tells_the_numbers() {
        let now = Instant::now();
        let mut slots = Slots::default();
        slots.add(instance(1), 2);
        slots.request(job(1), 3, now, now + Duration::from_secs(10));
        assert_eq!(slots.expire(now + Duration::from_secs(9)), None);
        let shortage = slots.expire(now + Duration::from_secs(10)).unwrap().to_string();
        assert!(
            shortage.starts_with("NoResourceAvailableException: the job needs 3 slot(s); within 10 s"),
            "{shortage}"
        );
        assert!(shortage.contains("2 free of 2 slot(s) on 1 TaskManager(s)"), "{shortage}");
    }

    #[test]
    fn an_absence_is_no_waiting() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut slots = Slots::default();
        slots.request(job(1), 3, now, after(10));
        slots.request(job(2), 3, after(8), after(18));
        // From second 5 to 65, which the second request was made in.
        slots.excuse(after(65), Duration::from_secs(60));
        assert_eq!(slots.expire(after(69)), None);
        let shortage = slots.expire(after(70)).unwrap();
        assert_eq!((shortage.job, shortage.waited_s), (job(1), 10));
        assert_eq!(slots.expire(after(74)), None);
        assert_eq!(slots.expire(after(75)).unwrap().job, job(2));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8, u32),
        Remove(u8),
        Request(u8, usize),
        Release(u8),
        Grant,
        Expire(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6u8, 1..5u32).prop_map(|(n, count)| Step::Add(n, count)),
            (0..6u8).prop_map(Step::Remove),
            (0..8u8, 1..9usize).prop_map(|(n, needed)| Step::Request(n, needed)),
            (0..8u8).prop_map(Step::Release),
            Just(Step::Grant),
            (0..20u64).prop_map(Step::Expire),
        ]
    }

    proptest! {
        #[test]
        fn no_slot_is_held_twice_and_sums_hold(steps in prop::collection::vec(step(), 0..200)) {
            let start = Instant::now();
            let mut slots = Slots::default();
            let mut managers: HashMap<InstanceId, u32> = HashMap::new();
            let mut held: HashMap<Slot, JobId> = HashMap::new();
            let mut asked: HashMap<JobId, usize> = HashMap::new();
            for step in steps {
                match step {
                    Step::Add(n, count) => {
                        if let std::collections::hash_map::Entry::Vacant(entry) = managers.entry(instance(n)) {
                            entry.insert(count);
                            slots.add(instance(n), count);
                        }
                    }
                    Step::Remove(n) => {
                        managers.remove(&instance(n));
                        slots.remove(instance(n));
                        held.retain(|slot, _| slot.instance != instance(n));
                    }
                    Step::Request(n, needed) => {
                        if !asked.contains_key(&job(n)) && held.values().all(|holder| *holder != job(n)) {
                            asked.insert(job(n), needed);
                            slots.request(job(n), needed, start, start + Duration::from_secs(10));
                        }
                    }
                    Step::Release(n) => {
                        asked.remove(&job(n));
                        held.retain(|_, holder| *holder != job(n));
                        slots.release(job(n));
                    }
                    Step::Grant => {
                        let free = slots.free();
                        match slots.grant() {
                            Some(grant) => {
                                prop_assert_eq!(asked.remove(&grant.job), Some(grant.slots.len()));
                                for slot in grant.slots {
                                    prop_assert!(slot.index < managers[&slot.instance]);
                                    prop_assert_eq!(held.insert(slot, grant.job), None);
                                }
                            }
                            None => prop_assert!(asked.values().all(|needed| *needed > free)),
                        }
                    }
                    Step::Expire(seconds) => {
                        if let Some(shortage) = slots.expire(start + Duration::from_secs(seconds)) {
                            prop_assert!(seconds >= 10);
                            prop_assert!(asked.remove(&shortage.job).is_some());
                        }
                    }
                }
                let total: u32 = managers.values().sum();
                prop_assert_eq!(slots.total(), total as usize);
                prop_assert_eq!(slots.free(), total as usize - held.len());
                prop_assert_eq!(slots.holders(), held.values().copied().collect());
            }
        }
    }
}
