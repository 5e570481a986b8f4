//! The real backend against a JobManager of a few lines and a real blob server, over plain TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use blob_server::{
    server::SilenceLimits,
    store::{Store, digest},
};
use proto::{
    ids::JobId,
    v1::{
        CancelJobRequest, CancelJobResponse, DescribeJobRequest, DescribeJobResponse, JobSummary, ListJobsRequest,
        ListJobsResponse, ListTaskManagersRequest, ListTaskManagersResponse, OverviewRequest, OverviewResponse,
        ProcessTls, SubmitJobRequest, SubmitJobResponse, TlsStatusRequest, TlsStatusResponse,
        dispatcher_server::{Dispatcher, DispatcherServer},
    },
};
use rest_gateway::{
    backend::{Backend, Cluster},
    dto::SubmitSql,
    problem::Problem,
};
use tempfile::TempDir;
use tls_common::{ConnectionPolicy, Endpoint, HandshakeLimits, Listener};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Accepts every job but those named after a status, and fails its first answers.
#[derive(Debug, Default)]
struct JobManager {
    submitted: Mutex<Vec<SubmitJobRequest>>,
    stumbles: Mutex<usize>,
    /// How often a script will not be found.
    deleted: Mutex<usize>,
}

#[tonic::async_trait]
impl Dispatcher for JobManager {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        let request = request.into_inner();
        match request.name.as_str() {
            "bad" => return Err(Status::invalid_argument("line 1: expected SELECT")),
            "lost" => return Err(Status::not_found("no blob")),
            "deleted" if std::mem::take(&mut *self.deleted.lock().unwrap()) > 0 => {
                return Err(Status::not_found("no blob"));
            }
            "busy" => return Err(Status::resource_exhausted("64 jobs are active")),
            "bug" => return Err(Status::internal("lock poisoned")),
            _ => self.submitted.lock().unwrap().push(request),
        }
        let mut stumbles = self.stumbles.lock().unwrap();
        if *stumbles > 0 {
            *stumbles -= 1;
            return Err(Status::unavailable("the answer got lost"));
        }
        Ok(Response::new(SubmitJobResponse {}))
    }

    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        Err(Status::failed_precondition("the job has already reached another terminal state (FINISHED)"))
    }

    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        Ok(Response::new(ListJobsResponse { jobs: vec![JobSummary::default(); 3] }))
    }

    async fn describe_job(
        &self,
        request: Request<DescribeJobRequest>,
    ) -> Result<Response<DescribeJobResponse>, Status> {
        Err(Status::not_found(format!("Job {} not found", request.into_inner().job_id)))
    }

    async fn overview(&self, _: Request<OverviewRequest>) -> Result<Response<OverviewResponse>, Status> {
        Ok(Response::new(OverviewResponse { slots_total: 4, ..OverviewResponse::default() }))
    }

    async fn list_task_managers(
        &self,
        _: Request<ListTaskManagersRequest>,
    ) -> Result<Response<ListTaskManagersResponse>, Status> {
        Ok(Response::new(ListTaskManagersResponse::default()))
    }

    async fn tls_status(&self, _: Request<TlsStatusRequest>) -> Result<Response<TlsStatusResponse>, Status> {
        let own = serde_json::to_string(&[plain("rpc").status()]).unwrap();
        let process = |process: &str, endpoints_json: &str, error: &str| ProcessTls {
            process: process.to_owned(),
            id: "x".to_owned(),
            endpoints_json: endpoints_json.to_owned(),
            error: error.to_owned(),
        };
        let processes = vec![
            process("jobmanager", &own, ""),
            process("taskmanager", "", "no heartbeat yet"),
            process("taskmanager", r#"[{"endpoint": 1}]"#, ""),
        ];
        Ok(Response::new(TlsStatusResponse { processes }))
    }
}

fn plain(name: &str) -> Endpoint {
    Endpoint::new(name, None, ConnectionPolicy::default(), HandshakeLimits::default())
}

