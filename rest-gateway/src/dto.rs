//! The JSON that leaves the gateway: Flink 2.3's shapes where Flink has the endpoint, ours where it has none (`tls`,
//! `jobs/sql`).
//!
//! Every key of Flink's is there. Where the key speaks of a JVM or of something this release does not do, the value
//! is Flink's own for "unknown" or "none": `null`, -1 or 0. Times are milliseconds since 1970 UTC, -1 for "not yet".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tls_common::EndpointStatus;

/// `GET /overview`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    pub taskmanagers: u32,
    pub slots_total: u32,
    pub slots_available: u32,
    pub jobs_running: u32,
    pub jobs_finished: u32,
    pub jobs_cancelled: u32,
    pub jobs_failed: u32,
    pub flink_version: String,
    pub flink_commit: String,
}

/// `GET /config`: what a dashboard may offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DashboardConfig {
    /// Milliseconds between two looks of a dashboard.
    pub refresh_interval: u64,
    pub timezone_name: String,
    /// Milliseconds.
    pub timezone_offset: i64,
    pub flink_version: String,
    pub flink_revision: String,
    pub features: Features,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    pub web_submit: bool,
    pub web_cancel: bool,
    pub web_rescale: bool,
    pub web_history: bool,
}

/// `GET /jobs`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobIds {
    pub jobs: Vec<JobIdWithStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobIdWithStatus {
    pub id: String,
    pub status: String,
}

/// `GET /jobs/:id/status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobStatus {
    pub status: String,
}

/// `GET /jobs/overview`, newest job first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobsOverview {
    pub jobs: Vec<JobOverview>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobOverview {
    pub jid: String,
    pub name: String,
    #[serde(rename = "jobType")]
    pub job_type: String,
    #[serde(rename = "schedulerType")]
    pub scheduler_type: String,
    pub start_time: i64,
    pub end_time: i64,
    pub duration: i64,
    pub state: String,
    pub last_modification: i64,
    /// Subtasks by state in lower case, and `total`.
    pub tasks: BTreeMap<String, u32>,
    pub pending_operators: u32,
}

/// `GET /jobs/:id`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobDetails {
    pub jid: String,
    pub application_id: String,
    pub name: String,
    #[serde(rename = "isStoppable")]
    pub is_stoppable: bool,
    pub state: String,
    pub job_type: String,
    #[serde(rename = "schedulerType")]
    pub scheduler_type: String,
    pub start_time: i64,
    pub end_time: i64,
    pub duration: i64,
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: i64,
    pub now: i64,
    /// First entry into each state; 0 for those the job has not been in.
    pub timestamps: BTreeMap<String, i64>,
    pub vertices: Vec<Vertex>,
    /// Vertices by state.
    pub status_counts: BTreeMap<String, u32>,
    pub plan: Plan,
    pub pending_operators: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vertex {
    pub id: String,
    #[serde(rename = "slotSharingGroupId")]
    pub slot_sharing_group_id: String,
    pub name: String,
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: i64,
    pub parallelism: u32,
    pub status: String,
    pub start_time: i64,
    pub end_time: i64,
    pub duration: i64,
    /// Subtasks by state.
    pub tasks: BTreeMap<String, u32>,
    pub metrics: VertexMetrics,
}

/// Sums over the subtasks. `*_complete` is false until every one has reported.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VertexMetrics {
    pub read_bytes: u64,
    pub read_bytes_complete: bool,
    pub write_bytes: u64,
    pub write_bytes_complete: bool,
    pub read_records: u64,
    pub read_records_complete: bool,
    pub write_records: u64,
    pub write_records_complete: bool,
    /// Milliseconds; 0, as it is not measured.
    pub accumulated_backpressured_time: u64,
    /// Milliseconds; 0, as it is not measured.
    pub accumulated_idle_time: u64,
    /// Milliseconds; 0, as it is not measured.
    pub accumulated_busy_time: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub jid: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub nodes: Vec<PlanNode>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanNode {
    pub id: String,
    pub operator: String,
    pub parallelism: u32,
    pub operator_strategy: String,
    /// HTML, as dashboards show it.
    pub description: String,
    pub optimizer_properties: BTreeMap<String, String>,
    /// Absent for a source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PlanInput>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanInput {
    pub id: String,
    pub num: u32,
    pub exchange: String,
    pub ship_strategy: String,
}

