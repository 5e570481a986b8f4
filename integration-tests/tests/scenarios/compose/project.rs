//! One cluster under a project name, a network, a port and volumes of its own. Nothing of it is left afterwards.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::{fs, io};

use integration_tests::{Count, binary, eventually, tool};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::MutexGuard;

/// Two cores are too few for two clusters.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Tag of the image that is made of the tests' own binary.
const TEST_IMAGE: &str = "tidemill:scenarios";

/// Everything that `docker compose up` starts, and nothing else.
pub(super) const SERVERS: [&str; 4] = ["blob-server", "jobmanager", "taskmanager", "rest-gateway"];

/// Where the gateway is and whom to believe.
#[derive(Clone)]
struct Door {
    url: String,
    ca: PathBuf,
}

pub(super) const SECRETS: [&str; 3] = ["internal-password", "rest-password", "rest-ca-password"];

pub(super) struct Project {
    name: String,
    scratch: TempDir,
    environment: Vec<(String, String)>,
    /// How the gateway is reached, until something is started.
    door: Mutex<Option<Door>>,
    _turn: MutexGuard<'static, ()>,
}

impl Project {
    /// A project without containers; `None`, and a line that says why, where there can be none.
    pub(super) async fn new(name: &str) -> Option<Self> {
        if !std::env::var("TIDEMILL_COMPOSE").is_ok_and(|value| value == "1") {
            eprintln!("skipped: set TIDEMILL_COMPOSE=1 to run it in containers");
            return None;
        }
        if !(tool("docker", "version") && (has_plugin() || tool("docker-compose", "version"))) {
            return None;
        }
        let turn = TURN.lock().await;
        let scratch = tempfile::tempdir().unwrap();
        let secrets = scratch.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        for name in SECRETS {
            fs::write(secrets.join(name), format!("{}\n", tidemill::rotation::random_password().expose())).unwrap();
        }
        let environment = [
            ("COMPOSE_PROJECT_NAME", format!("tidemill-{name}-{}", std::process::id())),
            ("TIDEMILL_IMAGE", image()),
            ("TIDEMILL_SECRETS", secrets.display().to_string()),
            ("REST_PORT", "0".to_owned()),
        ];
        let environment: Vec<_> = environment.map(|(key, value)| (key.to_owned(), value)).into();
        Some(Self { name: environment[0].1.clone(), scratch, environment, door: Mutex::default(), _turn: turn })
    }

    /// One that is up and healthy.
    pub(super) async fn up(name: &str) -> Option<Self> {
        let project = Self::new(name).await?;
        project.compose(&["up", "-d"]);
        project.is_healthy(2).await;
        Some(project)
    }

    /// A directory for the benchmark's report, writable for everybody.
    pub(super) fn reports_to(&mut self) -> PathBuf {
        let directory = self.scratch.path().join("bench-report");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        self.set("BENCH_REPORT", &directory.display().to_string());
        directory
    }

    /// Another directory of passwords, each of them this text.
    pub(super) fn other_secrets(&self, text: &str) -> String {
        let directory = tempfile::tempdir_in(self.scratch.path()).unwrap().keep();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        SECRETS.iter().for_each(|name| fs::write(directory.join(name), text).unwrap());
        directory.display().to_string()
    }

    /// Another variable of docker-compose.yml.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Runs a compose command to its end and returns what it printed.
    pub(super) fn compose(&self, arguments: &[&str]) -> String {
        if arguments.contains(&"up") {
            *self.door.lock().unwrap() = None;
        }
        succeeded(&format!("compose {arguments:?}"), self.try_compose(arguments))
    }

