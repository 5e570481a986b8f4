//! Calls to TaskManagers: one channel per registered instance, made when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::MAX_MESSAGE_BYTES;
use proto::ids::{AttemptId, InstanceId};
use proto::v1;
use proto::v1::task_executor_client::TaskExecutorClient;
use tls_common::Connector;
use tls_common::grpc::{RotatingChannel, retry};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::resource_manager::registry::Address;

/// One attempt at a call takes at most this long; then another is made.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The TaskManagers as callees. Clones are the same.
#[derive(Debug, Clone)]
pub struct TaskExecutors {
    connector: Connector,
    patience: Duration,
    /// As many as there are registered TaskManagers.
    channels: Arc<Mutex<HashMap<InstanceId, RotatingChannel>>>,
}

impl TaskExecutors {
    /// A call is repeated for `patience` before it has failed. The connector must offer ALPN `h2`.
    pub fn new(connector: Connector, patience: Duration) -> Self {
        Self { connector, patience, channels: Arc::default() }
    }

    /// Hands a task over.
    pub async fn submit_task(
        &self,
        instance: InstanceId,
        to: &Address,
        task: v1::TaskDeployment,
    ) -> Result<(), Status> {
        let request = v1::SubmitTaskRequest { instance_id: instance.to_string(), task: Some(task) };
        let submit = |mut client: TaskExecutorClient<Channel>| {
            let request = request.clone();
            async move { client.submit_task(request).await }
        };
        self.call(instance, to, submit).await?;
        Ok(())
    }

    /// Asks for a task to be stopped; answers whether there is such a task.
    pub async fn cancel_task(&self, instance: InstanceId, to: &Address, attempt: AttemptId) -> Result<bool, Status> {
        let request = v1::CancelTaskRequest { instance_id: instance.to_string(), attempt_id: attempt.to_string() };
        let cancel = |mut client: TaskExecutorClient<Channel>| {
            let request = request.clone();
            async move { client.cancel_task(request).await }
        };
        Ok(self.call(instance, to, cancel).await?.known)
    }

    /// The instance is gone. A call that is made for it later makes a channel again, and is to be followed by this.
    pub fn forget(&self, instance: InstanceId) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
    }

    #[cfg(test)]
    pub(crate) fn channels(&self) -> usize {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn call<T, F>(
        &self,
        instance: InstanceId,
        to: &Address,
        call: impl Fn(TaskExecutorClient<Channel>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.channel(instance, to);
        retry(self.patience, || {
            let client = TaskExecutorClient::new(channel.channel())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            let answer = timeout(ATTEMPT_TIMEOUT, call(client));
            async {
                match answer.await {
                    Ok(answer) => answer.map(Response::into_inner),
                    Err(_) => Err(Status::unavailable(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()))),
                }
            }
        })
        .await
    }

    fn channel(&self, instance: InstanceId, to: &Address) -> RotatingChannel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = || RotatingChannel::new(self.connector.clone(), to.host.clone(), to.rpc_port);
        channels.entry(instance).or_insert_with(connect).clone()
    }
}
