//! From the JobManager's answers to the JSON shapes of [`crate::dto`]. Pure functions.

use std::collections::BTreeMap;

use proto::v1::{self, DescribeJobResponse, JobSummary, TaskMetrics, TaskState, TaskStateCount, VertexDetails};

use tls_common::metrics as tls_metrics;

use crate::dto::{
    ExceptionEntry, ExceptionHistory, Hardware, JobDetails, JobExceptions, JobIdWithStatus, JobOverview,
    MemoryConfiguration, Metric, Overview, Plan, PlanInput, PlanNode, ProcessTls, ProcessUsage, Resource, TaskManager,
    Vertex, VertexMetrics,
};

/// What `flink-version` says: ours.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A source build does not know its commit.
pub(crate) const COMMIT: &str = "unknown";

/// Keyed state and exchanges divide the keys into this many groups: the most subtasks a vertex can have.
const KEY_GROUPS: i64 = 128;

const JOB_TYPE: &str = "STREAMING";
const SCHEDULER_TYPE: &str = "Default";

/// Flink's name for a figure of a subtask, and the figure as it writes it.
type NamedMetric = (&'static str, fn(&TaskMetrics) -> String);

/// What a subtask reports.
const METRICS: [NamedMetric; 6] = [
    ("numRecordsIn", |metrics| metrics.records_in.to_string()),
    ("numRecordsOut", |metrics| metrics.records_out.to_string()),
    ("numBytesIn", |metrics| metrics.bytes_in.to_string()),
    ("numBytesOut", |metrics| metrics.bytes_out.to_string()),
    ("numLateRecordsDropped", |metrics| metrics.late_records.to_string()),
    (WATERMARK, |metrics| metrics.watermark_ms.unwrap_or(i64::MIN).to_string()),
];

/// Flink's name for the watermark that a subtask has reached; the smallest number there is before the first.
pub(crate) const WATERMARK: &str = "currentInputWatermark";

/// Flink's names for the states a subtask can be in. Every count has all of them.
const TASK_STATES: [&str; 10] = [
    "CREATED",
    "SCHEDULED",
    "DEPLOYING",
    "INITIALIZING",
    "RUNNING",
    "FINISHED",
    "CANCELING",
    "CANCELED",
    "FAILED",
    "RECONCILING",
];

/// Flink's names for the states a job can be in. `timestamps` has all of them.
const JOB_STATES: [&str; 11] = [
    "INITIALIZING",
    "CREATED",
    "RUNNING",
    "FAILING",
    "FAILED",
    "CANCELLING",
    "CANCELED",
    "FINISHED",
    "RESTARTING",
    "SUSPENDED",
    "RECONCILING",
];

pub(crate) fn overview(overview: v1::OverviewResponse) -> Overview {
    Overview {
        taskmanagers: overview.task_managers,
        slots_total: overview.slots_total,
        slots_available: overview.slots_available,
        jobs_running: overview.jobs_running,
        jobs_finished: overview.jobs_finished,
        jobs_cancelled: overview.jobs_cancelled,
        jobs_failed: overview.jobs_failed,
        flink_version: VERSION.to_owned(),
        flink_commit: COMMIT.to_owned(),
    }
}

pub(crate) fn job_id(job: &JobSummary) -> JobIdWithStatus {
    JobIdWithStatus { id: job.job_id.clone(), status: job.state().name().to_owned() }
}

pub(crate) fn job_overview(job: &JobSummary) -> JobOverview {
    let mut tasks: BTreeMap<_, _> =
        task_counts(&job.tasks).into_iter().map(|(state, count)| (state.to_lowercase(), count)).collect();
    tasks.insert("total".to_owned(), job.tasks.iter().map(|tasks| tasks.count).sum());
    JobOverview {
        jid: job.job_id.clone(),
        name: job.name.clone(),
        job_type: JOB_TYPE.to_owned(),
        scheduler_type: SCHEDULER_TYPE.to_owned(),
        start_time: job.start_time_ms,
        end_time: job.end_time_ms.unwrap_or(-1),
        duration: duration(Some(job.start_time_ms), job.end_time_ms, job.now_ms),
        state: job.state().name().to_owned(),
        last_modification: job.last_modification_ms,
        tasks,
        pending_operators: 0,
    }
}

pub(crate) fn job_details(described: DescribeJobResponse) -> JobDetails {
    let job = described.job.unwrap_or_default();
    let mut timestamps: BTreeMap<_, _> = JOB_STATES.iter().map(|state| ((*state).to_owned(), 0)).collect();
    for entry in &described.timestamps {
        timestamps.insert(entry.state().name().to_owned(), entry.time_ms);
    }
    let mut status_counts = no_tasks();
    for vertex in &described.vertices {
        *status_counts.entry(vertex.state().name().to_owned()).or_default() += 1;
    }
    JobDetails {
        jid: job.job_id.clone(),
        application_id: job.job_id.clone(),
        name: job.name.clone(),
        is_stoppable: false,
        state: job.state().name().to_owned(),
        job_type: JOB_TYPE.to_owned(),
        scheduler_type: SCHEDULER_TYPE.to_owned(),
        start_time: job.start_time_ms,
        end_time: job.end_time_ms.unwrap_or(-1),
        duration: duration(Some(job.start_time_ms), job.end_time_ms, job.now_ms),
        max_parallelism: -1,
        now: job.now_ms,
        timestamps,
        vertices: described.vertices.iter().map(|details| vertex(details, &job)).collect(),
        status_counts,
        plan: plan(&job, &described.vertices, &described.edges),
        pending_operators: 0,
    }
}

pub(crate) fn exceptions(described: DescribeJobResponse) -> JobExceptions {
    let entry = |failure: v1::Failure| ExceptionEntry {
        exception_name: failure.cause.lines().next().unwrap_or_default().to_owned(),
        stacktrace: failure.cause,
        timestamp: failure.time_ms,
        failure_labels: BTreeMap::new(),
        task_name: Some(failure.task).filter(|name| !name.is_empty()),
        endpoint: None,
        task_manager_id: Some(failure.task_manager_id).filter(|id| !id.is_empty()),
        concurrent_exceptions: Vec::new(),
    };
    let entries = described.failure.map(entry).into_iter().collect();
    JobExceptions { exception_history: ExceptionHistory { entries, truncated: false } }
}

/// Every metric of a vertex, subtask by subtask, under Flink's names.
pub(crate) fn metrics(vertex: &VertexDetails) -> Vec<Metric> {
    let of_subtask = |subtask: &v1::SubtaskDetails| {
        let index = subtask.subtask;
        let named =
            subtask.metrics.iter().flat_map(|metrics| METRICS.iter().map(|(name, value)| (name, value(metrics))));
        named.map(move |(name, value)| Metric { id: format!("{index}.{name}"), value: Some(value) }).collect::<Vec<_>>()
    };
    vertex.subtasks.iter().flat_map(of_subtask).collect()
}

pub(crate) fn task_manager(details: v1::TaskManagerDetails) -> TaskManager {
    let address = details.address.unwrap_or_default();
    let hardware = details.hardware.unwrap_or_default();
    let cpu_cores = f64::from(hardware.cpu_cores);
    TaskManager {
        id: address.id,
        path: format!("grpc://{}:{}", address.host, address.rpc_port),
        data_port: address.data_port,
        jmx_port: -1,
        time_since_last_heartbeat: details.last_heartbeat_ms,
        slots_number: details.slots,
        free_slots: details.free_slots,
        assigned_tasks: details.assigned_tasks,
        total_resource: resource(cpu_cores),
        // Slots share the machine evenly.
        free_resource: resource(cpu_cores * f64::from(details.free_slots) / f64::from(details.slots.max(1))),
        hardware: Hardware {
            cpu_cores: hardware.cpu_cores,
            physical_memory: hardware.physical_memory_bytes,
            free_memory: hardware.free_memory_bytes,
            managed_memory: 0,
        },
        memory_configuration: MemoryConfiguration::default(),
    }
}

/// `None` before the first heartbeat.
pub(crate) fn usage(details: &v1::TaskManagerDetails) -> Option<ProcessUsage> {
    let (usage, tasks) = (details.usage?, details.metrics.unwrap_or_default());
    Some(ProcessUsage {
        time: usage.time_ms,
        cpu_millis: usage.cpu_ms,
        resident_bytes: usage.resident_bytes,
        peak_resident_bytes: usage.peak_resident_bytes,
        read_records: tasks.records_in,
        read_bytes: tasks.bytes_in,
        write_records: tasks.records_out,
        write_bytes: tasks.bytes_out,
        // Of another release, perhaps: passed on as it is.
        shuffle: serde_json::from_str(&details.shuffle_json).unwrap_or_default(),
    })
}

/// Prometheus' text: `tls_common::metrics` of every process with the labels `process` and `id`, and before them who
/// could be asked: `tidemill_process_up`, 0 or 1.
pub(crate) fn prometheus(processes: &[ProcessTls]) -> String {
    let labels: Vec<_> =
        processes.iter().map(|process| [("process", process.process.as_str()), ("id", process.id.as_str())]).collect();
    let up = processes.iter().zip(&labels);
    let up = up.map(|(process, labels)| (labels.as_slice(), if process.error.is_none() { 1.0 } else { 0.0 }));
    let help = "1 if the process could be asked for its TLS status.";
    let up = tls_metrics::family("tidemill_process_up", tls_metrics::Kind::Gauge, help, up);
    let endpoints = processes
        .iter()
        .zip(&labels)
        .flat_map(|(process, labels)| process.endpoints.iter().map(|endpoint| (labels.as_slice(), endpoint)));
    up + &tls_metrics::render(endpoints)
}

fn resource(cpu_cores: f64) -> Resource {
    Resource {
        cpu_cores,
        task_heap_memory: -1,
        task_off_heap_memory: -1,
        managed_memory: -1,
        network_memory: -1,
        extended_resources: BTreeMap::new(),
    }
}

fn vertex(details: &VertexDetails, job: &JobSummary) -> Vertex {
    let subtasks: Vec<_> =
        details.subtasks.iter().map(|subtask| TaskStateCount { state: subtask.state, count: 1 }).collect();
    let complete = details.subtasks.iter().all(|subtask| subtask.metrics.is_some());
    let metrics = details.metrics.unwrap_or_default();
    Vertex {
        id: details.id.clone(),
        // All vertices of a job share slots.
        slot_sharing_group_id: job.job_id.clone(),
        name: details.name.clone(),
        max_parallelism: KEY_GROUPS,
        parallelism: details.parallelism,
        status: details.state().name().to_owned(),
        start_time: details.start_time_ms.unwrap_or(-1),
        end_time: details.end_time_ms.unwrap_or(-1),
        duration: duration(details.start_time_ms, details.end_time_ms, job.now_ms),
        tasks: task_counts(&subtasks),
        metrics: VertexMetrics {
            read_bytes: metrics.bytes_in,
            read_bytes_complete: complete,
            write_bytes: metrics.bytes_out,
            write_bytes_complete: complete,
            read_records: metrics.records_in,
            read_records_complete: complete,
            write_records: metrics.records_out,
            write_records_complete: complete,
            accumulated_backpressured_time: 0,
            accumulated_idle_time: 0,
            accumulated_busy_time: 0.0,
        },
    }
}

fn plan(job: &JobSummary, vertices: &[VertexDetails], edges: &[v1::EdgeDetails]) -> Plan {
    let inputs = |vertex: &VertexDetails| {
        let edges = edges.iter().filter(|edge| edge.to == vertex.id);
        (0..)
            .zip(edges)
            .map(|(num, edge)| PlanInput {
                id: edge.from.clone(),
                num,
                exchange: "pipelined_bounded".to_owned(),
                ship_strategy: edge.ship_strategy.clone(),
            })
            .collect()
    };
    let node = |vertex: &VertexDetails| PlanNode {
        id: vertex.id.clone(),
        operator: String::new(),
        parallelism: vertex.parallelism,
        operator_strategy: String::new(),
        description: description(&vertex.operators),
        optimizer_properties: BTreeMap::new(),
        inputs: inputs(vertex),
    };
    Plan {
        jid: job.job_id.clone(),
        name: job.name.clone(),
        kind: JOB_TYPE.to_owned(),
        nodes: vertices.iter().map(node).collect(),
    }
}

/// A chain of operators as a dashboard shows it. It is HTML, and what operators are called comes from a user's script.
fn description(operators: &[String]) -> String {
    let escaped =
        operators.iter().map(|name| name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") + "<br/>");
    escaped.collect::<Vec<_>>().join("+- ")
}

fn task_counts(tasks: &[TaskStateCount]) -> BTreeMap<String, u32> {
    let mut counts = no_tasks();
    for tasks in tasks {
        // A state this release does not know is no state.
        if tasks.state() != TaskState::Unspecified {
            *counts.entry(tasks.state().name().to_owned()).or_default() += tasks.count;
        }
    }
    counts
}

fn no_tasks() -> BTreeMap<String, u32> {
    TASK_STATES.iter().map(|state| ((*state).to_owned(), 0)).collect()
}

/// Milliseconds; -1 for what has not begun.
fn duration(start_ms: Option<i64>, end_ms: Option<i64>, now_ms: i64) -> i64 {
    start_ms.map_or(-1, |start_ms| end_ms.unwrap_or(now_ms).saturating_sub(start_ms))
}

#[cfg(test)]
mod tests {
    use proto::v1::JobState;

    use super::*;

    #[test]
    fn every_state_has_a_place() {
        let states = (1..).map_while(|number| TaskState::try_from(number).ok());
        for state in states {
            assert!(TASK_STATES.contains(&state.name()), "{state:?}");
        }
        let states = (1..).map_while(|number| JobState::try_from(number).ok());
        for state in states {
            assert!(JOB_STATES.contains(&state.name()), "{state:?}");
        }
    }

    #[test]
    fn operators_cannot_bring_their_own_html() {
        let operators = ["Source: a".to_owned(), "<script>&".to_owned()];
        assert_eq!(description(&operators), "Source: a<br/>+- &lt;script&gt;&amp;<br/>");
    }

    #[test]
    fn what_has_not_begun_has_no_duration() {
        assert_eq!(duration(None, None, 10), -1);
        assert_eq!(duration(Some(4), None, 10), 6);
        assert_eq!(duration(Some(4), Some(7), 10), 3);
    }
}
