//! A cluster on this machine: one process per role on loopback, each with its own log.
//!
//! ```text
//!  <directory>/conf/config.yaml    what all processes read; ports are filled in as they become known
//!             /run/<process>.json  written by each process when it is ready: pid and addresses
//!             /log/<process>.log   its standard error and output
//!             /blobs/              the blob server's files
//!             /lock                held by the cluster that uses the directory
//! ```
//!
//! The processes end with this one, even if it is killed. `TIDEMILL_PROPERTIES` does not reach them.

mod config_file;
mod process;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use config::{ConfigError, Configuration};
use futures::future::{self, FutureExt};

use process::at;
pub use process::{Process, Role};

/// What to start and where.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The `tidemill` executable.
    pub executable: PathBuf,
    /// Everything the cluster writes goes below this directory.
    pub directory: PathBuf,
    /// Number of TaskManagers, at least 1.
    pub task_managers: usize,
    /// Task slots of each TaskManager.
    pub slots: usize,
    /// Port of the REST endpoint; 0 = any.
    pub rest_port: u16,
    /// Further lines of `config.yaml`; they win over the cluster's own.
    pub settings: Vec<(String, String)>,
}

/// Running processes, in the order in which they were started. Dropping it kills them; [`Cluster::stop`] lets them drain.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    processes: Vec<Process>,
    /// Locked; the system unlocks it when we end, however that happens.
    _lock: File,
}

impl Cluster {
    /// Starts blob server, JobManager, TaskManagers and REST gateway, each when the one before is ready.
    ///
    /// # Errors
    /// The directory is another cluster's. The first process that does not become ready ends the others.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let directory = options.directory;
        let lock = lock(&directory)?;
        let mut settings = base_settings(&directory, options.slots, options.rest_port);
        settings.extend(options.settings);

        let mut roles = vec![(Role::BlobServer, Role::BlobServer.name().to_owned())];
        roles.push((Role::JobManager, Role::JobManager.name().to_owned()));
        for number in 1..=options.task_managers {
            roles.push((Role::TaskManager, format!("{}-{number}", Role::TaskManager.name())));
        }
        roles.push((Role::RestGateway, Role::RestGateway.name().to_owned()));

        let mut cluster = Self { directory, processes: Vec::with_capacity(roles.len()), _lock: lock };
        for (role, name) in roles {
            config_file::write(&cluster.config_dir(), &settings)?;
            match Process::start(&options.executable, role, name, &cluster.directory).await {
                Ok(process) => {
                    settings.extend(learnt(role, &process));
                    cluster.processes.push(process);
                }
                Err(error) => {
                    cluster.stop().await;
                    return Err(error);
                }
            }
        }
        // Complete now: a process started by hand, and the CLI, find everybody by this file.
        config_file::write(&cluster.config_dir(), &settings)?;
        Ok(cluster)
    }

    /// What the processes are configured with, complete with their ports.
    ///
    /// # Errors
    /// The file is not there any more, or was edited.
    pub fn configuration(&self) -> Result<Configuration, ConfigError> {
        Configuration::read(&self.config_dir())
    }

    /// The directory to give to `--config-dir`.
    pub fn config_dir(&self) -> PathBuf {
        self.directory.join("conf")
    }

    /// Where the logs are.
    pub fn log_dir(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The processes in the order of their start.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The address of `endpoint` (`rpc`, `data`, `blob`, `rest`) at every process of `role`.
    pub fn addresses(&self, role: Role, endpoint: &str) -> Vec<SocketAddr> {
        let of_role = self.processes.iter().filter(|process| process.role() == role);
        of_role.filter_map(|process| process.address(endpoint)).collect()
    }

    /// Waits until a process ends by itself, which none should; it is no longer among the processes afterwards.
    /// Never resolves when there is none left.
    pub async fn ended(&mut self) -> (String, io::Result<ExitStatus>) {
        if self.processes.is_empty() {
            return future::pending().await;
        }
        let waits = self.processes.iter_mut().map(|process| process.wait().boxed());
        let (status, index, _) = future::select_all(waits).await;
        (self.processes.remove(index).name().to_owned(), status)
    }

    /// Lets the processes drain and end, the last started first; kills one that takes longer than [`STOP_TIMEOUT`].
    /// Returns the names of those that did not end cleanly.
    pub async fn stop(mut self) -> Vec<String> {
        let mut unclean = Vec::new();
        while let Some(mut process) = self.processes.pop() {
            if !process.stop(STOP_TIMEOUT).await {
                unclean.push(process.name().to_owned());
            }
        }
        unclean
    }
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The caller's fault: two clusters would overwrite each other's files.
    #[error("{directory} is already used by another cluster: stop that one, or choose another directory")]
    InUse {
        /// The cluster's directory.
        directory: PathBuf,
    },
    /// The machine's fault: the executable, a directory or a log cannot be used.
    #[error("{path}: {cause}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The process ended before it was ready, most often because of its configuration.
    #[error("{process} did not start ({status}): {last_words}; its log is {log}")]
    Ended {
        /// Which process.
        process: String,
        /// Its exit status.
        status: String,
        /// The last line of its log.
        last_words: String,
        /// The whole log.
        log: PathBuf,
    },
    /// The process runs but does not become ready.
    #[error("{process} was not ready within {START_TIMEOUT:?}; its log is {log}")]
    NotReady {
        /// Which process.
        process: String,
        /// Its log.
        log: PathBuf,
    },
}

