//! One cluster under a project name, a network, a port and volumes of its own. Nothing of it is left afterwards.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::{fs, io};

use integration_tests::{eventually, tool};
use tempfile::TempDir;
use tokio::sync::MutexGuard;

use super::engine::{docker, has_plugin, image, inspect, repository, succeeded};

/// Two cores are too few for two clusters.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Everything that `docker compose up` starts, and nothing else.
pub(super) const SERVERS: [&str; 4] = ["blob-server", "jobmanager", "taskmanager", "rest-gateway"];

/// Where the gateway is and whom to believe.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) url: String,
    pub(super) ca: PathBuf,
}

pub(super) const SECRETS: [&str; 3] = ["internal-password", "rest-password", "rest-ca-password"];

pub(super) struct Project {
    name: String,
    pub(super) scratch: TempDir,
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

    pub(super) fn door(&self) -> Door {
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

    /// Takes the next free address of a network.
    pub(super) fn squatter(&self, network: &str) -> Squatter {
        let waits = ["run", "--detach", "--interactive", "--network", network, &image(), "bench", "peer"];
        Squatter(docker(&waits).trim().to_owned())
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
