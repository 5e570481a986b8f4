//! Being part of the cluster: register, send heartbeats, register again when told to, leave in good order.

use std::future::pending;
use std::time::Duration;

use proto::ids::{AttemptId, InstanceId};
use proto::v1;
use tls_common::Endpoint;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::rpc::jobmanager::JobManager;
use crate::shuffle::Shuffle;
use crate::usage;

/// Pause after a JobManager that does not answer, or does not want us, has been tried for a while.
const PAUSE: Duration = Duration::from_secs(1);

/// How long leaving may take: telling the JobManager, then ending the tasks.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// How finely the JobManager's silence is measured.
const SILENCE_TICK: Duration = Duration::from_millis(100);

/// Shortest heartbeat interval this TaskManager follows.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A single heartbeat that is answered late must not look like silence.
const BEATS_MISSED_MIN: u32 = 2;

/// What the JobManager is told, and whom it is told by.
#[derive(Debug)]
pub struct Membership {
    pub jobmanager: JobManager,
    pub executor: Executor,
    pub shuffle: Shuffle,
    pub address: v1::TaskManagerAddress,
    pub slots: u32,
    pub hardware: v1::Hardware,
    /// A JobManager that is silent for so long has given this TaskManager up, or is gone: its tasks fail. At least two
    /// of the intervals that the JobManager asks for, whatever this says.
    pub heartbeat_timeout: Duration,
    /// Whose state heartbeats carry.
    pub endpoints: Vec<Endpoint>,
}

/// One registration.
#[derive(Debug, Clone, Copy)]
struct Registered {
    instance: InstanceId,
    heartbeat_interval: Duration,
}

impl Membership {
    /// Stays registered until `shutdown`; then leaves and ends the tasks.
    pub async fn run(&self, shutdown: &CancellationToken) {
        while let Some(registered) = shutdown.run_until_cancelled(self.register()).await {
            self.executor.begin_session(registered.instance);
            if shutdown.run_until_cancelled(self.stay(registered)).await.is_none() {
                self.leave(registered).await;
                return;
            }
            tracing::warn!(instance = %registered.instance, "the JobManager does not know this TaskManager any more: cancelling all tasks");
            if shutdown.run_until_cancelled(self.executor.end_session()).await.is_none() {
                return;
            }
        }
    }

    /// Tries for ever.
    async fn register(&self) -> Registered {
        let request = v1::RegisterRequest {
            address: Some(self.address.clone()),
            incarnation: InstanceId::random().to_string(),
            slots: self.slots,
            hardware: Some(self.hardware),
        };
        loop {
            let refusal = match self.jobmanager.register(request.clone()).await {
                Ok(answer) => match answer.instance_id.parse() {
                    Ok(instance) => {
                        tracing::info!(%instance, id = self.address.id, "registered at the JobManager");
                        let heartbeat_interval =
                            Duration::from_millis(answer.heartbeat_interval_ms).max(HEARTBEAT_INTERVAL_MIN);
                        return Registered { instance, heartbeat_interval };
                    }
                    Err(error) => error.to_string(),
                },
                Err(status) => status.message().to_owned(),
            };
            tracing::warn!(error = refusal, "cannot register at the JobManager yet; trying on");
            sleep(PAUSE).await;
        }
    }

    /// Sends heartbeats until the JobManager does not know us. One that does not answer is waited for, but not by the
    /// tasks.
    async fn stay(&self, registered: Registered) {
        let (heard, contact) = watch::channel(());
        let limit = silence_limit(self.heartbeat_timeout, registered.heartbeat_interval);
        if limit > self.heartbeat_timeout {
            tracing::warn!(
                "heartbeat.timeout is {} s here, but the JobManager wants a heartbeat only every {} s: taking {} s",
                self.heartbeat_timeout.as_secs_f64(),
                registered.heartbeat_interval.as_secs_f64(),
                limit.as_secs_f64()
            );
        }
        tokio::select! {
            () = self.beat(registered, &heard) => {}
            () = self.mind_silence(contact, limit) => {}
        }
    }

    /// Fails the tasks whenever the JobManager has been silent for `limit`.
    async fn mind_silence(&self, mut contact: watch::Receiver<()>, limit: Duration) {
        loop {
            silence(&mut contact, limit).await;
            let cause = format!("no contact with the JobManager for {} s", limit.as_secs_f64());
            self.executor.give_up(&cause);
        }
    }

