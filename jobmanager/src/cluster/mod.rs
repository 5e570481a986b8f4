//! Everything the JobManager decides, as one pure state machine: TaskManagers, slots and jobs, and how an event in one
//! reaches the others. Methods take the event and the time, never wait, and leave [`Command`]s to be fetched with
//! [`Cluster::take_commands`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::{AttemptId, InstanceId, JobId, TaskManagerId};
use proto::v1::{JobState, TaskMetrics};
use tokio::time::Instant;

use crate::clock::Now;
use crate::dispatcher::jobs::{JobLimits, Jobs, Refused};
use crate::job_master::deployment::BlobAddress;
use crate::job_master::execution::Placement;
use crate::job_master::plan::JobPlan;
use crate::job_master::scheduler::{self, Scheduler, TaskUpdate};
use crate::resource_manager::registry::{Introduction, Lost, Registry, Report};
use crate::resource_manager::slots::{Slot, Slots};

#[cfg(test)]
mod simulation;

/// How often [`Cluster::tick`] is to be called: how much later than promised a lost TaskManager may be noticed.
pub const TICK: Duration = Duration::from_millis(100);

/// Ticks further apart than this mean that this process did not run in between: it was stopped, or starved.
const ABSENCE: Duration = Duration::from_millis(500);

/// What the state machine is built with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// A TaskManager silent for so long is lost.
    pub heartbeat_timeout: Duration,
    /// A job that has not got its slots after so long fails.
    pub slot_request_timeout: Duration,
    pub jobs: JobLimits,
    /// Handed to TaskManagers with each task.
    pub blob: BlobAddress,
}

/// Something to do outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A call to a TaskManager.
    Call(scheduler::Command),
    /// The instance is gone: drop what connects to it.
    Forget(InstanceId),
    /// No job has this script (SHA-256) any more.
    DeleteScript(String),
}

/// A cancel request that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    #[error("Job {0} not found")]
    Unknown(JobId),
    #[error("job {job} has already ended: {state}")]
    Ended { job: JobId, state: &'static str },
}

/// What a TaskManager's heartbeat is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    /// Alive; these tasks should not be running.
    Known { unwanted: Vec<AttemptId> },
    /// To register again.
    Unknown,
}

/// The state of the whole cluster.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    registry: Registry,
    slots: Slots,
    jobs: Jobs,
    commands: Vec<Command>,
    last_tick: Option<Instant>,
}

impl Cluster {
    pub fn new(options: ClusterOptions) -> Self {
        Self {
            registry: Registry::new(options.heartbeat_timeout),
            slots: Slots::default(),
            jobs: Jobs::new(options.jobs),
            commands: Vec::new(),
            last_tick: None,
            options,
        }
    }

    /// Takes a job that arrived at `submitted_ms` (Unix milliseconds) and has been planned since. Repeating it changes
    /// nothing.
    pub fn submit(&mut self, now: Now, job: JobId, plan: JobPlan, submitted_ms: i64) -> Result<(), Refused> {
        if self.jobs.is_known(job, &plan.sql_sha256)? {
            return Ok(());
        }
        let needed = plan.slots_needed();
        let blob = self.options.blob.clone();
        tracing::info!(%job, name = plan.name, slots = needed, fingerprint = plan.fingerprint, "job accepted");
        self.jobs.insert(job, Scheduler::new(job, Arc::new(plan), blob, submitted_ms, now.unix_ms));
        self.slots.request(job, needed, now.instant, now.instant + self.options.slot_request_timeout);
        self.grant(now);
        Ok(())
    }

    /// Asks a job to stop.
    pub fn cancel(&mut self, now: Now, job: JobId) -> Result<(), CancelError> {
        let scheduler = self.jobs.get(job).ok_or(CancelError::Unknown(job))?;
        let state = scheduler.state();
        if state == JobState::Canceled {
            // Asked again, most likely because the first answer got lost.
            return Ok(());
        }
        if state.is_terminal() {
            return Err(CancelError::Ended { job, state: state.name() });
        }
        self.on_job(now, job, |scheduler| scheduler.cancel(now.unix_ms));
        Ok(())
    }

    /// A TaskManager introduces itself; `fresh` becomes its instance id unless it is already registered.
    pub fn register(&mut self, now: Now, introduction: Introduction, fresh: InstanceId) -> InstanceId {
        let (slots, address) = (introduction.slots, introduction.address.clone());
        let (instance, replaced) = self.registry.register(now, introduction, fresh);
        if let Some(lost) = replaced {
            self.lose(now, &lost);
        }
        if instance == fresh {
            tracing::info!(task_manager = %address.id, host = address.host, %instance, slots, "TaskManager registered");
            self.slots.add(instance, slots);
            self.grant(now);
        }
        instance
    }

