//! Starts, stops and asks the services. Ports are the system's choice; addresses come from ready files.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_server::{BlobClient, BlobError};
use config::{Configuration, tls};
use proto::blob::Digest;
use proto::ids::JobId;
use proto::v1;
use proto::v1::dispatcher_client::DispatcherClient;
use proto::v1::{JobState, TaskState};
use tls_common::Endpoint;
use tls_common::grpc::RotatingChannel;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

/// Ends a test that has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that is on its way.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Options {
    pub(crate) heartbeat_timeout: &'static str,
    pub(crate) slot_request_timeout: &'static str,
    pub(crate) jobstore_max_capacity: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { heartbeat_timeout: "30 s", slot_request_timeout: "30 s", jobstore_max_capacity: "1000" }
    }
}

/// A service that runs until it is told to stop.
struct Service {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), String>>,
}

/// One JobManager, TaskManagers `tm0` and `tm1` with two slots each, one blob server.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    options: Options,
    blob_server: Service,
    blob: BlobClient,
    blob_port: u16,
    jobmanager: Service,
    jobmanager_port: u16,
    /// Keeps the port for a restart: bound but not listening, so that nobody else is given it.
    _reserved: TcpSocket,
    channel: RotatingChannel,
    task_managers: BTreeMap<String, Service>,
}

impl Cluster {
    pub(crate) async fn start(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = dir.path().join("blobs").display().to_string();
        let ready = dir.path().join("blob.json");
        let config = configuration(&ready, &[("blob.server.port", "0"), ("blob.storage.directory", &storage)]);
        let blob_server =
            Service::start(config, |config, shutdown| async { text(blob_server::run(config, shutdown).await) });
        let blob_port = port(&ready, "blob").await;
        let plain = Configuration::default();
        let blob = tls::internal_endpoint(&plain, tls::Internal::Blob, None).unwrap();
        let blob = BlobClient::new(blob.connector(&[proto::blob::ALPN]), "localhost".to_owned(), blob_port);
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let jobmanager_port = reserved.local_addr().unwrap().port();
        let jobmanager = start_job_manager(dir.path(), &options, blob_port, jobmanager_port).await;
        let rpc: Endpoint = tls::internal_endpoint(&plain, tls::Internal::Rpc, None).unwrap();
        let channel = RotatingChannel::new(rpc.connector(&["h2"]), "localhost", jobmanager_port);
        let task_managers = BTreeMap::new();
        let mut cluster = Self {
            dir,
            options,
            blob_server,
            blob,
            blob_port,
            jobmanager,
            jobmanager_port,
            _reserved: reserved,
            channel,
            task_managers,
        };
        cluster.start_task_manager("tm0").await;
        cluster.start_task_manager("tm1").await;
        cluster.until_task_managers(2).await;
        cluster
    }

    pub(crate) async fn start_task_manager(&mut self, id: &str) {
        let ready = self.dir.path().join(format!("{id}.json"));
        let jobmanager_port = self.jobmanager_port.to_string();
        let config = configuration(
            &ready,
            &[
                ("taskmanager.resource-id", id),
                ("taskmanager.numberOfTaskSlots", "2"),
                ("jobmanager.rpc.port", &jobmanager_port),
            ],
        );
        let service =
            Service::start(config, |config, shutdown| async { text(taskmanager::run(config, shutdown).await) });
        self.task_managers.insert(id.to_owned(), service);
    }

    pub(crate) fn jobmanager_port(&self) -> u16 {
        self.jobmanager_port
    }

    /// In good order.
    pub(crate) async fn stop_task_manager(&mut self, id: &str) {
        self.task_managers.remove(id).unwrap().stop().await;
    }

    /// Not a word more from it.
    pub(crate) async fn kill_task_manager(&mut self, id: &str) {
        let service = self.task_managers.remove(id).unwrap();
        service.running.abort();
        _ = service.running.await;
    }

    pub(crate) async fn restart_job_manager(&mut self) {
        let shutdown = std::mem::replace(&mut self.jobmanager.shutdown, CancellationToken::new());
        shutdown.cancel();
        (&mut self.jobmanager.running).await.unwrap().unwrap();
        self.jobmanager = start_job_manager(self.dir.path(), &self.options, self.blob_port, self.jobmanager_port).await;
    }

    /// Everybody in good order, TaskManagers first.
    pub(crate) async fn stop(self) {
        for service in self.task_managers.into_values() {
            service.stop().await;
        }
        self.jobmanager.stop().await;
        self.blob_server.stop().await;
    }

    pub(crate) async fn store(&self, script: &str) -> String {
        self.blob.put(script.to_owned().into()).await.unwrap().to_string()
    }

