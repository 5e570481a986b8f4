//! A whole TaskManager and a JobManager of a few lines that falls silent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::Configuration;
use proto::ids::{AttemptId, InstanceId, JobId};
use proto::v1;
use proto::v1::TaskState;
use proto::v1::job_master_server::{JobMaster, JobMasterServer};
use proto::v1::resource_manager_server::{ResourceManager, ResourceManagerServer};
use proto::v1::task_executor_client::TaskExecutorClient;
use tls_common::grpc::RotatingChannel;
use tls_common::{ConnectionPolicy, Endpoint, HandshakeLimits, Listener, http, serve};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Ends a test that would hang.
const GIVE_UP: Duration = Duration::from_secs(60);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[derive(Debug, Clone)]
struct JobManager {
    instance: InstanceId,
    registered: mpsc::Sender<v1::TaskManagerAddress>,
    reports: mpsc::Sender<v1::UpdateTaskStateRequest>,
    silent: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl ResourceManager for JobManager {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        self.registered.send(request.into_inner().address.unwrap()).await.unwrap();
        let instance_id = self.instance.to_string();
        Ok(Response::new(v1::RegisterResponse { instance_id, heartbeat_interval_ms: 50 }))
    }

    async fn heartbeat(&self, _: Request<v1::HeartbeatRequest>) -> Result<Response<v1::HeartbeatResponse>, Status> {
        if *self.silent.borrow() {
            pending::<()>().await;
        }
        Ok(Response::new(v1::HeartbeatResponse { known: true, cancel_attempt_ids: Vec::new() }))
    }

    async fn unregister(&self, _: Request<v1::UnregisterRequest>) -> Result<Response<v1::UnregisterResponse>, Status> {
        Ok(Response::new(v1::UnregisterResponse {}))
    }
}

#[tonic::async_trait]
impl JobMaster for JobManager {
    async fn update_task_state(
        &self,
        request: Request<v1::UpdateTaskStateRequest>,
    ) -> Result<Response<v1::UpdateTaskStateResponse>, Status> {
        self.reports.send(request.into_inner()).await.unwrap();
        Ok(Response::new(v1::UpdateTaskStateResponse { known: true }))
    }
}

fn plain() -> Endpoint {
    Endpoint::new("rpc", None, ConnectionPolicy::default(), HandshakeLimits::default())
}

async fn next<T>(what: &str, messages: &mut mpsc::Receiver<T>) -> T {
    timeout(GIVE_UP, messages.recv()).await.unwrap_or_else(|_| panic!("never came: {what}")).unwrap()
}

#[tokio::test]
async fn tasks_fail_with_a_cause_when_the_job_manager_falls_silent() {
    let (registered, mut registrations) = mpsc::channel(16);
    let (reported, mut reports) = mpsc::channel(16);
    let (fall_silent, silent) = watch::channel(false);
    let instance = InstanceId::random();
    let jobmanager = JobManager { instance, registered, reports: reported, silent };
    let listener = Listener::bind(LOOPBACK).await.unwrap();
    let port = listener.local_addr().port().to_string();
    let routes = Routes::new(ResourceManagerServer::new(jobmanager.clone()));
    let routes = routes.add_service(JobMasterServer::new(jobmanager)).prepare();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, plain().acceptor(&["h2"]), shutdown.clone(), move |connection| {
        http::serve_connection(connection, routes.clone())
    }));

    let config = [
        ("jobmanager.rpc.port", port.as_str()),
        ("taskmanager.resource-id", "tm"),
        ("heartbeat.interval", "100 ms"),
        ("heartbeat.timeout", "1 s"),
    ];
    let stop = CancellationToken::new();
    let taskmanager = tokio::spawn(taskmanager::run(Configuration::from_pairs(config).unwrap(), stop.clone()));
    let address = next("the registration", &mut registrations).await;

    // A task that waits for its script, because this blob server accepts and never answers.
    let blobs = TcpListener::bind(LOOPBACK).await.unwrap();
    let attempt = AttemptId::random();
    let task = v1::TaskDeployment {
        job_id: JobId::random().to_string(),
        attempt_id: attempt.to_string(),
        sql_sha256: "0".repeat(64),
        parallelism: 1,
        blob_host: "127.0.0.1".to_owned(),
        blob_port: blobs.local_addr().unwrap().port().into(),
        ..v1::TaskDeployment::default()
    };
    let executor =
        RotatingChannel::new(plain().connector(&["h2"]), "127.0.0.1", u16::try_from(address.rpc_port).unwrap());
    let request = v1::SubmitTaskRequest { instance_id: instance.to_string(), task: Some(task) };
    // The answer to the registration may be on its way yet.
    let submitted = tls_common::grpc::retry(GIVE_UP, || {
        let (mut client, request) = (TaskExecutorClient::new(executor.channel()), request.clone());
        async move { client.submit_task(request).await }
    });
    submitted.await.unwrap();
    assert_eq!(next("the task is there", &mut reports).await.state(), TaskState::Initializing);

    fall_silent.send_replace(true);
    let failed = next("the task has failed", &mut reports).await;
    assert_eq!(failed.attempt_id, attempt.to_string());
    assert_eq!((failed.state(), failed.symptom), (TaskState::Failed, false));
    assert_eq!(failed.cause, "no contact with the JobManager for 1 s");

    stop.cancel();
    timeout(GIVE_UP, taskmanager).await.expect("the TaskManager stops").unwrap().unwrap();
    shutdown.cancel();
}