/// `GET /jobs/:id/exceptions`: why a job failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobExceptions {
    pub exception_history: ExceptionHistory,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExceptionHistory {
    pub entries: Vec<ExceptionEntry>,
    pub truncated: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExceptionEntry {
    pub exception_name: String,
    /// The cause in words; there are no stack traces.
    pub stacktrace: String,
    pub timestamp: i64,
    pub failure_labels: BTreeMap<String, String>,
    pub task_name: Option<String>,
    pub endpoint: Option<String>,
    pub task_manager_id: Option<String>,
    pub concurrent_exceptions: Vec<ExceptionEntry>,
}

/// An element of `GET /jobs/:id/vertices/:vertex/metrics` and `.../watermarks`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metric {
    /// `<subtask>.<name>`
    pub id: String,
    /// Absent where only the names were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// `GET /taskmanagers`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskManagers {
    pub taskmanagers: Vec<TaskManager>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManager {
    pub id: String,
    /// Where its RPC service is.
    pub path: String,
    pub data_port: u32,
    /// -1: no JMX.
    pub jmx_port: i32,
    /// The moment of the last heartbeat, in spite of the name.
    pub time_since_last_heartbeat: i64,
    pub slots_number: u32,
    pub free_slots: u32,
    pub assigned_tasks: u32,
    pub total_resource: Resource,
    pub free_resource: Resource,
    pub hardware: Hardware,
    pub memory_configuration: MemoryConfiguration,
}

/// `GET /taskmanagers/:id`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerDetails {
    #[serde(flatten)]
    pub task_manager: TaskManager,
    /// Empty: slots are not cut to size, `freeSlots` says what is left.
    pub allocated_slots: Vec<serde_json::Value>,
    pub metrics: TaskManagerMetrics,
}

/// `GET /taskmanagers/:id/usage`, which Flink does not have: what the process has used and moved so far, as of its last
/// heartbeat.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessUsage {
    /// When it was written, Unix milliseconds by the TaskManager's clock.
    pub time: i64,
    /// CPU time of all threads, user and system, milliseconds.
    pub cpu_millis: u64,
    pub resident_bytes: u64,
    pub peak_resident_bytes: u64,
    /// Of the tasks that have not ended, all together.
    pub read_records: u64,
    pub read_bytes: u64,
    pub write_records: u64,
    pub write_bytes: u64,
    /// The data plane's own report: `peers` by id, `receive_buffer_used_bytes`.
    pub shuffle: serde_json::Value,
}

/// Memory is not divided among slots: -1 (Flink's "unknown") MiB each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub cpu_cores: f64,
    pub task_heap_memory: i64,
    pub task_off_heap_memory: i64,
    pub managed_memory: i64,
    pub network_memory: i64,
    pub extended_resources: BTreeMap<String, f64>,
}

/// Bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hardware {
    pub cpu_cores: u32,
    pub physical_memory: u64,
    pub free_memory: u64,
    pub managed_memory: u64,
}

/// Bytes. All `null`: a TaskManager has no memory pools of fixed size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryConfiguration {
    pub framework_heap: Option<u64>,
    pub task_heap: Option<u64>,
    pub framework_off_heap: Option<u64>,
    pub task_off_heap: Option<u64>,
    pub network_memory: Option<u64>,
    pub managed_memory: Option<u64>,
    pub jvm_metaspace: Option<u64>,
    pub jvm_overhead: Option<u64>,
    pub total_flink_memory: Option<u64>,
    pub total_process_memory: Option<u64>,
}

/// All 0 and no garbage collector: these are figures of a JVM and of its network stack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerMetrics {
    pub heap_used: u64,
    pub heap_committed: u64,
    pub heap_max: u64,
    pub non_heap_used: u64,
    pub non_heap_committed: u64,
    pub non_heap_max: u64,
    pub direct_count: u64,
    pub direct_used: u64,
    pub direct_max: u64,
    pub mapped_count: u64,
    pub mapped_used: u64,
    pub mapped_max: u64,
    pub netty_shuffle_memory_segments_available: u64,
    pub netty_shuffle_memory_segments_used: u64,
    pub netty_shuffle_memory_segments_total: u64,
    pub netty_shuffle_memory_available: u64,
    pub netty_shuffle_memory_used: u64,
    pub netty_shuffle_memory_total: u64,
    pub garbage_collectors: Vec<serde_json::Value>,
}

/// `POST /jobs/sql` as JSON. As any other content type the body is the script itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitSql {
    pub sql: String,
    /// Default: the name the planner gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Default: the JobManager's `parallelism.default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
}

/// The answer to `POST /jobs/sql`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submitted {
    pub jobid: String,
    #[serde(rename = "jobUrl")]
    pub job_url: String,
}

/// `GET /tls`: every process of the cluster and what its endpoints serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TlsReport {
    pub processes: Vec<ProcessTls>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessTls {
    /// `rest-gateway`, `jobmanager`, `taskmanager` or `blob-server`.
    pub process: String,
    pub id: String,
    pub endpoints: Vec<EndpointStatus>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Any failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Errors {
    pub errors: Vec<String>,
}

/// Acceptance of a request that has nothing to return.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Accepted {}
