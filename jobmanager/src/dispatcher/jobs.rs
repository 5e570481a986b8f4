//! The jobs a JobManager knows: all that have not ended, and the last few that have.

use std::collections::{HashMap, VecDeque};

use proto::ids::JobId;

use crate::job_master::scheduler::Scheduler;

/// How many jobs are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// Jobs that have not ended.
    pub active_max: usize,
    /// Jobs that have ended; the longest ended goes first.
    pub ended_max: usize,
}

/// A job was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("job {0} already exists with another script")]
    OtherScript(JobId),
    #[error("{0} jobs are active already, which is the limit: wait for one to end or cancel one")]
    TooMany(usize),
}

/// Jobs by id.
#[derive(Debug)]
pub struct Jobs {
    limits: JobLimits,
    jobs: HashMap<JobId, Job>,
    /// Those that have ended, the longest ended first.
    ended: VecDeque<JobId>,
    next_number: u64,
}

#[derive(Debug)]
struct Job {
    /// Order of arrival.
    number: u64,
    scheduler: Scheduler,
}

impl Jobs {
    pub fn new(limits: JobLimits) -> Self {
        Self { limits, jobs: HashMap::new(), ended: VecDeque::new(), next_number: 0 }
    }

    /// Whether a job with this id and script is there already, or else could be added.
    pub fn is_known(&self, job: JobId, sql_sha256: &str) -> Result<bool, Refused> {
        match self.get(job) {
            Some(known) if known.plan().sql_sha256 == sql_sha256 => Ok(true),
            Some(_) => Err(Refused::OtherScript(job)),
            None if self.active() >= self.limits.active_max => Err(Refused::TooMany(self.limits.active_max)),
            None => Ok(false),
        }
    }

    /// Adds a job that is not known.
    pub fn insert(&mut self, job: JobId, scheduler: Scheduler) {
        let number = self.next_number;
        self.next_number += 1;
        self.jobs.insert(job, Job { number, scheduler });
    }

    /// The job has ended: it may be forgotten when others have ended after it. Returns the scripts (SHA-256) of jobs that
    /// are forgotten now, if no other job has them.
    pub fn note_ended(&mut self, job: JobId) -> Vec<String> {
        self.ended.push_back(job);
        let too_many = self.ended.len().saturating_sub(self.limits.ended_max);
        let forgotten: Vec<JobId> = self.ended.drain(..too_many).collect();
        let mut scripts: Vec<String> = forgotten
            .iter()
            .filter_map(|job| self.jobs.remove(job))
            .map(|job| job.scheduler.plan().sql_sha256.clone())
            .collect();
        scripts.retain(|script| !self.has_script(script));
        scripts
    }

    /// Whether a job with this script (SHA-256) is known.
    pub fn has_script(&self, sql_sha256: &str) -> bool {
        self.jobs.values().any(|job| job.scheduler.plan().sql_sha256 == sql_sha256)
    }

    pub fn get(&self, job: JobId) -> Option<&Scheduler> {
        self.jobs.get(&job).map(|job| &job.scheduler)
    }

    pub fn get_mut(&mut self, job: JobId) -> Option<&mut Scheduler> {
        self.jobs.get_mut(&job).map(|job| &mut job.scheduler)
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> Vec<(JobId, &Scheduler)> {
        let mut jobs: Vec<_> = self.jobs.iter().collect();
        jobs.sort_unstable_by_key(|(_, job)| std::cmp::Reverse(job.number));
        jobs.into_iter().map(|(id, job)| (*id, &job.scheduler)).collect()
    }

    /// The ids of those that have not ended, the oldest first.
    pub fn active_ids(&self) -> Vec<JobId> {
        let mut active = self.newest_first();
        active.retain(|(_, scheduler)| !scheduler.state().is_terminal());
        active.into_iter().rev().map(|(id, _)| id).collect()
    }

    fn active(&self) -> usize {
        self.jobs.len() - self.ended.len()
    }
}
