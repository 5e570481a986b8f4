//! The thin shell around [`Cluster`]: events go in under a lock, commands come out and are carried out by tasks of
//! their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::blob::Digest;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::cluster::{Cluster, ClusterOptions, Command};
use crate::dispatcher::scripts::Scripts;
use crate::job_master::scheduler;
use crate::rpc::task_executor::TaskExecutors;

/// How often time limits are looked at: how much later than promised a lost TaskManager may be noticed.
const TICK: Duration = Duration::from_millis(100);

/// The cluster, shared by all who serve requests. Clones are the same.
#[derive(Debug, Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held for one event at a time and never across an await.
    cluster: Mutex<Cluster>,
    executors: TaskExecutors,
    scripts: Scripts,
    /// Calls under way: at most two per task of the active jobs, and one per script to delete.
    calls: TaskTracker,
    shutdown: CancellationToken,
}

impl Driver {
    /// Calls to TaskManagers go through `executors`, those about scripts through `scripts`; they are given up at `shutdown`.
    pub fn new(
        options: ClusterOptions,
        executors: TaskExecutors,
        scripts: Scripts,
        shutdown: CancellationToken,
    ) -> Self {
        let cluster = Mutex::new(Cluster::new(options));
        Self { shared: Arc::new(Shared { cluster, executors, scripts, calls: TaskTracker::new(), shutdown }) }
    }

    /// Lets an event happen and starts what follows from it.
    pub fn apply<R>(&self, event: impl FnOnce(&mut Cluster, Now) -> R) -> R {
        let mut cluster = self.cluster();
        let answer = event(&mut cluster, Now::read());
        let commands = cluster.take_commands();
        drop(cluster);
        commands.into_iter().for_each(|command| self.carry_out(command));
        answer
    }

    /// Looks at the cluster.
    pub fn read<R>(&self, view: impl FnOnce(&Cluster, Now) -> R) -> R {
        view(&self.cluster(), Now::read())
    }

    /// Keeps time limits until `shutdown`, then waits for the calls under way to be given up.
    pub async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.shutdown.is_cancelled() {
            tokio::select! {
                () = self.shared.shutdown.cancelled() => {}
                _ = ticks.tick() => self.apply(Cluster::tick),
            }
        }
        self.shared.calls.close();
        self.shared.calls.wait().await;
    }

    fn carry_out(&self, command: Command) {
        match command {
            Command::Forget(instance) => self.shared.executors.forget(instance),
            Command::DeleteScript(script) => {
                let driver = self.clone();
                self.spawn(async move {
                    // Always a digest: the job was submitted with it.
                    if let Ok(script) = script.parse() {
                        driver.delete_script(&script).await;
                    }
                });
            }
            Command::Call(call) => {
                let driver = self.clone();
                self.spawn(async move { driver.call(call).await });
            }
        }
    }

    fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shared.shutdown.clone();
        self.shared.calls.spawn(async move { shutdown.run_until_cancelled(call).await });
    }

    /// Deletes a script from the blob server, unless a job has it.
    pub async fn delete_script(&self, script: &Digest) {
        let wanted = || self.read(|cluster, _| cluster.jobs().has_script(&script.to_string()));
        self.shared.scripts.delete(script, wanted).await;
    }

    async fn call(&self, call: scheduler::Command) {
        match call {
            scheduler::Command::Deploy { job, attempt, instance, to, task } => {
                let answer = self.shared.executors.submit_task(instance, &to, *task).await;
                let answer =
                    answer.map_err(|status| format!("TaskManager {} at {}: {}", to.id, to.host, status.message()));
                self.apply(|cluster, now| cluster.deployed(now, job, attempt, answer));
            }
            scheduler::Command::Cancel { job, attempt, instance, to } => {
                match self.shared.executors.cancel_task(instance, &to, attempt).await {
                    Ok(known) => self.apply(|cluster, now| cluster.cancel_answered(now, job, attempt, known)),
                    Err(status) => {
                        tracing::warn!(%job, %attempt, task_manager = %to.id, error = status.message(), "cancel request failed");
                        self.apply(|cluster, _| cluster.note_unreachable(instance, status.message()));
                    }
                }
            }
        }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
