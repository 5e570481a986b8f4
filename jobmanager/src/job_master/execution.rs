//! The tasks of a job and what is known of each.

use proto::ids::{AttemptId, InstanceId, JobId};
use proto::v1::{TaskMetrics, TaskState};

use super::plan::{JobPlan, digest16};
use crate::resource_manager::registry::Address;

/// All tasks of one job, by vertex and subtask.
#[derive(Debug)]
pub struct Execution {
    vertices: Vec<Vec<Task>>,
}

/// One attempt at one subtask.
#[derive(Debug, Clone)]
pub struct Task {
    pub attempt: AttemptId,
    pub vertex: usize,
    pub subtask: usize,
    pub state: TaskState,
    /// Where it runs; `None` until a slot is assigned.
    pub placement: Option<Placement>,
    /// When it was sent to its TaskManager, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// When it ended, Unix milliseconds.
    pub end_ms: Option<i64>,
    /// What the TaskManager counted last; `None` until it has reported.
    pub metrics: Option<TaskMetrics>,
    /// The TaskManager is known to have it: it acknowledged the deployment or reported a state.
    pub(super) accepted: bool,
    /// Highest sequence number of the TaskManager's updates.
    pub(super) sequence: u64,
    /// Heartbeats in a row that did not mention an accepted task.
    pub(super) unmentioned: u8,
}

/// A slot of a registered TaskManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub instance: InstanceId,
    pub address: Address,
    pub slot: u32,
}

impl Execution {
    /// All tasks CREATED. Attempt ids follow from the job's id.
    pub fn new(job: JobId, plan: &JobPlan) -> Self {
        let task = |vertex: usize, subtask: usize| Task {
            attempt: AttemptId::from_bytes(digest16(&[
                job.as_bytes(),
                &(vertex as u64).to_le_bytes(),
                &(subtask as u64).to_le_bytes(),
            ])),
            vertex,
            subtask,
            state: TaskState::Created,
            placement: None,
            start_ms: None,
            end_ms: None,
            metrics: None,
            accepted: false,
            sequence: 0,
            unmentioned: 0,
        };
        let subtasks = |(vertex, planned): (usize, &super::plan::Vertex)| {
            (0..planned.parallelism).map(|subtask| task(vertex, subtask)).collect()
        };
        Self { vertices: plan.vertices.iter().enumerate().map(subtasks).collect() }
    }

    /// Every task of the job.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.vertices.iter().flatten()
    }

    /// The subtasks of one vertex, in order; empty if there is no such vertex.
    pub fn vertex(&self, vertex: usize) -> &[Task] {
        self.vertices.get(vertex).map_or(&[], Vec::as_slice)
    }

    pub(super) fn tasks_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.vertices.iter_mut().flatten()
    }

    pub(super) fn find_mut(&mut self, attempt: AttemptId) -> Option<&mut Task> {
        self.tasks_mut().find(|task| task.attempt == attempt)
    }

    /// Whether no task is left that could still run.
    pub fn has_ended(&self) -> bool {
        self.tasks().all(|task| task.state.is_terminal())
    }
}

impl Task {
    /// Moves on to `state`, noting the time where REST shows one.
    pub(super) fn enter(&mut self, state: TaskState, now_ms: i64) {
        self.state = state;
        if state == TaskState::Deploying {
            self.start_ms = Some(now_ms);
        }
        if state.is_terminal() {
            self.end_ms = Some(now_ms);
        }
    }

    /// Whether it was placed on that instance.
    pub fn is_on(&self, instance: InstanceId) -> bool {
        self.placement.as_ref().is_some_and(|placement| placement.instance == instance)
    }
}

/// Flink's rule for the state of a vertex, given the states of its subtasks.
pub fn aggregate_state(tasks: &[Task]) -> TaskState {
    let any = |state| tasks.iter().any(|task| task.state == state);
    let all = |state| tasks.iter().all(|task| task.state == state);
    for state in
        [TaskState::Failed, TaskState::Canceling, TaskState::Canceled, TaskState::Initializing, TaskState::Running]
    {
        if any(state) {
            return state;
        }
    }
    match () {
        () if all(TaskState::Finished) => TaskState::Finished,
        () if any(TaskState::Finished) => TaskState::Running,
        () if any(TaskState::Deploying) => TaskState::Deploying,
        () if any(TaskState::Scheduled) => TaskState::Scheduled,
        () => TaskState::Created,
    }
}

/// Sums the counters; the watermark is the smallest known one.
pub fn sum_metrics<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> TaskMetrics {
    let mut sum = TaskMetrics::default();
    for TaskMetrics { records_in, records_out, bytes_in, bytes_out, late_records, watermark_ms } in
        tasks.into_iter().filter_map(|task| task.metrics)
    {
        sum.records_in = sum.records_in.saturating_add(records_in);
        sum.records_out = sum.records_out.saturating_add(records_out);
        sum.bytes_in = sum.bytes_in.saturating_add(bytes_in);
        sum.bytes_out = sum.bytes_out.saturating_add(bytes_out);
        sum.late_records = sum.late_records.saturating_add(late_records);
        sum.watermark_ms = match (sum.watermark_ms, watermark_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    sum
}
