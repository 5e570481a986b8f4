//! A cluster of child processes, and what a user of it does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::Configuration;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rest_gateway::dto::{JobDetails, SubmitSql, TlsReport};
use tempfile::TempDir;
use tidemill::rest::{RestClient, is_final};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Count, Port, Process, Role, eventually, within};

/// Clusters at once, whatever the number of test threads.
const CLUSTERS_MAX: usize = 4;

static CLUSTERS: Semaphore = Semaphore::const_new(CLUSTERS_MAX);

/// Collects what a cluster is to be.
#[derive(Debug)]
pub struct Builder {
    scratch: TempDir,
    settings: BTreeMap<String, String>,
    /// What single processes get beside them, by name.
    overrides: BTreeMap<String, Vec<(String, String)>>,
    task_managers: usize,
}

/// A running cluster. Dropping it kills all of it.
#[derive(Debug)]
pub struct Cluster {
    processes: Vec<Process>,
    rest: RestClient,
    scratch: TempDir,
    _permit: SemaphorePermit<'static>,
}

/// A job that counts what it is given.
#[derive(Debug)]
pub struct Fed {
    /// Its id.
    pub job: String,
    sink: PathBuf,
    pipe: pipe::Sender,
    written: u64,
}

impl Fed {
    /// Gives it so many rows more.
    ///
    /// # Panics
    /// It takes none: it has failed, or stands still.
    pub async fn feed(&mut self, rows: u64) {
        let csv = Count::csv(self.written..self.written + rows);
        within("the job takes its rows", self.pipe.write_all(csv.as_bytes())).await.unwrap();
        self.written += rows;
    }

    /// That was all: waits for the end and checks the result.
    pub async fn ends_exact(self, cluster: &Cluster) {
        drop(self.pipe);
        cluster.ends(&self.job, "FINISHED").await;
        Count { rows: self.written }.assert_exact(&self.sink);
    }
}

impl Builder {
    /// One directory for all files of the test, outside every repository.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// One line of `config.yaml`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// More lines of `config.yaml`.
    #[must_use]
    pub fn set_all(mut self, settings: Vec<(String, String)>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Settings of one process only, by its name: a role's, or `taskmanager-1` and so on.
    #[must_use]
    pub fn set_for(mut self, process: &str, settings: Vec<(String, String)>) -> Self {
        self.overrides.insert(process.to_owned(), settings);
        self
    }

    /// How many; 2 unless told otherwise, with one slot each.
    #[must_use]
    pub fn task_managers(mut self, count: usize) -> Self {
        self.task_managers = count;
        self
    }

    /// Starts the processes and waits until the TaskManagers have registered.
    pub async fn start(self) -> Cluster {
        let permit = CLUSTERS.acquire().await.unwrap();
        let scratch = self.scratch.path();
        fs::create_dir(scratch.join("conf")).unwrap();
        fs::write(scratch.join("conf/config.yaml"), yaml(&self.settings)).unwrap();

        let start = async |role, name: &str, learnt: &[(String, String)]| {
            let own = self.overrides.get(name).into_iter().flatten();
            let overrides: Vec<_> = learnt.iter().chain(own).cloned().collect();
            Process::start(role, name, scratch, &overrides).await
        };
        let blob_server = start(Role::BlobServer, "blob-server", &[]).await;
        let mut learnt = vec![learnt("blob.server.port", &blob_server, Port::Blob)];
        let job_manager = start(Role::JobManager, "jobmanager", &learnt).await;
        learnt.push(self::learnt("jobmanager.rpc.port", &job_manager, Port::Rpc));
        let gateway = start(Role::RestGateway, "rest-gateway", &learnt).await;
        let rest_port = self::learnt("rest.port", &gateway, Port::Rest);
        let mut processes = vec![blob_server, job_manager, gateway];
        for number in 1..=self.task_managers {
            let name = format!("taskmanager-{number}");
            let mut overrides = learnt.clone();
            overrides.push(("taskmanager.resource-id".to_owned(), name.clone()));
            processes.push(start(Role::TaskManager, &name, &overrides).await);
        }

        let client = self.settings.into_iter().chain([rest_port]);
        let client = Configuration::from_pairs(client).unwrap();
        let rest = RestClient::from_config(&client).await.unwrap();
        let cluster = Cluster { processes, rest, scratch: self.scratch, _permit: permit };
        let all = self.task_managers as u64;
        eventually("all TaskManagers have registered", async || {
            let overview: serde_json::Value = cluster.rest.get("/v1/overview").await.unwrap();
            if overview["taskmanagers"] == all { Ok(()) } else { Err(overview.to_string()) }
        })
        .await;
        cluster
    }
}

impl Cluster {
    /// Loopback, any port, quick heartbeats, quick reloads; no TLS.
    pub fn builder() -> Builder {
        let scratch = tempfile::tempdir().unwrap();
        let builder = Builder { settings: BTreeMap::new(), overrides: BTreeMap::new(), task_managers: 2, scratch };
        let blobs = builder.scratch().join("blobs").display().to_string();
        builder
            .set("jobmanager.rpc.port", "0")
            .set("blob.server.port", "0")
            .set("blob.storage.directory", &blobs)
            .set("rest.port", "0")
            .set("parallelism.default", "2")
            // The TLS report is as fresh as the TaskManagers' last heartbeats.
            .set("heartbeat.interval", "100 ms")
            .set("security.ssl.reload.quiet-period", "50 ms")
            .set("security.ssl.reload.max-delay", "500 ms")
    }

