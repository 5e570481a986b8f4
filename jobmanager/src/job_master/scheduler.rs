//! The life of one job as a pure state machine: told what happened and when, it answers with [`Command`]s and never
//! waits.
//!
//! ```text
//! CREATED ──slots──▶ RUNNING ──all tasks FINISHED──▶ FINISHED
//!    │  │               │  └──a task failed──▶ FAILING ──all tasks ended──▶ FAILED
//!    │  └──no slots──▶ FAILED      (its TaskManager lost counts as ended)
//!    └────cancel────────┴──▶ CANCELLING ──all tasks ended──▶ CANCELED
//! ```
//!
//! A cancel request is held back while the answer to a task's deployment is outstanding: overtaking it, the request
//! would find no task, and the task would then start after all.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::ids::{AttemptId, InstanceId, JobId, TaskManagerId};
use proto::v1::{JobState, TaskDeployment, TaskMetrics, TaskState};

use super::deployment::{BlobAddress, deployment, task_name};
use super::execution::{Execution, Placement, Task};
use super::plan::JobPlan;
use crate::resource_manager::registry::{Address, Lost};

/// After so many heartbeats in a row without a word of a task that was accepted, it is not there any more. The first of
/// them may have been on its way already when the task was accepted, the second cannot.
const UNMENTIONED_HEARTBEATS_MAX: u8 = 2;

/// A call to a TaskManager; how it went comes back as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Answered by [`Scheduler::deployed`].
    Deploy { job: JobId, attempt: AttemptId, instance: InstanceId, to: Address, task: Box<TaskDeployment> },
    /// Answered by [`Scheduler::cancel_answered`]. If the call fails, the TaskManager's next heartbeat brings it up
    /// again.
    Cancel { job: JobId, attempt: AttemptId, instance: InstanceId, to: Address },
}

impl Command {
    /// Whom the call is for.
    pub fn instance(&self) -> InstanceId {
        match self {
            Self::Deploy { instance, .. } | Self::Cancel { instance, .. } => *instance,
        }
    }
}

/// A state a TaskManager reports of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskUpdate {
    pub attempt: AttemptId,
    pub sequence: u64,
    pub state: TaskState,
    pub cause: String,
    /// It failed only because the other end of a channel went away.
    pub symptom: bool,
    pub metrics: TaskMetrics,
}

/// Why a job failed: the first thing that went wrong. Reports of different TaskManagers may overtake each other, so
/// what a task says of a neighbour that went away gives way to what the neighbour itself says, or to the loss of its
/// TaskManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub unix_ms: i64,
    pub cause: String,
    /// `name (1/2)`, if it was a task.
    pub task: Option<String>,
    pub task_manager: Option<TaskManagerId>,
    /// The task failed only because the other end of a channel went away.
    symptom: bool,
}

/// One job.
#[derive(Debug)]
pub struct Scheduler {
    job: JobId,
    plan: Arc<JobPlan>,
    blob: BlobAddress,
    state: JobState,
    /// First entry into each state, Unix milliseconds.
    timestamps: BTreeMap<JobState, i64>,
    execution: Execution,
    failure: Option<Failure>,
    commands: Vec<Command>,
}

impl Scheduler {
    /// A job that waits for its slots; `submitted_ms` is when it arrived, Unix milliseconds.
    pub fn new(job: JobId, plan: Arc<JobPlan>, blob: BlobAddress, submitted_ms: i64, now_ms: i64) -> Self {
        let mut execution = Execution::new(job, &plan);
        execution.tasks_mut().for_each(|task| task.enter(TaskState::Scheduled, now_ms));
        let timestamps = BTreeMap::from([(JobState::Initializing, submitted_ms), (JobState::Created, now_ms)]);
        Self { job, plan, blob, state: JobState::Created, timestamps, execution, failure: None, commands: Vec::new() }
    }