async fn serve_jobmanager(jobmanager: Arc<JobManager>, shutdown: CancellationToken) -> SocketAddr {
    let listener = Listener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr();
    let service = DispatcherServer::from_arc(jobmanager);
    tokio::spawn(tls_common::serve(listener, plain("rpc").acceptor(&["h2"]), shutdown, move |connection| {
        tls_common::http::serve_connection(connection, service.clone())
    }));
    address
}

async fn serve_blobs(shutdown: CancellationToken) -> (SocketAddr, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let listener = Listener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr();
    tokio::spawn(blob_server::server::serve(listener, plain("blob"), store, SilenceLimits::default(), shutdown));
    (address, directory)
}

/// An address where nobody listens, and nobody can come to listen.
fn nobody() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK).unwrap();
    (socket.local_addr().unwrap(), socket)
}

fn backend(jobmanager: SocketAddr, blobs: SocketAddr, patience: Duration) -> Cluster {
    let target = |address: SocketAddr| (address.ip().to_string(), address.port());
    let (rpc, blob, rest) = (plain("rpc"), plain("blob"), plain("rest"));
    Cluster::new(&rpc, target(jobmanager), &blob, target(blobs), &rest, "localhost:8081".to_owned(), patience)
}

struct Running {
    backend: Cluster,
    jobmanager: Arc<JobManager>,
    blobs: TempDir,
    _stop: DropGuard,
}

async fn running() -> Running {
    let shutdown = CancellationToken::new();
    let jobmanager = Arc::new(JobManager::default());
    let address = serve_jobmanager(Arc::clone(&jobmanager), shutdown.clone()).await;
    let (blob_address, blobs) = serve_blobs(shutdown.clone()).await;
    let backend = backend(address, blob_address, Duration::from_secs(30));
    Running { backend, jobmanager, blobs, _stop: shutdown.drop_guard() }
}

fn job(sql: &str, name: &str) -> SubmitSql {
    SubmitSql { sql: sql.to_owned(), name: Some(name.to_owned()), parallelism: Some(2) }
}

#[tokio::test]
async fn a_script_is_stored_before_the_jobmanager_hears_of_it() {
    let cluster = running().await;
    *cluster.jobmanager.stumbles.lock().unwrap() = 2;
    let id = cluster.backend.submit(job("SELECT 1", "one")).await.unwrap();

    let submitted = cluster.jobmanager.submitted.lock().unwrap();
    assert_eq!(submitted.len(), 3, "repeated until it was answered");
    for request in submitted.iter() {
        assert_eq!(request.job_id, id.to_string(), "each time under the same id");
        assert_eq!(request.sql_sha256, digest(b"SELECT 1").to_string());
        assert_eq!((request.name.as_str(), request.parallelism), ("one", Some(2)));
    }
    let file = cluster.blobs.path().join(digest(b"SELECT 1").to_string());
    assert_eq!(std::fs::read(file).unwrap(), b"SELECT 1");
}

#[tokio::test]
async fn a_script_deleted_between_storing_and_submitting_is_stored_again() {
    let cluster = running().await;
    *cluster.jobmanager.deleted.lock().unwrap() = 1;
    let id = cluster.backend.submit(job("SELECT 1", "deleted")).await.unwrap();
    let submitted = cluster.jobmanager.submitted.lock().unwrap();
    let ids: Vec<_> = submitted.iter().map(|request| request.job_id.clone()).collect();
    assert_eq!(ids, [id.to_string()]);
}

