//! The thin shell around [`Cluster`]: events go in under a lock, commands come out and are carried out by tasks of
//! their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::blob::Digest;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Now;
use crate::cluster::{Cluster, ClusterOptions, Command, TICK};
use crate::dispatcher::scripts::Scripts;
use crate::job_master::scheduler;
use crate::rpc::task_executor::TaskExecutors;

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
                // Always a digest: the job was submitted with it.
                if let Ok(script) = script.parse() {
                    self.delete_script(script);
                }
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

    /// Begins to delete a script from the blob server, unless a job has it.
    pub fn delete_script(&self, script: Digest) {
        let driver = self.clone();
        self.spawn(async move {
            let wanted = || driver.read(|cluster, _| cluster.jobs().has_script(&script.to_string()));
            driver.shared.scripts.delete(&script, wanted).await;
        });
    }

    async fn call(&self, call: scheduler::Command) {
        let instance = call.instance();
        self.carry_through(call).await;
        // It may have begun only after the instance was lost and forgotten.
        if self.read(|cluster, _| cluster.registry().by_instance(instance).is_none()) {
            self.shared.executors.forget(instance);
        }
    }

    async fn carry_through(&self, call: scheduler::Command) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use blob_server::BlobClient;
    use config::{Configuration, tls};
    use proto::ids::{AttemptId, InstanceId, JobId};

    use super::*;
    use crate::resource_manager::registry::tests::introduction;
    use crate::settings::Settings;

    #[tokio::test]
    async fn a_call_that_begins_after_its_instance_was_forgotten_leaves_no_channel() {
        let config = Configuration::default();
        let endpoint = tls::internal_endpoint(&config, tls::Internal::Rpc, None).unwrap();
        let executors = TaskExecutors::new(endpoint.connector(&["h2"]), std::time::Duration::ZERO);
        let scripts = Scripts::new(BlobClient::new(endpoint.connector(&[]), "localhost".to_owned(), 1));
        let options = Settings::new(&config).unwrap().cluster;
        let driver = Driver::new(options, executors, scripts, CancellationToken::new());
        let instance = InstanceId::random();
        let to = introduction("a", "x", 1).address;
        let cancel = || scheduler::Command::Cancel {
            job: JobId::random(),
            attempt: AttemptId::random(),
            instance,
            to: to.clone(),
        };
        driver.apply(|cluster, now| cluster.register(now, introduction("a", "x", 1), instance));
        driver.call(cancel()).await;
        assert_eq!(driver.shared.executors.channels(), 1, "for the next call");
        driver.apply(|cluster, now| cluster.unregister(now, &to.id, instance, "it was shut down"));
        assert_eq!(driver.shared.executors.channels(), 0);
        driver.call(cancel()).await;
        assert_eq!(driver.shared.executors.channels(), 0);
    }
}