    /// The job has its slots: subtask n of every vertex goes to the n-th of its slot sharing group.
    /// Slots come spread over the TaskManagers; with several groups each group has its slots as close together as can be.
    pub fn deploy(&mut self, now_ms: i64, slots: &[Placement]) {
        debug_assert_eq!((self.state, slots.len()), (JobState::Created, self.plan.slots_needed()));
        let mut slots: Vec<&Placement> = slots.iter().collect();
        if self.plan.has_slot_sharing_groups() {
            // Who keeps groups apart wants each of them together.
            slots.sort_by_key(|slot| (slot.instance, slot.slot));
        }
        for task in self.execution.tasks_mut() {
            task.placement = slots.get(self.plan.slot_of(task.vertex, task.subtask)).copied().cloned();
            task.enter(TaskState::Deploying, now_ms);
        }
        self.enter(JobState::Running, now_ms);
        for task in self.execution.tasks() {
            if let Some(Placement { instance, address, .. }) = &task.placement {
                self.commands.push(Command::Deploy {
                    job: self.job,
                    attempt: task.attempt,
                    instance: *instance,
                    to: address.clone(),
                    task: Box::new(deployment(self.job, &self.plan, &self.execution, task, &self.blob)),
                });
            }
        }
    }

    /// There were not enough slots in time.
    pub fn no_slots(&mut self, now_ms: i64, cause: String) {
        self.fail(now_ms, Failure { unix_ms: now_ms, cause, task: None, task_manager: None, symptom: false });
        self.settle(now_ms);
    }

    /// A deployment was answered. An error may still mean that the task arrived: then the TaskManager's heartbeats will
    /// mention it, and are answered that it must go.
    pub fn deployed(&mut self, now_ms: i64, attempt: AttemptId, answer: Result<(), String>) {
        let Some(task) = self.execution.find_mut(attempt) else { return };
        match answer {
            Ok(()) => self.accept(attempt),
            Err(_) if task.accepted => {}
            Err(cause) => self.end(now_ms, attempt, TaskState::Failed, format!("deployment failed: {cause}"), false),
        }
        self.settle(now_ms);
    }

    /// The TaskManager says whether it has the task it was asked to cancel.
    pub fn cancel_answered(&mut self, now_ms: i64, attempt: AttemptId, known: bool) {
        if !known {
            self.end(now_ms, attempt, TaskState::Canceled, String::new(), false);
            self.settle(now_ms);
        }
    }

    /// A TaskManager reports on a task. Answers whether the task is this job's and on that instance.
    pub fn update(&mut self, now_ms: i64, instance: InstanceId, update: TaskUpdate) -> bool {
        let Some(task) = self.execution.find_mut(update.attempt).filter(|task| task.is_on(instance)) else {
            return false;
        };
        if update.sequence <= task.sequence || task.state.is_terminal() {
            return true;
        }
        task.sequence = update.sequence;
        task.metrics = Some(update.metrics);
        match update.state {
            TaskState::Initializing | TaskState::Running => {
                if task.state != TaskState::Canceling {
                    task.enter(update.state, now_ms);
                }
                self.accept(update.attempt);
            }
            TaskState::Finished | TaskState::Canceled | TaskState::Failed => {
                self.end(now_ms, update.attempt, update.state, update.cause, update.symptom);
            }
            // Only the JobManager decides on these.
            _ => {}
        }
        self.settle(now_ms);
        true
    }

    /// A heartbeat's list of tasks with their counters. Takes out of it what may go on running; the rest the
    /// TaskManager should not have.
    pub fn reconcile(&mut self, now_ms: i64, instance: InstanceId, reported: &mut BTreeMap<AttemptId, TaskMetrics>) {
        let mut vanished = Vec::new();
        for task in self.execution.tasks_mut().filter(|task| task.is_on(instance) && !task.state.is_terminal()) {
            match reported.get(&task.attempt) {
                Some(metrics) => {
                    task.unmentioned = 0;
                    task.metrics = Some(*metrics);
                    if task.state != TaskState::Canceling {
                        reported.remove(&task.attempt);
                    }
                }
                None if task.accepted => {
                    task.unmentioned += 1;
                    if task.unmentioned >= UNMENTIONED_HEARTBEATS_MAX {
                        vanished.push(task.attempt);
                    }
                }
                None => {}
            }
        }
        for attempt in vanished {
            self.end(now_ms, attempt, TaskState::Failed, "its TaskManager does not know it any more".to_owned(), false);
        }
        self.settle(now_ms);
    }

    /// A TaskManager is gone, and with it every task it had.
    pub fn lost(&mut self, now_ms: i64, lost: &Lost) {
        let on_it = |task: &&mut Task| task.is_on(lost.instance) && !task.state.is_terminal();
        let mut hit = false;
        for task in self.execution.tasks_mut().filter(on_it) {
            hit = true;
            let canceling = task.state == TaskState::Canceling;
            task.enter(if canceling { TaskState::Canceled } else { TaskState::Failed }, now_ms);
        }
        if hit {
            let task_manager = Some(lost.id.clone());
            self.fail(
                now_ms,
                Failure { unix_ms: now_ms, cause: lost.cause.clone(), task: None, task_manager, symptom: false },
            );
            self.settle(now_ms);
        }
    }