#[tokio::test]
async fn what_the_jobmanager_says_becomes_the_right_problem() {
    let cluster = running().await;
    let submit = async |name: &str| cluster.backend.submit(job("SELECT 1", name)).await.unwrap_err();
    let bad = submit("bad").await;
    assert!(matches!(&bad, Problem::BadRequest(said) if said == "line 1: expected SELECT"), "{bad}");
    let lost = submit("lost").await;
    assert!(matches!(&lost, Problem::Internal(said) if said.contains("blob.server.address")), "{lost}");
    let busy = submit("busy").await;
    assert!(matches!(&busy, Problem::Unavailable(said) if said == "64 jobs are active"), "{busy}");
    let bug = submit("bug").await;
    assert!(matches!(&bug, Problem::Internal(said) if said == "the JobManager failed: lock poisoned"), "{bug}");

    let id = JobId::random();
    let gone = cluster.backend.job(id).await.unwrap_err();
    assert!(matches!(&gone, Problem::NotFound(said) if *said == format!("Job {id} not found")), "{gone}");
    let late = cluster.backend.cancel(id).await.unwrap_err();
    assert!(matches!(&late, Problem::Conflict(said) if said.contains("FINISHED")), "{late}");
    assert_eq!(cluster.backend.jobs().await.unwrap().len(), 3);
    assert_eq!(cluster.backend.overview().await.unwrap().slots_total, 4);
    assert!(cluster.backend.task_managers().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_the_jobmanager_waits_for_is_told_in_its_own_words() {
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    let jobmanager = Arc::new(JobManager { stumbles: Mutex::new(1), ..JobManager::default() });
    let address = serve_jobmanager(jobmanager, shutdown.clone()).await;
    let (blobs, _directory) = serve_blobs(shutdown).await;
    let problem = backend(address, blobs, Duration::ZERO).submit(job("SELECT 1", "x")).await.unwrap_err();
    assert!(matches!(&problem, Problem::Unavailable(said) if said == "the answer got lost"), "{problem}");
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_with_what_to_check() {
    let ((here, _jobmanager), (there, _blobs)) = (nobody(), nobody());
    let backend = backend(here, there, Duration::from_millis(100));
    let problem = backend.overview().await.unwrap_err();
    let Problem::Unavailable(said) = &problem else { panic!("{problem}") };
    assert!(said.starts_with(&format!("The JobManager at {here} does not answer (")), "{said}");
    assert!(said.contains("onnection refused") && said.contains("jobmanager.rpc.address"), "{said}");
    let problem = backend.submit(job("SELECT 1", "x")).await.unwrap_err();
    let Problem::Unavailable(said) = &problem else { panic!("{problem}") };
    assert!(said.starts_with(&format!("The blob server at {there} does not answer (")), "{said}");
    assert!(said.contains("onnection refused") && said.contains("blob.server.address"), "{said}");
}

#[tokio::test]
async fn the_tls_report_has_every_process_and_says_who_is_missing() {
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    let jobmanager = serve_jobmanager(Arc::default(), shutdown).await;
    let (blobs, _blobs) = nobody();
    let report = backend(jobmanager, blobs, Duration::from_secs(30)).tls().await;

    let names: Vec<_> = report.iter().map(|process| process.process.as_str()).collect();
    assert_eq!(names, ["rest-gateway", "jobmanager", "taskmanager", "taskmanager", "blob-server"]);
    let endpoints = |index: usize| -> Vec<_> { report[index].endpoints.iter().map(|e| e.endpoint.as_str()).collect() };
    assert_eq!(endpoints(0), ["rest", "rpc", "blob"]);
    assert_eq!(endpoints(1), ["rpc"]);
    assert_eq!((report[0].error.as_ref(), report[1].error.as_ref()), (None, None));
    assert_eq!(report[2].error.as_deref(), Some("no heartbeat yet"));
    assert!(report[3].error.as_ref().unwrap().contains("another release"), "{report:?}");
    assert!(report[4].error.as_ref().unwrap().contains("does not answer"), "{report:?}");
    assert_eq!(report[4].id, blobs.to_string());
}

// Time jumps to whichever limit comes first.
#[tokio::test(start_paused = true)]
async fn the_tls_report_does_not_wait_for_processes_that_accept_and_never_answer() {
    let (jobmanager, blobs) = (TcpListener::bind(LOOPBACK).await.unwrap(), TcpListener::bind(LOOPBACK).await.unwrap());
    let (here, there) = (jobmanager.local_addr().unwrap(), blobs.local_addr().unwrap());
    let report = backend(here, there, Duration::from_secs(30)).tls().await;
    let errors: Vec<_> = report.iter().filter_map(|process| process.error.as_deref()).collect();
    assert_eq!(errors.len(), 2, "{report:?}");
    for (error, address) in errors.iter().zip([here, there]) {
        assert!(error.contains(&address.to_string()) && error.contains("no answer within 2 s"), "{error}");
    }
}
