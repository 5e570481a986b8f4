//! What each TaskManager is told: the task, and for each of its channels the id and the TaskManager at the other end.

use proto::ids::{AttemptId, JobId};
use proto::v1;

use super::execution::{Execution, Task};
use super::plan::{Edge, JobPlan, Ship, digest16};
use crate::resource_manager::registry::Address;

/// Where TaskManagers fetch the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobAddress {
    pub host: String,
    pub port: u16,
}

/// The deployment of `task`. Peers that have no slot yet are left out, so all tasks must be placed before.
pub fn deployment(
    job: JobId,
    plan: &JobPlan,
    execution: &Execution,
    task: &Task,
    blob: &BlobAddress,
) -> v1::TaskDeployment {
    let edges =
        |end: fn(&Edge) -> usize| plan.edges.iter().enumerate().filter(move |(_, edge)| end(edge) == task.vertex);
    let inputs = edges(|edge| edge.to).map(|(index, edge)| {
        let producers = peers(execution.vertex(edge.from), edge.ship);
        edge_deployment(index, producers.iter().map(|peer| (channel_id(index, peer.attempt, task.attempt), peer)))
    });
    let outputs = edges(|edge| edge.from).map(|(index, edge)| {
        let consumers = peers(execution.vertex(edge.to), edge.ship);
        edge_deployment(index, consumers.iter().map(|peer| (channel_id(index, task.attempt, peer.attempt), peer)))
    });
    v1::TaskDeployment {
        job_id: job.to_string(),
        attempt_id: task.attempt.to_string(),
        vertex: wire(task.vertex),
        subtask: wire(task.subtask),
        name: task_name(plan, task),
        slot: task.placement.as_ref().map_or(0, |placement| placement.slot),
        sql_sha256: plan.sql_sha256.clone(),
        parallelism: wire(plan.parallelism),
        fingerprint: plan.fingerprint.clone(),
        blob_host: blob.host.clone(),
        blob_port: blob.port.into(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    }
}

/// `Window (1/2)`.
pub fn task_name(plan: &JobPlan, task: &Task) -> String {
    let (name, parallelism) =
        plan.vertices.get(task.vertex).map_or(("", 0), |vertex| (vertex.name.as_str(), vertex.parallelism));
    format!("{name} ({}/{parallelism})", task.subtask + 1)
}

/// The message form of an address.
pub fn wire_address(address: &Address) -> v1::TaskManagerAddress {
    v1::TaskManagerAddress {
        id: address.id.to_string(),
        host: address.host.clone(),
        rpc_port: address.rpc_port.into(),
        data_port: address.data_port.into(),
    }
}

/// The subtasks at the other end of an edge that a task has a channel to.
fn peers(other_end: &[Task], ship: Ship) -> &[Task] {
    match ship {
        Ship::Hash => other_end,
    }
}

fn edge_deployment<'a>(edge: usize, channels: impl Iterator<Item = ([u8; 16], &'a Task)>) -> v1::EdgeDeployment {
    let channel = |(id, peer): ([u8; 16], &Task)| v1::ChannelDeployment {
        channel_id: id.to_vec(),
        peer: peer.placement.as_ref().map(|placement| wire_address(&placement.address)),
    };
    v1::EdgeDeployment { edge: wire(edge), channels: channels.map(channel).collect() }
}

fn channel_id(edge: usize, producer: AttemptId, consumer: AttemptId) -> [u8; 16] {
    digest16(&[producer.as_bytes(), consumer.as_bytes(), &(edge as u64).to_le_bytes()])
}

/// Counts are bounded by [`MAX_TASKS`](super::plan::MAX_TASKS).
fn wire(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