    /// Somebody asked for the job to stop; without effect if it is already ending.
    pub fn cancel(&mut self, now_ms: i64) {
        if matches!(self.state, JobState::Created | JobState::Running) {
            self.enter(JobState::Cancelling, now_ms);
            self.cancel_tasks(now_ms);
            self.settle(now_ms);
        }
    }

    /// What is to be done now.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    pub fn state(&self) -> JobState {
        self.state
    }

    /// First entry into each state, Unix milliseconds.
    pub fn timestamps(&self) -> &BTreeMap<JobState, i64> {
        &self.timestamps
    }

    pub fn plan(&self) -> &JobPlan {
        &self.plan
    }

    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// Why the job failed or is failing.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    fn enter(&mut self, state: JobState, now_ms: i64) {
        tracing::info!(job = %self.job, from = self.state.name(), to = state.name(), "job state");
        self.state = state;
        self.timestamps.entry(state).or_insert(now_ms);
    }

    /// The TaskManager has the task: from now on cancelling it is a matter of asking.
    fn accept(&mut self, attempt: AttemptId) {
        let job = self.job;
        let Some(task) = self.execution.find_mut(attempt) else { return };
        let first = !std::mem::replace(&mut task.accepted, true);
        if first && task.state == TaskState::Canceling {
            self.commands.extend(cancel_command(job, task));
        }
    }

    /// A task has ended in `state`; what that means for the job depends on what the job is doing.
    fn end(&mut self, now_ms: i64, attempt: AttemptId, state: TaskState, cause: String, symptom: bool) {
        let Some(task) = self.execution.find_mut(attempt).filter(|task| !task.state.is_terminal()) else { return };
        let canceling = task.state == TaskState::Canceling;
        task.accepted = true;
        task.enter(if canceling && state == TaskState::Failed { TaskState::Canceled } else { state }, now_ms);
        let cause = match state {
            TaskState::Failed => cause,
            TaskState::Canceled if !canceling => "canceled by its TaskManager".to_owned(),
            _ => return,
        };
        let name = task_name(&self.plan, task);
        let task_manager = task.placement.as_ref().map(|placement| placement.address.id.clone());
        self.fail(now_ms, Failure { unix_ms: now_ms, cause, task: Some(name), task_manager, symptom });
    }

    /// Something went wrong: the end of a job that is not ending yet; a better explanation for one that is failing by a
    /// symptom.
    fn fail(&mut self, now_ms: i64, failure: Failure) {
        let explains = self.failure.as_ref().is_some_and(|known| known.symptom) && !failure.symptom;
        let begins = matches!(self.state, JobState::Created | JobState::Running);
        if !begins && !explains {
            return;
        }
        tracing::warn!(job = %self.job, task = failure.task, cause = failure.cause, "job fails");
        self.failure = Some(failure);
        if begins {
            self.enter(JobState::Failing, now_ms);
            self.cancel_tasks(now_ms);
        }
    }

    fn cancel_tasks(&mut self, now_ms: i64) {
        let job = self.job;
        for task in self.execution.tasks_mut().filter(|task| !task.state.is_terminal()) {
            if task.placement.is_none() {
                task.enter(TaskState::Canceled, now_ms);
                continue;
            }
            task.enter(TaskState::Canceling, now_ms);
            if task.accepted {
                self.commands.extend(cancel_command(job, task));
            }
        }
    }

    /// Ends the job if its last task has ended.
    fn settle(&mut self, now_ms: i64) {
        if self.execution.has_ended() {
            match self.state {
                JobState::Running => self.enter(JobState::Finished, now_ms),
                JobState::Failing => self.enter(JobState::Failed, now_ms),
                JobState::Cancelling => self.enter(JobState::Canceled, now_ms),
                _ => {}
            }
        }
    }
}

fn cancel_command(job: JobId, task: &Task) -> Option<Command> {
    let Placement { instance, address, .. } = task.placement.as_ref()?;
    Some(Command::Cancel { job, attempt: task.attempt, instance: *instance, to: address.clone() })
}

#[cfg(test)]
mod tests;
