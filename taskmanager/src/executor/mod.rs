//! The tasks of this TaskManager: taken in, run, cancelled, reported.
//!
//! Everything belongs to a *session*, one registration at the JobManager. When a session is over (the JobManager
//! restarted, or had given this TaskManager up), so are its tasks: nobody waits for them any more.

mod channels;
pub mod deployment;
pub mod plans;
pub mod report;
pub mod table;
mod task;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use engine::{Compression, TaskMetrics};
use proto::ids::{AttemptId, InstanceId, TaskManagerId};
use proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::deployment::Deployment;
use self::plans::Plans;
use self::report::{Progress, Reporter, wire_metrics};
use self::table::{NotAdmitted, TaskTable};
use self::task::Task;
use crate::rpc::jobmanager::JobManager;
use crate::shuffle::Shuffle;

/// Why a task was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Nobody's: either side has not heard of the other's restart yet, or this TaskManager is stopping.
    #[error("not registered as instance {0} (any more, or yet)")]
    OtherSession(InstanceId),
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    own: TaskManagerId,
    compression: Compression,
    shuffle: Shuffle,
    plans: Plans,
    jobmanager: JobManager,
    /// Never held across an await.
    state: Mutex<State>,
}

struct State {
    session: Option<Session>,
    tasks: TaskTable<Handle>,
}

#[derive(Clone)]
struct Session {
    instance: InstanceId,
    /// Cancels every task.
    over: CancellationToken,
    running: TaskTracker,
}

struct Handle {
    cancel: CancellationToken,
    /// Set before `cancel` when the task is not cancelled but fails, for this cause.
    given_up: Arc<OnceLock<String>>,
    metrics: Arc<TaskMetrics>,
}

impl Executor {
    /// `compression` is for rows that go to another TaskManager, unless their script says.
    pub fn new(
        own: TaskManagerId,
        slots: u32,
        compression: Compression,
        shuffle: Shuffle,
        plans: Plans,
        jobmanager: JobManager,
    ) -> Self {
        let state = Mutex::new(State { session: None, tasks: TaskTable::new(slots) });
        Self { shared: Arc::new(Shared { own, compression, shuffle, plans, jobmanager, state }) }
    }

    /// Takes a task; how it goes is reported to the JobManager. Repeating it changes nothing.
    pub fn submit(&self, instance: InstanceId, deployment: Deployment) -> Result<(), SubmitError> {
        let mut state = self.state();
        let session = state.session.clone().filter(|session| session.instance == instance);
        let session = session.ok_or(SubmitError::OtherSession(instance))?;
        let metrics = Arc::new(TaskMetrics::default());
        let cancel = session.over.child_token();
        let given_up = Arc::default();
        let handle = Handle { cancel: cancel.clone(), given_up: Arc::clone(&given_up), metrics: Arc::clone(&metrics) };
        if state.tasks.admit(deployment.job, deployment.attempt, deployment.slot, handle)? {
            let executor = self.clone();
            session.running.spawn(executor.run(session.clone(), deployment, metrics, cancel, given_up));
        }
        Ok(())
    }

    /// Asks a task to stop; answers whether it is here.
    pub fn cancel(&self, attempt: AttemptId) -> bool {
        let state = self.state();
        let handle = state.tasks.get(attempt);
        if let Some(handle) = handle {
            handle.cancel.cancel();
        }
        handle.is_some()
    }

    /// Lets every task fail for this cause. Each is reported as soon as there is somebody to report to.
    pub fn give_up(&self, cause: &str) {
        for (attempt, handle) in self.state().tasks.iter().filter(|(_, handle)| !handle.cancel.is_cancelled()) {
            tracing::warn!(%attempt, cause, "giving up a task");
            handle.given_up.get_or_init(|| cause.to_owned());
            handle.cancel.cancel();
        }
    }

    /// Registered: tasks of this instance are taken from now on.
    pub fn begin_session(&self, instance: InstanceId) {
        let mut state = self.state();
        state.tasks.forget_ended();
        state.session = Some(Session { instance, over: CancellationToken::new(), running: TaskTracker::new() });
    }

