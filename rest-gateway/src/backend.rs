//! What the routes need from the rest of the cluster, as a trait so that they can be tested without one, and its real
//! implementation over the JobManager's Dispatcher service and the blob server.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use blob_server::{BlobClient, BlobError};
use bytes::Bytes;
use proto::{
    MAX_MESSAGE_BYTES,
    ids::JobId,
    v1::{
        CancelJobRequest, DescribeJobRequest, DescribeJobResponse, JobSummary, ListJobsRequest,
        ListTaskManagersRequest, OverviewRequest, OverviewResponse, SubmitJobRequest, TaskManagerDetails,
        TlsStatusRequest, dispatcher_client::DispatcherClient,
    },
};
use tls_common::{Endpoint, grpc, grpc::RotatingChannel};
use tokio::time::timeout;
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    blob_status::BlobStatus,
    dto::{ProcessTls, SubmitSql},
    problem::Problem,
};

/// How long the JobManager may think about one call. Planning a script is the longest.
pub const RPC_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a status page waits for a process that cannot be reached. It is shown as such then.
pub const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// The cluster behind the REST API.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn overview(&self) -> Result<OverviewResponse, Problem>;
    /// Newest first.
    async fn jobs(&self) -> Result<Vec<JobSummary>, Problem>;
    async fn job(&self, id: JobId) -> Result<DescribeJobResponse, Problem>;
    async fn task_managers(&self) -> Result<Vec<TaskManagerDetails>, Problem>;
    async fn submit(&self, job: SubmitSql) -> Result<JobId, Problem>;
    async fn cancel(&self, id: JobId) -> Result<(), Problem>;
    /// Every process; one that cannot be reached is in the list with its error.
    async fn tls(&self) -> Vec<ProcessTls>;
}

/// The real one. Calls that may be lost on the way are repeated: each carries an id chosen here.
#[derive(Debug)]
pub struct Cluster {
    jobmanager: RotatingChannel,
    /// `host:port`, for messages.
    jobmanager_address: String,
    blobs: BlobClient,
    blob_status: BlobStatus,
    /// `host:port`, for messages.
    blob_address: String,
    /// `host:port` of the REST endpoint.
    own_address: String,
    own_endpoints: Vec<Endpoint>,
    patience: Duration,
}

impl Cluster {
    /// `rpc` makes connections to the JobManager at `jobmanager`, `blob` to the blob server at `blobs`; `rest` is the
    /// endpoint this gateway serves at `own_address`. Who cannot be reached is tried again for `patience`. Nothing is
    /// connected before the first call.
    pub fn new(
        rpc: &Endpoint,
        (jobmanager_host, jobmanager_port): (String, u16),
        blob: &Endpoint,
        (blob_host, blob_port): (String, u16),
        rest: &Endpoint,
        own_address: String,
        patience: Duration,
    ) -> Self {
        let jobmanager_address = format!("{jobmanager_host}:{jobmanager_port}");
        let blob_address = format!("{blob_host}:{blob_port}");
        let blobs = BlobClient::new(blob.connector(&[proto::blob::ALPN]), blob_host, blob_port);
        Self {
            jobmanager: RotatingChannel::new(rpc.connector(&["h2"]), jobmanager_host, jobmanager_port),
            jobmanager_address,
            blob_status: BlobStatus::new(blobs.clone(), STATUS_PATIENCE),
            blobs: blobs.with_patience(patience),
            blob_address,
            own_address,
            own_endpoints: vec![rest.clone(), rpc.clone(), blob.clone()],
            patience,
        }
    }

