//! The TaskManager's part of the configuration, read once.

use std::time::Duration;

use config::{CompressionCodec, Configuration, DataTransport, MemorySize, address, options};
use engine::Compression;
use proto::ids::TaskManagerId;

use crate::error::TaskManagerError;
use crate::shuffle::{LANES_MAX, RETAINED_BYTES_MIN, ShuffleOptions};

/// Most slots a JobManager takes of one TaskManager.
const SLOTS_MAX: usize = 1_024;

/// How this process works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configured name; `None`: one is made from the address.
    pub id: Option<TaskManagerId>,
    /// Told to the others.
    pub host: String,
    pub slots: u32,
    pub jobmanager_host: String,
    pub jobmanager_port: u16,
    /// How long a call to the JobManager is repeated before the log says that it does not answer.
    pub call_patience: Duration,
    /// The JobManager's, too.
    pub heartbeat_timeout: Duration,
    pub data_transport: DataTransport,
    /// Of rows whose script does not say.
    pub compression: Compression,
    pub shuffle: ShuffleOptions,
}

impl Settings {
    pub fn new(config: &Configuration) -> Result<Self, TaskManagerError> {
        let slots = config.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
        let slots = match u32::try_from(slots) {
            Ok(count) if (1..=SLOTS_MAX).contains(&slots) => count,
            _ => return Err(TaskManagerError::Slots { slots, max: SLOTS_MAX }),
        };
        let retained = config.get(&options::TASKMANAGER_NETWORK_CHANNEL_RETAINED)?;
        if retained.bytes() < RETAINED_BYTES_MIN {
            return Err(TaskManagerError::Retained { retained, min: MemorySize::from_bytes(RETAINED_BYTES_MIN) });
        }
        let lanes = config.get(&options::TASKMANAGER_NETWORK_LANES)?;
        if lanes > LANES_MAX {
            return Err(TaskManagerError::Lanes { lanes, max: LANES_MAX });
        }
        let debloat_target = match config.get(&options::TASKMANAGER_NETWORK_BUFFER_DEBLOAT)? {
            true => Some(config.get(&options::TASKMANAGER_NETWORK_BUFFER_DEBLOAT_TARGET)?),
            false => None,
        };
        let data_transport = config.get(&options::TASKMANAGER_DATA_TRANSPORT)?;
        let (jobmanager_host, jobmanager_port) =
            address::peer_address(config, &options::JOBMANAGER_RPC_ADDRESS, &options::JOBMANAGER_RPC_PORT)?;
        let id = config.get_optional(&options::TASKMANAGER_RESOURCE_ID)?;
        Ok(Self {
            id: id.map(|id| id.parse()).transpose()?,
            host: address::own_host(config, &options::TASKMANAGER_HOST, &options::TASKMANAGER_BIND_HOST)?,
            slots,
            jobmanager_host,
            jobmanager_port,
            call_patience: config.get(&options::PEKKO_ASK_TIMEOUT)?,
            data_transport,
            compression: match config.get(&options::TASKMANAGER_NETWORK_COMPRESSION)? {
                CompressionCodec::None => Compression::None,
                CompressionCodec::Lz4 => Compression::Lz4,
                CompressionCodec::Zstd => Compression::Zstd,
            },
            heartbeat_timeout: config.get(&options::HEARTBEAT_TIMEOUT)?,
            shuffle: ShuffleOptions {
                window_bytes: config.get(&options::TASKMANAGER_NETWORK_CHANNEL_WINDOW)?.bytes(),
                retained_bytes: retained.bytes(),
                receive_buffer_bytes: config.get(&options::TASKMANAGER_NETWORK_RECEIVE_BUFFER)?.bytes(),
                lanes,
                debloat_target,
                reconnect_timeout: config.get(&options::TASKMANAGER_NETWORK_RECONNECT_TIMEOUT)?,
                open_timeout: config.get(&options::TASKMANAGER_NETWORK_OPEN_TIMEOUT)?,
                ..ShuffleOptions::default()
            },
        })
    }
}