    /// A TaskManager is alive, with these tasks.
    pub fn heartbeat(
        &mut self,
        now: Now,
        id: &TaskManagerId,
        instance: InstanceId,
        report: Report,
        mut tasks: BTreeMap<AttemptId, TaskMetrics>,
    ) -> HeartbeatAnswer {
        if !self.registry.heartbeat(now, id, instance, report) {
            return HeartbeatAnswer::Unknown;
        }
        for job in self.jobs.active_ids() {
            self.on_job(now, job, |scheduler| scheduler.reconcile(now.unix_ms, instance, &mut tasks));
        }
        HeartbeatAnswer::Known { unwanted: tasks.into_keys().collect() }
    }

    /// A TaskManager leaves on purpose.
    pub fn unregister(&mut self, now: Now, id: &TaskManagerId, instance: InstanceId, reason: &str) {
        if let Some(lost) = self.registry.unregister(id, instance, reason) {
            self.lose(now, &lost);
        }
    }

    /// A TaskManager reports on a task. Answers whether it is one of ours.
    pub fn update_task(&mut self, now: Now, job: JobId, instance: InstanceId, update: TaskUpdate) -> bool {
        self.on_job(now, job, |scheduler| scheduler.update(now.unix_ms, instance, update)).unwrap_or(false)
    }

    /// [`scheduler::Command::Deploy`] was answered.
    pub fn deployed(&mut self, now: Now, job: JobId, attempt: AttemptId, answer: Result<(), String>) {
        self.on_job(now, job, |scheduler| scheduler.deployed(now.unix_ms, attempt, answer));
    }

    /// [`scheduler::Command::Cancel`] was answered.
    pub fn cancel_answered(&mut self, now: Now, job: JobId, attempt: AttemptId, known: bool) {
        self.on_job(now, job, |scheduler| scheduler.cancel_answered(now.unix_ms, attempt, known));
    }

    /// A call to a TaskManager did not get through.
    pub fn note_unreachable(&mut self, instance: InstanceId, error: &str) {
        self.registry.note_unreachable(instance, error);
    }

    /// Time has passed: gives up TaskManagers that are silent and requests that have waited too long. To be called every
    /// [`TICK`].
    ///
    /// A tick that comes much too late was not the only one to wait: so did the heartbeats that came meanwhile, and they
    /// may well be handled after it. Such an absence of this process is nobody's silence, and no time in which slots could
    /// have come. Only one [`TICK`] of it counts, so that limits are kept, if late, by a process that is always slow.
    pub fn tick(&mut self, now: Now) {
        let last = self.last_tick.replace(now.instant).unwrap_or(now.instant);
        let absence = now.instant.duration_since(last);
        if absence > ABSENCE {
            tracing::warn!(
                seconds = absence.as_secs_f64(),
                "this process did not run: nobody is given up for that time"
            );
            let excused = absence.saturating_sub(TICK);
            self.registry.excuse(now, excused);
            self.slots.excuse(now.instant, excused);
        }
        // One at a time: losing one may hand its job's slots to another job, and they must not be those of a dead
        // TaskManager.
        while let Some(lost) = self.registry.expire(now) {
            self.lose(now, &lost);
        }
        while let Some(shortage) = self.slots.expire(now.instant) {
            self.on_job(now, shortage.job, |scheduler| scheduler.no_slots(now.unix_ms, shortage.to_string()));
        }
    }

    /// What is to be done outside, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn lose(&mut self, now: Now, lost: &Lost) {
        tracing::warn!(task_manager = %lost.id, instance = %lost.instance, cause = lost.cause, "TaskManager lost");
        self.slots.remove(lost.instance);
        self.commands.push(Command::Forget(lost.instance));
        for job in self.jobs.active_ids() {
            self.on_job(now, job, |scheduler| scheduler.lost(now.unix_ms, lost));
        }
    }

    /// Lets something happen to a job and does what follows from it.
    fn on_job<R>(&mut self, now: Now, job: JobId, event: impl FnOnce(&mut Scheduler) -> R) -> Option<R> {
        let scheduler = self.jobs.get_mut(job)?;
        let had_ended = scheduler.state().is_terminal();
        let answer = event(scheduler);
        self.commands.extend(scheduler.take_commands().into_iter().map(Command::Call));
        if scheduler.state().is_terminal() && !had_ended {
            self.slots.release(job);
            let forgotten = self.jobs.note_ended(job);
            self.commands.extend(forgotten.into_iter().map(Command::DeleteScript));
            self.grant(now);
        }
        Some(answer)
    }

    /// Gives free slots to the jobs that wait for them.
    fn grant(&mut self, now: Now) {
        while let Some(grant) = self.slots.grant() {
            let placements: Vec<_> = grant.slots.iter().filter_map(|slot| self.placement(*slot)).collect();
            self.on_job(now, grant.job, |scheduler| scheduler.deploy(now.unix_ms, &placements));
        }
    }

    /// Slots are there exactly as long as the registration is.
    fn placement(&self, slot: Slot) -> Option<Placement> {
        let registration = self.registry.by_instance(slot.instance)?;
        let address = registration.introduction.address.clone();
        Some(Placement { instance: slot.instance, address, slot: slot.index })
    }
}
