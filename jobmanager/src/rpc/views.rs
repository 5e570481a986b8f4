//! What the cluster looks like in the Dispatcher's answers.

use std::collections::BTreeMap;

use proto::ids::JobId;
use proto::v1;
use proto::v1::JobState;

use crate::clock::Now;
use crate::cluster::Cluster;
use crate::job_master::deployment::wire_address;
use crate::job_master::execution::{Task, aggregate_state, sum_metrics};
use crate::job_master::scheduler::Scheduler;
use crate::resource_manager::registry::Registration;

pub(super) fn summary(job: JobId, scheduler: &Scheduler, now: Now) -> v1::JobSummary {
    let times = scheduler.timestamps();
    let last_modification_ms = times.values().max().copied().unwrap_or_default();
    let mut tasks: BTreeMap<i32, u32> = BTreeMap::new();
    scheduler.execution().tasks().for_each(|task| *tasks.entry(task.state.into()).or_default() += 1);
    v1::JobSummary {
        job_id: job.to_string(),
        name: scheduler.plan().name.clone(),
        state: scheduler.state().into(),
        start_time_ms: times.values().min().copied().unwrap_or_default(),
        end_time_ms: scheduler.state().is_terminal().then_some(last_modification_ms),
        last_modification_ms,
        tasks: tasks.into_iter().map(|(state, count)| v1::TaskStateCount { state, count }).collect(),
        now_ms: now.unix_ms,
    }
}

pub(super) fn details(job: JobId, scheduler: &Scheduler, now: Now) -> v1::DescribeJobResponse {
    let plan = scheduler.plan();
    let timestamps = scheduler.timestamps().iter();
    let edge = |edge: &crate::job_master::plan::Edge| v1::EdgeDetails {
        from: plan.vertex_id(edge.from),
        to: plan.vertex_id(edge.to),
        ship_strategy: edge.ship.name().to_owned(),
    };
    v1::DescribeJobResponse {
        job: Some(summary(job, scheduler, now)),
        timestamps: timestamps.map(|(state, at)| v1::JobStateTime { state: (*state).into(), time_ms: *at }).collect(),
        vertices: (0..plan.vertices.len()).map(|vertex| vertex_details(scheduler, vertex)).collect(),
        edges: plan.edges.iter().map(edge).collect(),
        failure: scheduler.failure().map(|failure| v1::Failure {
            time_ms: failure.unix_ms,
            cause: failure.cause.clone(),
            task: failure.task.clone().unwrap_or_default(),
            task_manager_id: failure.task_manager.as_ref().map(ToString::to_string).unwrap_or_default(),
        }),
        fingerprint: plan.fingerprint.clone(),
        sql_sha256: plan.sql_sha256.clone(),
    }
}

pub(super) fn overview(cluster: &Cluster) -> v1::OverviewResponse {
    let jobs = cluster.jobs().newest_first();
    let count = |states: &[JobState]| wire(jobs.iter().filter(|(_, job)| states.contains(&job.state())).count());
    v1::OverviewResponse {
        task_managers: wire(cluster.registry().iter().count()),
        slots_total: wire(cluster.slots().total()),
        slots_available: wire(cluster.slots().free()),
        jobs_running: wire(jobs.iter().filter(|(_, job)| !job.state().is_terminal()).count()),
        jobs_finished: count(&[JobState::Finished]),
        jobs_cancelled: count(&[JobState::Canceled]),
        jobs_failed: count(&[JobState::Failed]),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

pub(super) fn task_managers(cluster: &Cluster) -> Vec<v1::TaskManagerDetails> {
    let jobs = cluster.jobs().newest_first();
    let details = |registration: &Registration| {
        let all = jobs.iter().flat_map(|(_, job)| job.execution().tasks());
        let tasks: Vec<&Task> =
            all.filter(|task| task.is_on(registration.instance) && !task.state.is_terminal()).collect();
        v1::TaskManagerDetails {
            address: Some(wire_address(&registration.introduction.address)),
            slots: registration.introduction.slots,
            free_slots: wire(cluster.slots().free_of(registration.instance)),
            assigned_tasks: wire(tasks.len()),
            last_heartbeat_ms: registration.last_heartbeat.unix_ms,
            hardware: Some(registration.introduction.hardware),
            shuffle_json: registration.report.as_ref().map(|report| report.shuffle_json.clone()).unwrap_or_default(),
            usage: registration.report.as_ref().and_then(|report| report.usage),
            metrics: Some(sum_metrics(tasks)),
        }
    };
    cluster.registry().iter().map(details).collect()
}

/// The TLS endpoints of every TaskManager, as of its last heartbeat.
pub(super) fn task_manager_tls(cluster: &Cluster) -> Vec<v1::ProcessTls> {
    let process = |registration: &Registration| {
        let id = registration.introduction.address.id.to_string();
        let (endpoints_json, error) = match &registration.report {
            Some(report) => (report.endpoints_json.clone(), String::new()),
            None => (String::new(), "no heartbeat yet".to_owned()),
        };
        v1::ProcessTls { process: "taskmanager".to_owned(), id, endpoints_json, error }
    };
    cluster.registry().iter().map(process).collect()
}

fn vertex_details(scheduler: &Scheduler, vertex: usize) -> v1::VertexDetails {
    let (plan, tasks) = (scheduler.plan(), scheduler.execution().vertex(vertex));
    let planned = plan.vertices.get(vertex);
    let has_ended = tasks.iter().all(|task| task.state.is_terminal());
    v1::VertexDetails {
        id: plan.vertex_id(vertex),
        name: planned.map(|planned| planned.name.clone()).unwrap_or_default(),
        parallelism: wire(tasks.len()),
        state: aggregate_state(tasks).into(),
        start_time_ms: tasks.iter().filter_map(|task| task.start_ms).min(),
        end_time_ms: tasks.iter().filter_map(|task| task.end_ms).max().filter(|_| has_ended),
        metrics: Some(sum_metrics(tasks)),
        subtasks: tasks.iter().map(subtask_details).collect(),
        operators: planned.map(|planned| planned.operators.clone()).unwrap_or_default(),
    }
}

fn subtask_details(task: &Task) -> v1::SubtaskDetails {
    let address = task.placement.as_ref().map(|placement| &placement.address);
    v1::SubtaskDetails {
        subtask: wire(task.subtask),
        attempt_id: task.attempt.to_string(),
        state: task.state.into(),
        task_manager_id: address.map(|address| address.id.to_string()).unwrap_or_default(),
        host: address.map(|address| address.host.clone()).unwrap_or_default(),
        start_time_ms: task.start_ms,
        end_time_ms: task.end_ms,
        metrics: task.metrics,
    }
}

/// Counts of tasks, slots and jobs are bounded far below 2³².
fn wire(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