    async fn beat(&self, registered: Registered, heard: &watch::Sender<()>) {
        let mut beats = interval(registered.heartbeat_interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let answer = self.jobmanager.heartbeat(self.heartbeat(registered.instance)).await;
            if answer.is_ok() {
                heard.send_replace(());
            }
            match answer {
                Ok(answer) if !answer.known => return,
                Ok(answer) => answer.cancel_attempt_ids.iter().for_each(|attempt| self.cancel(attempt)),
                Err(status) => tracing::warn!(error = status.message(), "the JobManager does not answer; trying on"),
            }
        }
    }

    fn heartbeat(&self, instance: InstanceId) -> v1::HeartbeatRequest {
        let endpoints: Vec<_> = self.endpoints.iter().map(Endpoint::status).collect();
        let (free_slots, tasks) = self.executor.report();
        v1::HeartbeatRequest {
            task_manager_id: self.address.id.clone(),
            instance_id: instance.to_string(),
            free_slots,
            tasks,
            endpoints_json: json(&endpoints),
            shuffle_json: json(&self.shuffle.stats()),
            usage: Some(usage::own()),
        }
    }

    fn cancel(&self, attempt: &str) {
        match attempt.parse::<AttemptId>() {
            Ok(attempt) => {
                tracing::info!(%attempt, "the JobManager does not want this task any more");
                self.executor.cancel(attempt);
            }
            Err(error) => tracing::warn!(%error, "heartbeat answer"),
        }
    }

    /// The JobManager is told first, so that nobody deploys here or waits for what ends now.
    async fn leave(&self, registered: Registered) {
        let request = v1::UnregisterRequest {
            task_manager_id: self.address.id.clone(),
            instance_id: registered.instance.to_string(),
            reason: "it was shut down".to_owned(),
        };
        match timeout(LEAVE_PATIENCE, self.jobmanager.unregister(request)).await {
            Ok(Ok(_)) => tracing::info!("left the cluster"),
            Ok(Err(status)) => tracing::warn!(error = status.message(), "could not tell the JobManager of leaving"),
            Err(_) => tracing::warn!("could not tell the JobManager of leaving: it does not answer"),
        }
        if timeout(LEAVE_PATIENCE, self.executor.end_session()).await.is_err() {
            tracing::warn!("tasks did not end within {} s", LEAVE_PATIENCE.as_secs());
        }
    }
}

/// How long the JobManager may be silent, if it wants a heartbeat every `interval`.
fn silence_limit(timeout: Duration, interval: Duration) -> Duration {
    timeout.max(interval.saturating_mul(BEATS_MISSED_MIN))
}

/// Resolves when nothing has been heard for `limit`.
///
/// Ticks are counted rather than time: while this process is stopped no tick comes, and nobody is silent.
async fn silence(contact: &mut watch::Receiver<()>, limit: Duration) {
    let mut silent = Duration::ZERO;
    while silent < limit {
        tokio::select! {
            biased;
            heard = contact.changed() => match heard {
                Ok(()) => silent = Duration::ZERO,
                // Whoever listens is gone, and so are we.
                Err(_) => pending().await,
            },
            () = sleep(SILENCE_TICK) => silent += SILENCE_TICK,
        }
    }
}

/// Numbers, text and maps with text keys: nothing that JSON does not have.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "status as JSON");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{Instant, advance};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_limit_that_the_jobmanagers_interval_would_always_break_is_raised() {
        let seconds = Duration::from_secs;
        assert_eq!(silence_limit(seconds(50), seconds(10)), seconds(50));
        assert_eq!(silence_limit(seconds(5), seconds(10)), seconds(20));
        assert_eq!(silence_limit(seconds(5), Duration::MAX), Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_what_was_heard_last() {
        let (heard, mut contact) = watch::channel(());
        let start = Instant::now();
        let speak = async {
            sleep(Duration::from_secs(7)).await;
            heard.send_replace(());
            pending::<()>().await;
        };
        tokio::select! {
            () = silence(&mut contact, LIMIT) => {}
            () = speak => {}
        }
        assert_eq!(start.elapsed(), Duration::from_secs(17));
    }

    #[tokio::test(start_paused = true)]
    async fn while_this_process_is_stopped_nobody_is_silent() {
        let (_heard, mut contact) = watch::channel(());
        let mut silent = pin!(silence(&mut contact, LIMIT));
        assert!(timeout(Duration::from_secs(5), &mut silent).await.is_err());
        advance(Duration::from_secs(3_600)).await;
        let start = Instant::now();
        silent.await;
        assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    }
}
