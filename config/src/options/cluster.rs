//! Addresses, bounds and timeouts of the four services.

use super::options;
use crate::option::{ConfigOption, OptionInfo};
use crate::value::{CompressionCodec, DataTransport, LogFormat, MemorySize};
use std::path::PathBuf;
use std::time::Duration;

options! {
    /// Host name or address under which the other processes reach the JobManager.
    JOBMANAGER_RPC_ADDRESS: String = "jobmanager.rpc.address", default = "localhost";
    /// RPC port of the JobManager; 0 takes any free port (see `process.ready-file`).
    JOBMANAGER_RPC_PORT: u16 = "jobmanager.rpc.port", default = "6123";
    /// Address the JobManager listens on. Loopback unless told otherwise.
    JOBMANAGER_BIND_HOST: String = "jobmanager.bind-host", default = "localhost";
    /// Ended jobs that can still be looked at; the longest ended is forgotten first, and its script with it.
    JOBSTORE_MAX_CAPACITY: usize = "jobstore.max-capacity", default = "1000", positive = true;
    /// How long a job waits for enough free slots before it fails.
    SLOT_REQUEST_TIMEOUT: Duration = "slot.request.timeout", default = "5 min", positive = true;

    /// Host name or address under which the other TaskManagers and the JobManager reach this TaskManager. Without it
    /// what `taskmanager.bind-host` says, or the machine's host name if that is every address.
    TASKMANAGER_HOST: String = "taskmanager.host";
    /// Address the TaskManager listens on, for RPC and data. Loopback unless told otherwise.
    TASKMANAGER_BIND_HOST: String = "taskmanager.bind-host", default = "localhost";
    /// RPC port of the TaskManager; 0 takes any free port.
    TASKMANAGER_RPC_PORT: u16 = "taskmanager.rpc.port", default = "0";
    /// Data-plane port of the TaskManager; 0 takes any free port.
    TASKMANAGER_DATA_PORT: u16 = "taskmanager.data.port", default = "0";
    /// Name of the TaskManager in the cluster. Without it a random one is made.
    TASKMANAGER_RESOURCE_ID: String = "taskmanager.resource-id";
    /// Subtasks the TaskManager runs at once.
    TASKMANAGER_NUMBER_OF_TASK_SLOTS: usize = "taskmanager.numberOfTaskSlots", default = "1", positive = true;
    /// What carries the data plane: `tcp`, or `quic` where UDP suits the network better (it costs more CPU per byte).
    TASKMANAGER_DATA_TRANSPORT: DataTransport = "taskmanager.data.transport", default = "tcp";
    /// Threads that run tasks and their exchange; sources and sinks have threads of their own. Without it, half of the
    /// machine's cores, at least one (and never more than 1024): with one for each core, the two ends of every hand-over
    /// sit on different cores.
    TASKMANAGER_WORKER_THREADS: usize = "taskmanager.worker-threads", positive = true;
    /// Bytes that one channel may have under way and unread at its receiver.
    TASKMANAGER_NETWORK_CHANNEL_WINDOW: MemorySize =
        "taskmanager.network.channel.window", default = "2 mb", positive = true;
    /// Bytes that one sending channel keeps at most, to send them again after a lost connection.
    TASKMANAGER_NETWORK_CHANNEL_RETAINED: MemorySize =
        "taskmanager.network.channel.retained", default = "4 mb", positive = true;
    /// Bytes that all channels of the process together may hold as receivers.
    TASKMANAGER_NETWORK_RECEIVE_BUFFER: MemorySize =
        "taskmanager.network.memory.receive-buffer", default = "128 mb", positive = true;
    /// Whether a channel has no more under way than its reader takes within `taskmanager.network.memory.buffer-debloat.target`.
    TASKMANAGER_NETWORK_BUFFER_DEBLOAT: bool = "taskmanager.network.memory.buffer-debloat.enabled", default = "false";
    /// How long what a channel has under way should last its reader, where buffers are debloated. Must be well above the
    /// round trip between two TaskManagers: with less under way than fits on the way, the reader starves.
    TASKMANAGER_NETWORK_BUFFER_DEBLOAT_TARGET: Duration =
        "taskmanager.network.memory.buffer-debloat.target", default = "1 s", positive = true;
    /// Connections that the channels between two TaskManagers are spread over, 1 to 16; the same on all TaskManagers.
    TASKMANAGER_NETWORK_LANES: u16 = "taskmanager.network.lanes", default = "1", positive = true;
    /// What rows are compressed with on their way to another TaskManager, unless their table says
    /// (`exchange.compression`). Flink's default is LZ4, but it compresses batch exchanges only; a stream's rows leave at
    /// the speed of the network.
    TASKMANAGER_NETWORK_COMPRESSION: CompressionCodec = "taskmanager.network.compression.codec", default = "NONE";
    /// A TaskManager that cannot be reached for this long is lost, and the tasks that talk to it fail.
    TASKMANAGER_NETWORK_RECONNECT_TIMEOUT: Duration =
        "taskmanager.network.reconnect-timeout", default = "10 s", positive = true;
    /// How long one end of a channel waits for the other end to be deployed.
    TASKMANAGER_NETWORK_OPEN_TIMEOUT: Duration = "taskmanager.network.open-timeout", default = "1 min", positive = true;

    /// Host name or address under which the other processes reach the blob server.
    BLOB_SERVER_ADDRESS: String = "blob.server.address", default = "localhost";
    /// Port of the blob server; 0 takes any free port.
    BLOB_SERVER_PORT: u16 = "blob.server.port", default = "6124";
    /// Address the blob server listens on. Loopback unless told otherwise.
    BLOB_SERVER_BIND_HOST: String = "blob.server.bind-host", default = "localhost";
    /// Directory of the stored blobs. Without it the blob server makes a temporary one.
    BLOB_STORAGE_DIRECTORY: PathBuf = "blob.storage.directory";

    /// Host name or address under which people and the CLI reach the REST gateway.
    REST_ADDRESS: String = "rest.address", default = "localhost", fallback = ["jobmanager.rpc.address"];
    /// Port of the REST gateway; 0 takes any free port.
    REST_PORT: u16 = "rest.port", default = "8081", deprecated = ["web.port"];
    /// Address the REST gateway listens on. Loopback unless told otherwise.
    REST_BIND_ADDRESS: String = "rest.bind-address", default = "localhost";
    /// Largest request body the REST gateway takes.
    REST_SERVER_MAX_CONTENT_LENGTH: MemorySize =
        "rest.server.max-content-length", default = "104857600", positive = true;
    /// How often a dashboard should ask for news.
    WEB_REFRESH_INTERVAL: Duration = "web.refresh-interval", default = "3 s", positive = true;

    /// How often a TaskManager reports to the JobManager.
    HEARTBEAT_INTERVAL: Duration = "heartbeat.interval", default = "1 s", positive = true;
    /// A TaskManager that is silent for this long is dead, and the jobs on it fail. A TaskManager for which the
    /// JobManager is silent for this long fails its tasks.
    HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout", default = "10 s", positive = true;
    /// How long a call to another process is tried again before it fails.
    PEKKO_ASK_TIMEOUT: Duration =
        "pekko.ask.timeout", default = "10 s", deprecated = ["akka.ask.timeout"], positive = true;
    /// Subtasks per operator of a job that does not say.
    PARALLELISM_DEFAULT: usize = "parallelism.default", default = "1", positive = true;

    /// File that is written once the process serves: `{"service", "pid", "addresses"}` as JSON.
    PROCESS_READY_FILE: PathBuf = "process.ready-file";
    /// Whether the process ends as by SIGTERM once its standard input does: for a starter that holds the other end of a
    /// pipe, and whose children must not outlive it even if it is killed.
    PROCESS_EXIT_WITH_PARENT: bool = "process.exit-with-parent", default = "false";
    /// How log lines look.
    LOG_FORMAT: LogFormat = "log.format", default = "text";
    /// Least severe level that is logged (`error`, `warn`, `info`, `debug`, `trace`), or directives such as
    /// `info,tls_common=debug`.
    LOG_LEVEL: String = "log.level", default = "info";
}
