//! The life of one task: register its channels, get its plan, run it, and say how it went.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::{Compression, TaskError, TaskMetrics};
use proto::v1::TaskState;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::channels::{Channels, Neighbours};
use super::deployment::Deployment;
use super::plans::{Plans, ScriptError};
use super::report::Progress;
use crate::shuffle::{ChannelError, Shuffle};

/// A cancelled task that has not ended by then is aborted at its next await.
const CANCELLATION_TIMEOUT: Duration = Duration::from_secs(180);

/// One task with what it needs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) deployment: Deployment,
    pub(super) compression: Compression,
    pub(super) shuffle: Shuffle,
    pub(super) plans: Plans,
    pub(super) metrics: Arc<TaskMetrics>,
    pub(super) cancel: CancellationToken,
    /// Why it was cancelled, if that is a failure.
    pub(super) given_up: Arc<OnceLock<String>>,
}

/// Why a task did not finish.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    GivenUp(String),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(
        "this TaskManager plans the script differently than the JobManager ({here} instead of {there}): run the same release of Tidemill everywhere"
    )]
    OtherPlan { here: String, there: String },
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{error}")]
    Task { error: TaskError, symptom: bool },
    #[error("the task panicked: {0}")]
    Panic(String),
    #[error("aborted: it did not end within {} s of being cancelled", CANCELLATION_TIMEOUT.as_secs())]
    Overdue,
}

impl Task {
    /// Runs to the end, whatever that is; the last state of `progress` is a terminal one. `at_end` is called before
    /// that is set.
    pub(super) async fn run(self, progress: &watch::Sender<Progress>, at_end: impl FnOnce()) {
        let (name, job, attempt) = (self.deployment.name.clone(), self.deployment.job, self.deployment.attempt);
        tracing::info!(%job, %attempt, task = name, "task starts");
        let (cancel, given_up) = (self.cancel.clone(), Arc::clone(&self.given_up));
        // A task of its own: a panic ends that task and nothing else.
        let work = tokio::spawn(self.execute(progress.clone()));
        let ended = supervise(work, &cancel).await.map_err(|ended| match (ended, given_up.get()) {
            (Ended::Cancelled | Ended::Overdue, Some(cause)) => Ended::GivenUp(cause.clone()),
            (ended, _) => ended,
        });
        at_end();
        progress.send_modify(|progress| match &ended {
            Ok(()) => progress.advance(TaskState::Finished),
            Err(Ended::Cancelled | Ended::Overdue) => progress.advance(TaskState::Canceled),
            Err(failure) => progress.fail(&failure.to_string(), matches!(failure, Ended::Task { symptom: true, .. })),
        });
        match ended {
            Ok(()) => tracing::info!(%job, %attempt, task = name, "task finished"),
            Err(Ended::Cancelled) => tracing::info!(%job, %attempt, task = name, "task cancelled"),
            Err(failure) => tracing::warn!(%job, %attempt, task = name, cause = %failure, "task failed"),
        }
    }

    async fn execute(self, progress: watch::Sender<Progress>) -> Result<(), Ended> {
        let Self { deployment, compression, shuffle, plans, metrics, cancel, given_up: _ } = self;
        // First of all: the neighbours may be quicker.
        let Channels { inputs, outputs, neighbours } = Channels::register(&shuffle, &deployment, compression)?;
        let plan = cancel.run_until_cancelled(plans.get(&deployment.script)).await.ok_or(Ended::Cancelled)??;
        if plan.fingerprint != deployment.fingerprint {
            return Err(Ended::OtherPlan { here: plan.fingerprint.clone(), there: deployment.fingerprint });
        }
        progress.send_modify(|progress| progress.advance(TaskState::Running));
        let (vertex, subtask) = (deployment.vertex, deployment.subtask);
        engine::run_task(&plan, vertex, subtask, inputs, outputs, metrics, cancel.clone())
            .await
            .map_err(|error| Ended::of(error, &neighbours, &cancel))
    }
}

impl Ended {
    fn of(error: TaskError, neighbours: &Neighbours, cancel: &CancellationToken) -> Self {
        match error {
            TaskError::Cancelled if cancel.is_cancelled() => Self::Cancelled,
            error => Self::Task { symptom: matches!(error, TaskError::Channel { .. }) && neighbours.left(), error },
        }
    }
}

/// Waits for the work; aborts it if it goes on for too long after having been cancelled.
async fn supervise(mut work: JoinHandle<Result<(), Ended>>, cancel: &CancellationToken) -> Result<(), Ended> {
    let overdue = async {
        cancel.cancelled().await;
        sleep(CANCELLATION_TIMEOUT).await;
    };
    let joined = tokio::select! {
        joined = &mut work => joined,
        () = overdue => {
            work.abort();
            work.await
        }
    };
    joined.unwrap_or_else(|error| Err(of_join_error(error)))
}

fn of_join_error(error: JoinError) -> Ended {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Ended::Panic(
                text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned()),
            )
        }
        Err(_) => Ended::Overdue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_failure_with_its_message() {
        let work = tokio::spawn(async { if true { panic!("row {}", 7) } else { Ok(()) } });
        let ended = supervise(work, &CancellationToken::new()).await;
        assert_eq!(ended.map_err(|failure| failure.to_string()), Err("the task panicked: row 7".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_its_cancellation_is_aborted() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let ended = supervise(tokio::spawn(std::future::pending()), &cancel).await;
        assert!(matches!(ended, Err(Ended::Overdue)), "{ended:?}");
    }
}
