//! Which tasks are here and which slots they take. Pure.

use std::collections::{BTreeMap, VecDeque};

use proto::ids::{AttemptId, JobId};

/// Attempts that are remembered after their end. Each is a call to hand it over that was made within the JobManager's
/// patience, which is seconds.
const ENDED_MAX: usize = 4_096;

/// The tasks of a TaskManager, with whatever `T` is kept for each.
#[derive(Debug)]
pub struct TaskTable<T> {
    slots: u32,
    tasks: BTreeMap<AttemptId, Entry<T>>,
    /// Removed ones of this session, the newest last: a repeated call may arrive after all has been said and done.
    ended: VecDeque<AttemptId>,
}

#[derive(Debug)]
struct Entry<T> {
    job: JobId,
    /// `None` once the task has ended: the slot is free, the JobManager may not know yet.
    slot: Option<u32>,
    task: T,
}

/// Why a task cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The JobManager's fault.
    #[error("there is no slot {slot}: this TaskManager has {slots}")]
    NoSuchSlot { slot: u32, slots: u32 },
    /// A task of another job has not ended yet.
    #[error("slot {slot} is still taken by job {holder}")]
    SlotTaken { slot: u32, holder: JobId },
}

impl<T> TaskTable<T> {
    pub fn new(slots: u32) -> Self {
        Self { slots, tasks: BTreeMap::new(), ended: VecDeque::new() }
    }

    /// Takes a task into a slot, which it may share with tasks of the same job. Answers `false`, and drops `task`, if
    /// it is here already, or was.
    pub fn admit(&mut self, job: JobId, attempt: AttemptId, slot: u32, task: T) -> Result<bool, NotAdmitted> {
        if self.tasks.contains_key(&attempt) || self.ended.contains(&attempt) {
            return Ok(false);
        }
        if slot >= self.slots {
            return Err(NotAdmitted::NoSuchSlot { slot, slots: self.slots });
        }
        if let Some(other) = self.tasks.values().find(|other| other.slot == Some(slot) && other.job != job) {
            return Err(NotAdmitted::SlotTaken { slot, holder: other.job });
        }
        self.tasks.insert(attempt, Entry { job, slot: Some(slot), task });
        Ok(true)
    }

    /// The task does nothing any more.
    pub fn end(&mut self, attempt: AttemptId) {
        if let Some(entry) = self.tasks.get_mut(&attempt) {
            entry.slot = None;
        }
    }

    /// The task's end is known to whom it concerns.
    pub fn remove(&mut self, attempt: AttemptId) {
        if self.tasks.remove(&attempt).is_some() {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(attempt);
        }
    }

    /// A new session begins: late calls of the old one are told apart by its instance, and an attempt may come again,
    /// because a JobManager that has restarted makes the same ids for a job that is submitted under the same id.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
    }

    pub fn get(&self, attempt: AttemptId) -> Option<&T> {
        self.tasks.get(&attempt).map(|entry| &entry.task)
    }

    /// All tasks that have not been removed.
    pub fn iter(&self) -> impl Iterator<Item = (AttemptId, &T)> {
        self.tasks.iter().map(|(attempt, entry)| (*attempt, &entry.task))
    }

    /// Slots without a task.
    pub fn free_slots(&self) -> u32 {
        let is_free = |slot: &u32| self.tasks.values().all(|entry| entry.slot != Some(*slot));
        (0..self.slots).filter(is_free).map(|_| 1).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const JOB: JobId = JobId::from_bytes([1; 16]);
    const OTHER: JobId = JobId::from_bytes([2; 16]);

    fn attempt(n: u8) -> AttemptId {
        AttemptId::from_bytes([n; 16])
    }

    #[test]
    fn tasks_of_one_job_share_a_slot_and_those_of_another_wait_for_its_end() {
        let mut table = TaskTable::new(2);
        assert_eq!(table.admit(JOB, attempt(1), 0, ()), Ok(true));
        assert_eq!(table.admit(JOB, attempt(2), 0, ()), Ok(true));
        assert_eq!(table.admit(JOB, attempt(2), 0, ()), Ok(false), "a repeated call");
        let taken = Err(NotAdmitted::SlotTaken { slot: 0, holder: JOB });
        assert_eq!(table.admit(OTHER, attempt(3), 0, ()), taken);
        table.end(attempt(1));
        assert_eq!(table.admit(OTHER, attempt(3), 0, ()), taken);
        table.end(attempt(2));
        assert_eq!(table.admit(OTHER, attempt(3), 0, ()), Ok(true), "although the ends are not acknowledged yet");
        assert_eq!((table.iter().count(), table.free_slots()), (3, 1));
        assert_eq!(table.admit(JOB, attempt(4), 2, ()), Err(NotAdmitted::NoSuchSlot { slot: 2, slots: 2 }));
    }

    #[test]
    fn an_attempt_that_has_ended_is_not_run_again_by_a_late_repetition() {
        let mut table = TaskTable::new(1);
        assert_eq!(table.admit(JOB, attempt(1), 0, ()), Ok(true));
        table.end(attempt(1));
        table.remove(attempt(1));
        assert_eq!(table.admit(OTHER, attempt(2), 0, ()), Ok(true), "its slot is another's now");
        assert_eq!(table.admit(JOB, attempt(1), 0, ()), Ok(false));
        assert_eq!(table.iter().count(), 1);
        for _ in 0..2 * ENDED_MAX {
            let other = AttemptId::random();
            assert_eq!(table.admit(OTHER, other, 0, ()), Ok(true));
            table.remove(other);
        }
        assert_eq!(table.ended.len(), ENDED_MAX, "what is remembered is bounded");
    }

    proptest! {
        #[test]
        fn free_slots_are_those_no_live_task_takes(steps in prop::collection::vec((0..3u8, 0..8u8, 0..3u8, 0..4u32), 0..100)) {
            let mut table = TaskTable::new(3);
            let mut live: BTreeMap<u8, u32> = BTreeMap::new();
            for (step, n, job, slot) in steps {
                match step {
                    0 => {
                        if table.admit(JobId::from_bytes([job; 16]), attempt(n), slot, ()) == Ok(true) {
                            live.insert(n, slot);
                        }
                    }
                    1 => {
                        table.end(attempt(n));
                        live.remove(&n);
                    }
                    _ => {
                        table.remove(attempt(n));
                        live.remove(&n);
                    }
                }
                let free = (0..3).filter(|slot| live.values().all(|taken| taken != slot)).count();
                prop_assert_eq!(table.free_slots() as usize, free);
            }
        }
    }
}