    pub(super) fn try_compose(&self, arguments: &[&str]) -> Output {
        let mut command = if has_plugin() { Command::new("docker") } else { Command::new("docker-compose") };
        if has_plugin() {
            command.arg("compose");
        }
        command.args(arguments).current_dir(repository()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.output().unwrap()
    }

    /// The containers of a service, also those that have ended.
    pub(super) fn containers(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service]);
        ids.lines().map(str::to_owned).collect()
    }

    /// The one container of a service.
    pub(super) fn container(&self, service: &str) -> String {
        let containers = self.containers(service);
        assert_eq!(containers.len(), 1, "{service}");
        containers.into_iter().next().unwrap()
    }

    /// Everything that the engine has of this project, of `kind` (`container`, `volume`, `network`).
    pub(super) fn left(&self, kind: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let listed = match kind {
            "container" => docker(&["ps", "-a", "--filter", &project, "--format", "{{.Names}}"]),
            kind => docker(&[kind, "ls", "--filter", &project, "--format", "{{.Name}}"]),
        };
        let prefix = format!("{}_", self.name);
        let mut names: Vec<String> = listed.lines().map(|name| name.trim_start_matches(&prefix).to_owned()).collect();
        names.sort();
        names
    }

    /// The files of the volume with the identities, by their names.
    pub(super) fn identities(&self) -> BTreeMap<String, Vec<u8>> {
        let target = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let source = format!("{}:/opt/tidemill/conf/tls/.", self.container("certs"));
        docker(&["cp", &source, target.path().to_str().unwrap()]);
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        fs::read_dir(target.path()).unwrap().map(read).collect()
    }

    /// Empties a file of that volume.
    pub(super) fn spoils_identity(&self, name: &str) {
        let empty = self.scratch.path().join(name);
        fs::write(&empty, "").unwrap();
        let target = format!("{}:/opt/tidemill/conf/tls/{name}", self.container("certs"));
        docker(&["cp", empty.to_str().unwrap(), &target]);
    }

    /// The directory of its passwords.
    pub(super) fn secrets(&self) -> PathBuf {
        self.scratch.path().join("secrets")
    }

    pub(super) fn image(&self) -> String {
        image()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until all servers are healthy, this many TaskManagers among them, and the JobManager knows these.
    pub(super) async fn is_healthy(&self, task_managers: usize) {
        eventually("all containers are healthy", async || {
            for service in SERVERS {
                let containers = self.containers(service);
                let wanted = if service == "taskmanager" { task_managers } else { 1 };
                if containers.len() != wanted {
                    return Err(format!("{} containers of {service}", containers.len()));
                }
                for container in containers {
                    let state = &inspect(&container)["State"];
                    if state["Health"]["Status"] != "healthy" {
                        return Err(format!("{service}: {state}"));
                    }
                }
            }
            Ok(())
        })
        .await;
        self.has_task_managers(task_managers).await;
    }

    /// Waits until the JobManager knows this many TaskManagers; their ids.
    pub(super) async fn has_task_managers(&self, number: usize) -> Vec<String> {
        eventually(&format!("{number} TaskManagers are registered"), async || {
            let answer = self.try_get("/v1/taskmanagers")?;
            let managers = answer["taskmanagers"].as_array().cloned().unwrap_or_default();
            if managers.len() != number {
                return Err(answer.to_string());
            }
            Ok(managers.iter().map(|manager| manager["id"].as_str().unwrap().to_owned()).collect())
        })
        .await
    }

    fn door(&self) -> Door {
        self.door.lock().unwrap().get_or_insert_with(|| Door { url: self.url(), ca: self.ca() }).clone()
    }

    /// `https://localhost:port`, as it is published on this machine.
    fn url(&self) -> String {
        let published = self.compose(&["port", "rest-gateway", "8081"]);
        let (host, port) = published.trim().rsplit_once(':').unwrap();
        assert_eq!(host, "127.0.0.1");
        format!("https://localhost:{port}")
    }

    /// The CA of the REST endpoint, copied out of the volume in the way that docs/docker.md shows.
    fn ca(&self) -> PathBuf {
        let target = self.scratch.path().join("rest-ca.pem");
        let source = format!("{}:/opt/tidemill/conf/tls/rest-ca.pem", self.container("rest-gateway"));
        docker(&["cp", "-L", &source, target.to_str().unwrap()]);
        target
    }

    /// Asks with curl, from this machine.
    pub(super) fn try_get(&self, path: &str) -> Result<Value, String> {
        self.curl(&[], path)
    }

    pub(super) fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap()
    }

    fn curl(&self, more: &[&str], path: &str) -> Result<Value, String> {
        let Door { url, ca } = self.door();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "30", "--cacert"]).arg(ca);
        let output = command.args(more).arg(format!("{url}{path}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{said} {}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
    }

    /// Submits a script with curl; the job's id, or the answer.
    pub(super) fn try_submit(&self, sql: &str) -> Result<String, String> {
        let body = self.scratch.path().join("job.json");
        fs::write(&body, json!({ "sql": sql, "parallelism": 2 }).to_string()).unwrap();
        let data = format!("@{}", body.display());
        let answer = self.curl(&["--header", "content-type: application/json", "--data", &data], "/v1/jobs/sql")?;
        Ok(answer["jobid"].as_str().ok_or(answer.to_string())?.to_owned())
    }

    /// Connections of the data plane that were lost, or moved, and made anew, as all TaskManagers count them.
    pub(super) fn reconnects(&self, task_managers: &[String]) -> u64 {
        let usage = |id: &String| self.get(&format!("/v1/taskmanagers/{id}/usage"));
        let lost = |usage: Value| {
            let peers = usage["shuffle"]["peers"].as_object().cloned().unwrap_or_default();
            peers.values().filter_map(|peer| peer["reconnects"].as_u64()).sum::<u64>()
        };
        task_managers.iter().map(usage).map(lost).sum()
    }

    /// Waits until the JobManager has heard nothing of one of its TaskManagers for `silence` milliseconds.
    pub(super) async fn misses_one(&self, silence: i64) {
        eventually("a TaskManager is silent", async || {
            let answer = self.try_get("/v1/taskmanagers")?;
            let heard = answer["taskmanagers"].as_array().unwrap().iter();
            let heard: Vec<i64> = heard.filter_map(|manager| manager["timeSinceLastHeartbeat"].as_i64()).collect();
            let (first, last) = (heard.iter().min().copied(), heard.iter().max().copied());
            let apart = last.zip(first).map_or(0, |(last, first)| last - first);
            if apart >= silence { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }

    /// Starts a job of so many rows, at this pace if any, and returns its id once it runs.
    pub(super) async fn starts(&self, job: Job) -> String {
        let id = self.try_submit(&job.sql()).unwrap();
        self.job_until(&id, |state| state != "CREATED" && state != "INITIALIZING").await;
        id
    }

    /// Waits for the state that is `wanted` and returns it.
    pub(super) async fn job_until(&self, id: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("job {id} is as awaited"), async || {
            let state = self.try_get(&format!("/v1/jobs/{id}"))?["state"].as_str().unwrap_or_default().to_owned();
            if wanted(&state) { Ok(state) } else { Err(state) }
        })
        .await
    }

    /// Waits until rows have crossed.
    pub(super) async fn moves_rows(&self, id: &str) {
        eventually(&format!("rows of job {id} move"), async || {
            let details = self.try_get(&format!("/v1/jobs/{id}"))?;
            let read = details["vertices"].as_array().and_then(|vertices| vertices.last());
            let read = read.and_then(|vertex| vertex["metrics"]["read-records"].as_u64()).unwrap_or(0);
            if read > 0 { Ok(()) } else { Err(details.to_string()) }
        })
        .await;
    }

    /// Waits for the job's end, whatever it is.
    pub(super) async fn ends(&self, id: &str) -> String {
        self.job_until(id, |state| ["FINISHED", "FAILED", "CANCELED"].contains(&state)).await
    }

    /// Why it failed.
    pub(super) fn cause(&self, id: &str) -> String {
        self.get(&format!("/v1/jobs/{id}/exceptions"))["exceptionHistory"]["entries"].to_string()
    }

    /// Waits for the job's end, and checks every row of its result.
    pub(super) async fn ends_exact(&self, id: &str, job: Job) {
        assert_eq!(self.ends(id).await, "FINISHED", "{}", self.cause(id));
        let target = self.scratch.path().join(job.name);
        let source = format!("{}:{}", self.container("jobmanager"), job.sink());
        docker(&["cp", &source, target.to_str().unwrap()]);
        Count { rows: job.rows }.assert_exact(&target);
    }

    /// Takes the next free address of a network.
    pub(super) fn squatter(&self, network: &str) -> Squatter {
        let waits = ["run", "--detach", "--interactive", "--network", network, &image(), "bench", "peer"];
        Squatter(docker(&waits).trim().to_owned())
    }

    /// Runs a short job and checks its result.
    pub(super) async fn runs_a_job(&self, name: &'static str) {
        let job = Job { name, rows: 20_000, per_second: None };
        let id = self.starts(job).await;
        self.ends_exact(&id, job).await;
    }
}

/// A container that does nothing but have an address.
pub(super) struct Squatter(String);

impl Squatter {
    pub(super) fn id(&self) -> &str {
        &self.0
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", String::from_utf8_lossy(&self.try_compose(&["logs", "--tail", "40"]).stdout));
        }
        self.try_compose(&["--profile", "rotate", "--profile", "demo", "--profile", "bench", "down", "-v", "-t", "1"]);
    }
}

/// A job whose rows cross from one TaskManager to the other and whose result is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) rows: u64,
    pub(super) per_second: Option<u64>,
}