    /// A place for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A client of the REST gateway.
    pub fn rest(&self) -> &RestClient {
        &self.rest
    }

    /// All processes that were started.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The same, to be waited for.
    pub fn processes_mut(&mut self) -> &mut [Process] {
        &mut self.processes
    }

    /// The process of this name: a role's, or `taskmanager-1` and so on.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name() == name).unwrap()
    }

    /// Submits a script and waits until all of it runs, or it has ended.
    pub async fn submit(&self, sql: &str) -> String {
        let job = SubmitSql { sql: sql.to_owned(), name: None, parallelism: None };
        let job = self.rest.submit(&job).await.unwrap().jobid;
        self.job_until(&job, "all its tasks run", |job| {
            is_final(&job.state)
                || job.vertices.iter().all(|vertex| matches!(vertex.status.as_str(), "RUNNING" | "FINISHED"))
        })
        .await;
        job
    }

    /// Submits a [`Count`] of numbers that the test writes, so that the job lives for as long as the test wants;
    /// `options` are further ones of the source.
    pub async fn submit_fed(&self, options: &str) -> Fed {
        let (file, sink) = (self.scratch().join("numbers.csv"), self.scratch().join("counts"));
        mkfifo(&file, Mode::S_IRWXU).unwrap();
        let pipe = pipe::OpenOptions::new().read_write(true).open_sender(&file).unwrap();
        let job = self.submit(&Count::read(&file, options, &sink)).await;
        Fed { job, sink, pipe, written: 0 }
    }

    /// Runs a job whose exchange crosses the data plane, and checks its result.
    pub async fn runs_a_job(&self) {
        let sink = tempfile::tempdir_in(self.scratch()).unwrap().keep();
        let count = Count { rows: 50_000 };
        let job = self.submit(&count.generated("", &sink)).await;
        self.ends(&job, "FINISHED").await;
        count.assert_exact(&sink);
    }

    /// Submits a job that goes on until it is stopped, and waits until all of it runs.
    pub async fn starts_an_endless_job(&self) -> String {
        let sink = tempfile::tempdir_in(self.scratch()).unwrap().keep();
        let count = Count { rows: 1 << 40 };
        let job = self.submit(&count.generated(", 'rows-per-second' = '1000'", &sink)).await;
        self.job_until(&job, "it runs", |job| job.state == "RUNNING").await;
        job
    }

    /// The job once it fulfils `wanted`.
    pub async fn job_until(&self, job: &str, what: &str, wanted: impl Fn(&JobDetails) -> bool) -> JobDetails {
        eventually(&format!("job {job}: {what}"), async || {
            let seen: JobDetails = self.rest.get(&format!("/v1/jobs/{job}")).await.unwrap();
            if wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// Waits for the job's end.
    ///
    /// # Panics
    /// It ends in another state than `state`; the message has the cause.
    pub async fn ends(&self, job: &str, state: &str) -> JobDetails {
        let ended = self.job_until(job, "it ends", |job| is_final(&job.state)).await;
        assert_eq!(ended.state, state, "{}", self.cause(job).await);
        ended
    }

    /// Why the job failed, with the names of the task and the TaskManager.
    pub async fn cause(&self, job: &str) -> String {
        let exceptions: serde_json::Value = self.rest.get(&format!("/v1/jobs/{job}/exceptions")).await.unwrap();
        exceptions["exceptionHistory"]["entries"].to_string()
    }

    /// What all processes say about their TLS, once all of them have been reached.
    pub async fn tls(&self) -> TlsReport {
        self.tls_until("all processes report", |_| true).await
    }

    /// The report once it shows every process and every endpoint in it fulfils `wanted`.
    pub async fn tls_until(&self, what: &str, wanted: impl Fn(&tls_common::EndpointStatus) -> bool) -> TlsReport {
        eventually(what, async || {
            let report: TlsReport = self.rest.get("/v1/tls").await.unwrap();
            let complete = report.processes.len() == self.processes.len()
                && report.processes.iter().all(|process| !process.endpoints.is_empty());
            let mut endpoints = report.processes.iter().flat_map(|process| &process.endpoints);
            if complete && endpoints.all(&wanted) { Ok(report) } else { Err(format!("{report:?}")) }
        })
        .await
    }

    /// Waits until every process has taken over these certificates, internal and REST.
    pub async fn follows(&self, internal: &str, rest: &str) -> TlsReport {
        self.tls_until(&format!("all processes have taken over {internal} and {rest}"), |endpoint| {
            endpoint.bundle.as_ref().is_none_or(|bundle| {
                let expected = if bundle.bundle == "rest" { rest } else { internal };
                bundle.fingerprint.as_deref() == Some(expected)
            })
        })
        .await
    }
}

fn learnt(key: &str, process: &Process, port: Port) -> (String, String) {
    (key.to_owned(), process.address(port).port().to_string())
}

/// Every value in single quotes, in which only the quote itself is special.
fn yaml(settings: &BTreeMap<String, String>) -> String {
    settings.iter().map(|(key, value)| format!("{key}: '{}'\n", value.replace('\'', "''"))).collect()
}