    /// Once the blob server does not have it (any more).
    pub(crate) async fn until_deleted(&self, script: &Digest) {
        eventually("deleted script", async || match self.blob.get(script).await {
            Err(BlobError::NotFound(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Whether the blob server has it.
    pub(crate) async fn is_stored(&self, script: &Digest) -> bool {
        match self.blob.get(script).await {
            Ok(_) => true,
            Err(BlobError::NotFound(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn submit(&self, script: &str, parallelism: u32) -> Result<JobId, Status> {
        let (job, digest) = (JobId::random(), self.store(script).await);
        self.submit_digest(job, &digest, parallelism).await?;
        Ok(job)
    }

    pub(crate) async fn submit_digest(&self, job: JobId, digest: &str, parallelism: u32) -> Result<(), Status> {
        let request = v1::SubmitJobRequest {
            job_id: job.to_string(),
            name: String::new(),
            sql_sha256: digest.to_owned(),
            parallelism: Some(parallelism),
        };
        self.dispatcher().submit_job(request).await?;
        Ok(())
    }

    pub(crate) async fn cancel(&self, job: JobId) -> Result<(), Status> {
        self.dispatcher().cancel_job(v1::CancelJobRequest { job_id: job.to_string() }).await?;
        Ok(())
    }

    pub(crate) async fn describe(&self, job: JobId) -> Result<v1::DescribeJobResponse, Status> {
        let request = v1::DescribeJobRequest { job_id: job.to_string() };
        Ok(self.dispatcher().describe_job(request).await?.into_inner())
    }

    pub(crate) async fn overview(&self) -> v1::OverviewResponse {
        self.dispatcher().overview(v1::OverviewRequest {}).await.unwrap().into_inner()
    }

    /// Once every process has something to report.
    pub(crate) async fn tls_status_of_all(&self) -> Vec<v1::ProcessTls> {
        eventually("TLS status of all", async || {
            let answer = self.dispatcher().tls_status(v1::TlsStatusRequest {}).await.unwrap().into_inner();
            let all_there = answer.processes.iter().all(|process| process.error.is_empty());
            if all_there { Ok(answer.processes) } else { Err(format!("{:?}", answer.processes)) }
        })
        .await
    }

    pub(crate) async fn until(&self, job: JobId, state: JobState) -> v1::DescribeJobResponse {
        eventually(state.name(), async || {
            let details = self.describe(job).await.unwrap();
            let reached = details.job.as_ref().unwrap().state() == state;
            if reached { Ok(details) } else { Err(format!("{details:?}")) }
        })
        .await
    }

    pub(crate) async fn until_tasks_are(&self, job: JobId, state: TaskState) {
        eventually(state.name(), async || {
            let details = self.describe(job).await.unwrap();
            let mut tasks = details.vertices.iter().flat_map(|vertex| &vertex.subtasks);
            if tasks.all(|task| task.state() == state) { Ok(()) } else { Err(format!("{details:?}")) }
        })
        .await;
    }

    pub(crate) async fn until_task_managers(&self, count: u32) {
        eventually("registered TaskManagers", async || {
            let overview =
                self.dispatcher().overview(v1::OverviewRequest {}).await.map_err(|status| status.to_string())?;
            let overview = overview.into_inner();
            if overview.task_managers == count { Ok(()) } else { Err(format!("{overview:?}")) }
        })
        .await;
    }

    fn dispatcher(&self) -> DispatcherClient<Channel> {
        DispatcherClient::new(self.channel.channel())
    }
}

impl Service {
    fn start<F>(config: Configuration, run: impl FnOnce(Configuration, CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        Self { running: tokio::spawn(run(config, shutdown.clone())), shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.running).await.expect("stops in time").unwrap().unwrap();
    }
}

async fn start_job_manager(dir: &Path, options: &Options, blob_port: u16, own_port: u16) -> Service {
    let ready = dir.join("jobmanager.json");
    let (blob_port, own_port) = (blob_port.to_string(), own_port.to_string());
    let config = configuration(
        &ready,
        &[
            ("jobmanager.rpc.port", &own_port),
            ("blob.server.port", &blob_port),
            ("heartbeat.interval", "50 ms"),
            ("heartbeat.timeout", options.heartbeat_timeout),
            ("slot.request.timeout", options.slot_request_timeout),
            ("jobstore.max-capacity", options.jobstore_max_capacity),
        ],
    );
    let service = Service::start(config, |config, shutdown| async { text(jobmanager::run(config, shutdown).await) });
    port(&ready, "rpc").await;
    service
}

fn configuration(ready: &Path, pairs: &[(&str, &str)]) -> Configuration {
    _ = std::fs::remove_file(ready);
    let ready = ready.display().to_string();
    Configuration::from_pairs(pairs.iter().copied().chain([("process.ready-file", ready.as_str())])).unwrap()
}

/// The port under `name` in the ready file, once it is there.
async fn port(ready: &Path, name: &str) -> u16 {
    let ready: PathBuf = ready.to_owned();
    eventually(name, async || {
        let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
        let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address: std::net::SocketAddr = ready["addresses"][name].as_str().unwrap().parse().unwrap();
        Ok(address.port())
    })
    .await
}

/// Looks until it is there.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
    let mut last = String::new();
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) => last = seen,
            }
            sleep(LOOK).await;
        }
    };
    let found = timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}; last seen: {last}"))
}

fn text<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}
