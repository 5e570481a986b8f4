//! Calls to the JobManager.

use std::time::Duration;

use proto::MAX_MESSAGE_BYTES;
use proto::v1;
use proto::v1::job_master_client::JobMasterClient;
use proto::v1::resource_manager_client::ResourceManagerClient;
use tls_common::grpc::{RotatingChannel, retry};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// One attempt at a call takes at most this long; then another is made.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The JobManager as callee. Clones are the same.
#[derive(Debug, Clone)]
pub struct JobManager {
    channel: RotatingChannel,
    patience: Duration,
}

impl JobManager {
    /// A call is repeated for `patience` before it has failed. The channel must offer ALPN `h2`.
    pub fn new(channel: RotatingChannel, patience: Duration) -> Self {
        Self { channel, patience }
    }

    pub async fn register(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse, Status> {
        self.call(|| {
            let (mut client, request) = (self.resource_manager(), request.clone());
            async move { client.register(request).await }
        })
        .await
    }

    pub async fn heartbeat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse, Status> {
        self.call(|| {
            let (mut client, request) = (self.resource_manager(), request.clone());
            async move { client.heartbeat(request).await }
        })
        .await
    }

    pub async fn unregister(&self, request: v1::UnregisterRequest) -> Result<v1::UnregisterResponse, Status> {
        self.call(|| {
            let (mut client, request) = (self.resource_manager(), request.clone());
            async move { client.unregister(request).await }
        })
        .await
    }

    pub async fn update_task_state(
        &self,
        request: v1::UpdateTaskStateRequest,
    ) -> Result<v1::UpdateTaskStateResponse, Status> {
        self.call(|| {
            let (mut client, request) = (self.job_master(), request.clone());
            async move { client.update_task_state(request).await }
        })
        .await
    }

    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        retry(self.patience, || {
            let answer = timeout(ATTEMPT_TIMEOUT, call());
            async {
                match answer.await {
                    Ok(answer) => answer.map(Response::into_inner),
                    Err(_) => Err(Status::unavailable(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()))),
                }
            }
        })
        .await
    }

    fn resource_manager(&self) -> ResourceManagerClient<Channel> {
        ResourceManagerClient::new(self.channel.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn job_master(&self) -> JobMasterClient<Channel> {
        JobMasterClient::new(self.channel.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}