/// How long a process may take from its start until it is ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process may take from SIGTERM to its end: the default drain grace and a little more.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes the directory ours, until the file is dropped.
fn lock(directory: &Path) -> Result<File, ClusterError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    let path = directory.join("lock");
    let file = File::create(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClusterError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(at(&path)(cause)),
    }
}

fn base_settings(directory: &Path, slots: usize, rest_port: u16) -> BTreeMap<String, String> {
    let blobs = directory.join("blobs").display().to_string();
    let (slots, rest_port) = (slots.to_string(), rest_port.to_string());
    let settings = [
        ("jobmanager.rpc.address", "localhost"),
        ("jobmanager.rpc.port", "0"),
        ("taskmanager.host", "localhost"),
        ("taskmanager.numberOfTaskSlots", &slots),
        ("blob.server.address", "localhost"),
        ("blob.server.port", "0"),
        ("blob.storage.directory", &blobs),
        ("rest.address", "localhost"),
        ("rest.port", &rest_port),
    ];
    settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// What the processes started later need to know about this one.
fn learnt(role: Role, process: &Process) -> Option<(String, String)> {
    let (endpoint, key) = match role {
        Role::BlobServer => ("blob", "blob.server.port"),
        Role::JobManager => ("rpc", "jobmanager.rpc.port"),
        Role::RestGateway => ("rest", "rest.port"),
        Role::TaskManager => return None,
    };
    process.address(endpoint).map(|address| (key.to_owned(), address.port().to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn options(executable: &str, directory: &Path) -> ClusterOptions {
        ClusterOptions {
            executable: PathBuf::from(executable),
            directory: directory.to_owned(),
            task_managers: 1,
            slots: 1,
            rest_port: 0,
            settings: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_at_once_is_quoted() {
        let scratch = tempfile::tempdir().unwrap();
        // Takes the role for the name of a script, which is not there.
        let error = Cluster::start(options("/bin/sh", scratch.path())).await.unwrap_err();
        let ClusterError::Ended { process, last_words, .. } = error else { panic!("{error}") };
        assert_eq!(process, "blob-server");
        assert!(last_words.contains("blob-server"), "{last_words}");
    }

    #[tokio::test]
    async fn an_executable_that_is_not_there_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let error = Cluster::start(options("/nowhere/tidemill", scratch.path())).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/tidemill"), "{error}");
    }

    #[tokio::test]
    async fn a_directory_belongs_to_one_cluster_at_a_time() {
        let scratch = tempfile::tempdir().unwrap();
        let first = lock(scratch.path()).unwrap();
        let error = Cluster::start(options("/bin/sh", scratch.path())).await.unwrap_err();
        assert!(matches!(error, ClusterError::InUse { .. }), "{error}");
        assert!(!scratch.path().join("conf").exists(), "the first one's configuration was overwritten");
        drop(first);
        let error = Cluster::start(options("/bin/sh", scratch.path())).await.unwrap_err();
        assert!(matches!(error, ClusterError::Ended { .. }), "{error}");
    }
}