    /// Calls the JobManager until it answers or `patience` is over.
    async fn call<T, F>(
        &self,
        patience: Duration,
        attempt: impl Fn(DispatcherClient<Channel>) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        grpc::retry(patience, || {
            let client = DispatcherClient::new(self.jobmanager.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let answer = attempt(client);
            async {
                let late = || Status::deadline_exceeded(format!("no answer within {} s", RPC_TIMEOUT.as_secs()));
                timeout(RPC_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
            }
        })
        .await
        .map_err(|status| self.jobmanager_problem(&status))
    }

    fn jobmanager_problem(&self, status: &Status) -> Problem {
        let said = status.message().to_owned();
        match status.code() {
            Code::NotFound => Problem::NotFound(said),
            Code::InvalidArgument => Problem::BadRequest(said),
            Code::AlreadyExists | Code::FailedPrecondition => Problem::Conflict(said),
            Code::ResourceExhausted => Problem::Unavailable(said),
            // A service's own status has no source: it has answered, and says what it waits for itself.
            Code::Unavailable if status.source().is_none() => Problem::Unavailable(said),
            Code::Unavailable | Code::DeadlineExceeded => self.unreachable(status),
            _ if status.source().is_some() => self.unreachable(status),
            _ => Problem::Internal(format!("the JobManager failed: {said}")),
        }
    }

    fn unreachable(&self, status: &Status) -> Problem {
        Problem::Unavailable(format!(
            "The JobManager at {} does not answer ({}): check that it runs, that jobmanager.rpc.address and \
             jobmanager.rpc.port are right here, and that both sides trust each other's internal certificate",
            self.jobmanager_address,
            innermost(status),
        ))
    }

    fn blob_problem(&self, error: &BlobError) -> Problem {
        let advice = "check that it runs, that blob.server.address and blob.server.port are right here, and that \
                      both sides trust each other's internal certificate";
        match error {
            BlobError::Connect(_) | BlobError::Lost(_) | BlobError::Protocol(_) => Problem::Unavailable(format!(
                "The blob server at {} does not answer ({error}): {advice}",
                self.blob_address
            )),
            _ => Problem::Internal(format!("the script could not be stored: {error}")),
        }
    }
}

#[async_trait]
impl Backend for Cluster {
    async fn overview(&self) -> Result<OverviewResponse, Problem> {
        self.call(self.patience, |mut client| async move { client.overview(OverviewRequest {}).await }).await
    }

    async fn jobs(&self) -> Result<Vec<JobSummary>, Problem> {
        let call = |mut client: DispatcherClient<_>| async move { client.list_jobs(ListJobsRequest {}).await };
        Ok(self.call(self.patience, call).await?.jobs)
    }

    async fn job(&self, id: JobId) -> Result<DescribeJobResponse, Problem> {
        self.call(self.patience, |mut client| async move {
            client.describe_job(DescribeJobRequest { job_id: id.to_string() }).await
        })
        .await
    }

    async fn task_managers(&self) -> Result<Vec<TaskManagerDetails>, Problem> {
        let call = |mut client: DispatcherClient<_>| async move {
            client.list_task_managers(ListTaskManagersRequest {}).await
        };
        Ok(self.call(self.patience, call).await?.task_managers)
    }

    async fn submit(&self, job: SubmitSql) -> Result<JobId, Problem> {
        let sql = Bytes::from(job.sql);
        let store = || async { self.blobs.put(sql.clone()).await.map_err(|error| self.blob_problem(&error)) };
        let script = store().await?;
        let id = JobId::random();
        let request = SubmitJobRequest {
            job_id: id.to_string(),
            name: job.name.unwrap_or_default(),
            sql_sha256: script.to_string(),
            parallelism: job.parallelism,
        };
        let call = |mut client: DispatcherClient<_>| {
            let request = request.clone();
            async move { client.submit_job(request).await }
        };
        let mut answer = self.call(self.patience, call).await;
        if let Err(Problem::NotFound(_)) = answer {
            // An ended job had the same script, and the JobManager has just deleted it along with that job.
            store().await?;
            answer = self.call(self.patience, call).await;
        }
        match answer {
            Ok(_) => Ok(id),
            // The script is where this gateway has put it.
            Err(Problem::NotFound(said)) => Err(Problem::Internal(format!(
                "the JobManager does not find the script ({said}): \
                 give it and this gateway the same blob.server.address"
            ))),
            Err(problem) => Err(problem),
        }
    }

    async fn cancel(&self, id: JobId) -> Result<(), Problem> {
        self.call(self.patience, |mut client| async move {
            client.cancel_job(CancelJobRequest { job_id: id.to_string() }).await
        })
        .await
        .map(drop)
    }

    async fn tls(&self) -> Vec<ProcessTls> {
        let call = |mut client: DispatcherClient<_>| async move { client.tls_status(TlsStatusRequest {}).await };
        let late = || format!("no answer within {} s", STATUS_PATIENCE.as_secs());
        // Patience bounds when the last attempt begins, not how long it takes. A call that is given up leaves its channel,
        // and whatever that does to get a connection, alone.
        let cluster = async {
            let answer = timeout(STATUS_PATIENCE, self.call(STATUS_PATIENCE, call)).await;
            answer.unwrap_or_else(|_| Err(self.unreachable(&Status::deadline_exceeded(late()))))
        };
        let (cluster, blobs) = tokio::join!(cluster, self.blob_status.ask());
        let own = self.own_endpoints.iter().map(Endpoint::status).collect();
        let mut processes = vec![process("rest-gateway", &self.own_address, Ok::<_, Problem>(own))];
        match cluster {
            Ok(cluster) => processes.extend(cluster.processes.into_iter().map(reported)),
            Err(problem) => processes.push(process("jobmanager", &self.jobmanager_address, Err(problem))),
        }
        let blobs = blobs.map_err(|error| self.blob_problem(&error));
        processes.push(process("blob-server", &self.blob_address, blobs));
        processes
    }
}

fn process(process: &str, id: &str, endpoints: Result<Vec<tls_common::EndpointStatus>, impl ToString>) -> ProcessTls {
    let (endpoints, error) = match endpoints {
        Ok(endpoints) => (endpoints, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    ProcessTls { process: process.to_owned(), id: id.to_owned(), endpoints, error }
}

/// What a process has told the JobManager about itself.
fn reported(report: proto::v1::ProcessTls) -> ProcessTls {
    let endpoints = if report.error.is_empty() {
        serde_json::from_str(&report.endpoints_json)
            .map_err(|error| format!("its report cannot be read ({error}): does it run another release?"))
    } else {
        Err(report.error)
    };
    process(&report.process, &report.id, endpoints)
}

/// The system's or TLS's own words, which tonic wraps several times.
fn innermost(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        words = error.to_string();
        source = error.source();
    }
    words
}