    /// No longer registered: takes nothing more, cancels every task and waits until they have ended.
    pub async fn end_session(&self) {
        let session = self.state().session.take();
        if let Some(Session { over, running, .. }) = session {
            over.cancel();
            running.close();
            running.wait().await;
        }
    }

    /// Slots without a task, and every task that has not ended or whose end the JobManager has not acknowledged.
    pub fn report(&self) -> (u32, Vec<v1::TaskReport>) {
        let state = self.state();
        let report = |(attempt, handle): (AttemptId, &Handle)| v1::TaskReport {
            attempt_id: attempt.to_string(),
            metrics: Some(wire_metrics(&handle.metrics)),
        };
        (state.tasks.free_slots(), state.tasks.iter().map(report).collect())
    }

    async fn run(
        self,
        session: Session,
        deployment: Deployment,
        metrics: Arc<TaskMetrics>,
        cancel: CancellationToken,
        given_up: Arc<OnceLock<String>>,
    ) {
        let Shared { own, compression, shuffle, plans, jobmanager, .. } = &*self.shared;
        let attempt = deployment.attempt;
        let reporter = Reporter {
            jobmanager: jobmanager.clone(),
            own: own.clone(),
            instance: session.instance,
            job: deployment.job,
            attempt,
            metrics: Arc::clone(&metrics),
        };
        let (compression, shuffle, plans) = (*compression, shuffle.clone(), plans.clone());
        let task = Task { deployment, compression, shuffle, plans, metrics, cancel: cancel.clone(), given_up };
        let (progress, watched) = watch::channel(Progress::start());
        // The slot is free before the JobManager hears of the end: it may fill it at once.
        let work = task.run(&progress, || self.state().tasks.end(attempt));
        let reports = session.over.run_until_cancelled(reporter.run(watched, &cancel));
        tokio::join!(work, reports);
        self.state().tasks.remove(attempt);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("own", &self.shared.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use config::{Configuration, tls};
    use proto::ids::JobId;
    use tls_common::Listener;
    use tls_common::grpc::RotatingChannel;

    use super::deployment::Script;
    use super::*;
    use crate::shuffle::ShuffleOptions;

    /// Nobody listens where it looks for a JobManager and for blobs.
    async fn executor() -> Executor {
        let endpoint = tls::internal_endpoint(&Configuration::default(), tls::Internal::Rpc, None).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (own, stop) = (TaskManagerId::random("a").unwrap(), CancellationToken::new());
        let (shuffle, _server) =
            Shuffle::start(own.clone(), endpoint.clone(), listener.into(), ShuffleOptions::default(), stop).unwrap();
        let channel = RotatingChannel::new(endpoint.connector(&["h2"]), "localhost".to_owned(), 1);
        let jobmanager = JobManager::new(channel, Duration::ZERO);
        Executor::new(own, 1, Compression::None, shuffle, Plans::new(endpoint.connector(&[])), jobmanager)
    }

    fn deployment() -> Deployment {
        Deployment {
            job: JobId::from_bytes([1; 16]),
            attempt: AttemptId::from_bytes([2; 16]),
            vertex: 0,
            subtask: 0,
            name: "source (1/1)".to_owned(),
            slot: 0,
            script: Script {
                digest: "0".repeat(64).parse().unwrap(),
                parallelism: 1,
                blob_host: "localhost".to_owned(),
                blob_port: 1,
            },
            fingerprint: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    #[tokio::test]
    async fn an_attempt_of_an_earlier_session_runs_again_and_late_calls_of_that_session_are_refused() {
        let executor = executor().await;
        let (first, second) = (InstanceId::random(), InstanceId::random());
        executor.begin_session(first);
        executor.submit(first, deployment()).unwrap();
        assert_eq!(executor.report().1.len(), 1);
        executor.end_session().await;
        assert_eq!(executor.report(), (1, Vec::new()));
        executor.begin_session(second);
        assert_eq!(executor.submit(first, deployment()), Err(SubmitError::OtherSession(first)));
        assert_eq!(executor.report().1.len(), 0);
        executor.submit(second, deployment()).unwrap();
        assert_eq!(executor.report().1.len(), 1, "the restarted JobManager makes the same ids for the same job");
        executor.end_session().await;
    }
}
