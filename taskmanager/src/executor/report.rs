//! Tells the JobManager how one task is doing, until it has acknowledged the task's end.

use std::sync::Arc;
use std::time::Duration;

use engine::{TaskMetrics, TaskMetricsSnapshot};
use proto::ids::{AttemptId, InstanceId, JobId, TaskManagerId};
use proto::v1;
use proto::v1::TaskState;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::rpc::jobmanager::JobManager;

/// Pause after the JobManager could not be told.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest cause of a failure that is reported, in characters.
const CAUSE_CHARS_MAX: usize = 16 * 1024;

/// How a task is doing. States that nobody was told in time are skipped: only the newest counts.
#[derive(Debug, Clone)]
pub struct Progress {
    sequence: u64,
    state: TaskState,
    /// Why it failed.
    cause: String,
    /// It failed only because the other end of a channel went away.
    symptom: bool,
}

impl Progress {
    /// The task has been taken.
    pub fn start() -> Self {
        Self { sequence: 1, state: TaskState::Initializing, cause: String::new(), symptom: false }
    }

    /// The task is in `state` now.
    pub fn advance(&mut self, state: TaskState) {
        self.sequence += 1;
        self.state = state;
    }

    /// The task has failed.
    pub fn fail(&mut self, cause: &str, symptom: bool) {
        self.advance(TaskState::Failed);
        self.cause = cause.chars().take(CAUSE_CHARS_MAX).collect();
        self.symptom = symptom;
    }

    pub fn state(&self) -> TaskState {
        self.state
    }
}

/// Whom to tell, and of what.
#[derive(Debug, Clone)]
pub struct Reporter {
    pub jobmanager: JobManager,
    pub own: TaskManagerId,
    pub instance: InstanceId,
    pub job: JobId,
    pub attempt: AttemptId,
    pub metrics: Arc<TaskMetrics>,
}

impl Reporter {
    /// Returns once the end has been acknowledged, or the JobManager does not know the task: then `cancel` is
    /// cancelled.
    pub async fn run(self, mut progress: watch::Receiver<Progress>, cancel: &CancellationToken) {
        loop {
            let newest = progress.borrow_and_update().clone();
            match self.jobmanager.update_task_state(self.request(&newest)).await {
                Ok(answer) if answer.known && newest.state.is_terminal() => return,
                Ok(answer) if answer.known => {
                    // An error means that the sender is gone, and it never goes before the end of the task.
                    if progress.changed().await.is_err() {
                        return;
                    }
                }
                Ok(_) => {
                    tracing::warn!(job = %self.job, attempt = %self.attempt, "the JobManager does not know this task: cancelling it");
                    cancel.cancel();
                    return;
                }
                Err(status) => {
                    let state = newest.state.name();
                    tracing::warn!(job = %self.job, attempt = %self.attempt, state, error = status.message(), "cannot report a task's state yet");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn request(&self, progress: &Progress) -> v1::UpdateTaskStateRequest {
        v1::UpdateTaskStateRequest {
            task_manager_id: self.own.to_string(),
            instance_id: self.instance.to_string(),
            job_id: self.job.to_string(),
            attempt_id: self.attempt.to_string(),
            sequence: progress.sequence,
            state: progress.state.into(),
            cause: progress.cause.clone(),
            metrics: Some(wire_metrics(&self.metrics)),
            symptom: progress.symptom,
        }
    }
}

/// The message form of a task's counters.
pub fn wire_metrics(metrics: &TaskMetrics) -> v1::TaskMetrics {
    let TaskMetricsSnapshot { records_in, records_out, bytes_in, bytes_out, late_records, watermark } =
        metrics.snapshot();
    v1::TaskMetrics { records_in, records_out, bytes_in, bytes_out, late_records, watermark_ms: watermark }
}
