//! The JobManager's part of the configuration, read once.

use std::time::Duration;

use config::{ConfigError, Configuration, address, options};

use crate::cluster::ClusterOptions;
use crate::dispatcher::jobs::JobLimits;
use crate::job_master::deployment::BlobAddress;

/// Jobs that may be active at once.
const ACTIVE_JOBS_MAX: usize = 1_000;

/// How this process works.
#[derive(Debug, Clone)]
pub struct Settings {
    pub default_parallelism: usize,
    /// Told to TaskManagers when they register.
    pub heartbeat_interval: Duration,
    /// How long a call to a TaskManager is repeated.
    pub call_patience: Duration,
    pub cluster: ClusterOptions,
}

impl Settings {
    pub fn new(config: &Configuration) -> Result<Self, ConfigError> {
        let (host, port) = address::peer_address(config, &options::BLOB_SERVER_ADDRESS, &options::BLOB_SERVER_PORT)?;
        Ok(Self {
            default_parallelism: config.get(&options::PARALLELISM_DEFAULT)?,
            heartbeat_interval: config.get(&options::HEARTBEAT_INTERVAL)?,
            call_patience: config.get(&options::PEKKO_ASK_TIMEOUT)?,
            cluster: ClusterOptions {
                heartbeat_timeout: config.get(&options::HEARTBEAT_TIMEOUT)?,
                slot_request_timeout: config.get(&options::SLOT_REQUEST_TIMEOUT)?,
                jobs: JobLimits {
                    active_max: ACTIVE_JOBS_MAX,
                    ended_max: config.get(&options::JOBSTORE_MAX_CAPACITY)?,
                },
                blob: BlobAddress { host, port },
            },
        })
    }
}
