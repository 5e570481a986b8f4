//! One child process: started, awaited until it is ready, stopped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use super::{ClusterError, START_TIMEOUT};

/// The four roles of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Plans and schedules jobs.
    #[value(name = "jobmanager")]
    JobManager,
    /// Runs them.
    #[value(name = "taskmanager")]
    TaskManager,
    /// Keeps what processes share by content.
    BlobServer,
    /// Answers people and programs over HTTPS.
    RestGateway,
}

impl Role {
    /// The subcommand, and the name of the role's own binary.
    pub fn name(self) -> &'static str {
        match self {
            Role::JobManager => "jobmanager",
            Role::TaskManager => "taskmanager",
            Role::BlobServer => "blob-server",
            Role::RestGateway => "rest-gateway",
        }
    }
}

/// A process that has become ready.
#[derive(Debug)]
pub struct Process {
    role: Role,
    name: String,
    child: Child,
    ready: Ready,
    /// Its standard input: the process ends when we do, and the system closes this, however that happens.
    _lifeline: Option<ChildStdin>,
}

/// What a process writes into `process.ready-file`.
#[derive(Debug, Deserialize)]
struct Ready {
    addresses: BTreeMap<String, SocketAddr>,
}

impl Process {
    /// Starts `executable <role>` with the configuration in `<directory>/conf` and waits until it is ready.
    pub(super) async fn start(
        executable: &Path,
        role: Role,
        name: String,
        directory: &Path,
    ) -> Result<Self, ClusterError> {
        let ready_file = directory.join("run").join(format!("{name}.json"));
        let log = directory.join("log").join(format!("{name}.log"));
        let output = prepare(&ready_file, &log)?;
        let errors = output.try_clone().map_err(at(&log))?;
        let mut command = Command::new(executable);
        command
            .arg(role.name())
            .arg("--config-dir")
            .arg(directory.join("conf"))
            .arg(format!("-Dprocess.ready-file={}", ready_file.display()))
            .arg("-Dprocess.exit-with-parent=true");
        if role == Role::TaskManager {
            command.arg(format!("-Dtaskmanager.resource-id={name}"));
        }
        let mut child = command
            // It would win over our ports and certificates.
            .env_remove(config::PROPERTIES_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for us; the children end in our order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(at(executable))?;
        // Taken away, because waiting for the child would close it.
        let lifeline = child.stdin.take();
        let ready = tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(ClusterError::Ended { process: name, status, last_words: last_words(&log), log });
            }
            ready = timeout(START_TIMEOUT, until_ready(&ready_file)) => ready,
        };
        match ready {
            Ok(Ok(ready)) => Ok(Self { role, name, child, ready, _lifeline: lifeline }),
            Ok(Err(cause)) => Err(ClusterError::Io { path: ready_file, cause }),
            Err(_) => Err(ClusterError::NotReady { process: name, log }),
        }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The role's name; TaskManagers have a number behind it, and it is their id in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where `endpoint` (`rpc`, `data`, `blob`, `rest`) listens.
    pub fn address(&self, endpoint: &str) -> Option<SocketAddr> {
        self.ready.addresses.get(endpoint).copied()
    }

    /// The process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGTERM, and after `patience` SIGKILL. True if it ended with exit code 0 by itself.
    pub(super) async fn stop(&mut self, patience: Duration) -> bool {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        // An error means that it has just ended, which the wait tells, too.
        let _ = id.map(|id| kill(Pid::from_raw(id), Signal::SIGTERM));
        match timeout(patience, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                let _ = self.child.kill().await;
                false
            }
        }
    }
}

/// Makes the directories, removes what an earlier process of this name left, and opens the log.
fn prepare(ready_file: &Path, log: &Path) -> Result<File, ClusterError> {
    for file in [ready_file, log] {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
    }
    match fs::remove_file(ready_file) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(at(ready_file)(cause)),
        _ => {}
    }
    File::create(log).map_err(at(log))
}

/// The file appears complete, by a rename.
async fn until_ready(ready_file: &Path) -> io::Result<Ready> {
    loop {
        match fs::read(ready_file) {
            Ok(json) => return Ok(serde_json::from_slice(&json)?),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => sleep(READY_POLL).await,
            Err(cause) => return Err(cause),
        }
    }
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |cause| ClusterError::Io { path, cause }
}

/// Pause between two looks for the ready file.
const READY_POLL: Duration = Duration::from_millis(20);