impl Job {
    fn sink(self) -> String {
        format!("/opt/tidemill/data/{}", self.name)
    }

    pub(super) fn sql(self) -> String {
        let pace = self.per_second.map(|rows| format!(", 'rows-per-second' = '{rows}'")).unwrap_or_default();
        Count { rows: self.rows }.generated(&pace, Path::new(&self.sink()))
    }
}

/// Runs a docker command to its end and returns what it printed.
pub(super) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().unwrap();
    succeeded(&format!("docker {arguments:?}"), output)
}

/// What the engine knows of a container.
pub(super) fn inspect(container: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", container])).unwrap()[0].take()
}

fn succeeded(what: &str, output: Output) -> String {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{said}\n{complained}", output.status);
    said.into_owned()
}

/// Compose v2.
fn has_plugin() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let version = Command::new("docker").args(["compose", "version"]).output();
        version.is_ok_and(|output| output.status.success())
    })
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The image to test.
fn image() -> String {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| std::env::var("TIDEMILL_IMAGE").unwrap_or_else(|_| made())).clone()
}

/// An image of the binary beside this test, made by the project's Dockerfile in a directory with just what that reads.
fn made() -> String {
    let context = tempfile::tempdir().unwrap();
    let outside = context.path().join("docker/outside");
    fs::create_dir_all(&outside).unwrap();
    fs::copy(binary("tidemill"), outside.join("tidemill")).unwrap();
    for name in ["Dockerfile", "docker/config.yaml", "cli/Cargo.toml"] {
        fs::create_dir_all(context.path().join(name).parent().unwrap()).unwrap();
        fs::copy(repository().join(name), context.path().join(name)).unwrap();
    }
    let directory = context.path().to_str().unwrap();
    docker(&["build", "--quiet", "--build-arg", "PROGRAMS=outside", "--tag", TEST_IMAGE, directory]);
    TEST_IMAGE.to_owned()
}
