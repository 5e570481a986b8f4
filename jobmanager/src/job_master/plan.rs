//! The job graph as the scheduler needs it: names, parallelisms and edges, without the operators.

use proto::ids::AttemptId;
use sha2::{Digest, Sha256};

/// Most subtasks one job may have over all vertices.
pub const MAX_TASKS: usize = 10_000;

/// A job that can be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlan {
    pub name: String,
    /// SHA-256 of the script, 64 hex digits.
    pub sql_sha256: String,
    /// What the script was planned with.
    pub parallelism: usize,
    /// The planner's own digest of the plan, which every TaskManager must come to as well.
    pub fingerprint: String,
    pub vertices: Vec<Vertex>,
    pub edges: Vec<Edge>,
}

/// One step of the job, run by `parallelism` subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    pub name: String,
    pub parallelism: usize,
    pub operators: Vec<String>,
    /// Vertices of different groups do not share slots.
    pub slot_sharing_group: String,
}

/// Data going from one vertex (by index) to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub ship: Ship,
}

/// Which upstream subtasks have a channel to which downstream subtasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ship {
    /// Each to all.
    Hash,
}

/// A graph nobody could deploy: the planner's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    #[error("the job graph has no vertices")]
    Empty,
    #[error("vertex {0} has a parallelism of 0")]
    NoSubtasks(usize),
    #[error("edge {0} ends at a vertex that does not exist")]
    DanglingEdge(usize),
    #[error("the job has {0} subtasks; at most {MAX_TASKS} are allowed: lower the parallelism")]
    TooManyTasks(usize),
}

impl JobPlan {
    /// The plan of a graph that was made from the script `sql_sha256` with `parallelism`; `name` is the submitter's, if
    /// not empty.
    pub fn new(
        graph: &engine::JobGraph,
        name: &str,
        sql_sha256: String,
        parallelism: usize,
    ) -> Result<Self, InvalidPlan> {
        let vertex = |vertex: &engine::Vertex| Vertex {
            name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            operators: vertex.operators.clone(),
            slot_sharing_group: vertex.slot_sharing_group.clone(),
        };
        let edge = |edge: &engine::Edge| Edge {
            from: edge.from,
            to: edge.to,
            ship: match edge.ship {
                engine::Ship::Hash => Ship::Hash,
            },
        };
        let plan = Self {
            name: if name.is_empty() { graph.name.clone() } else { name.to_owned() },
            sql_sha256,
            parallelism,
            fingerprint: graph.fingerprint.clone(),
            vertices: graph.vertices.iter().map(vertex).collect(),
            edges: graph.edges.iter().map(edge).collect(),
        };
        plan.validate()
    }

    /// Slots the job needs: one takes a subtask of every vertex of a slot sharing group.
    pub fn slots_needed(&self) -> usize {
        self.slot_sharing_groups().iter().map(|(_, slots)| slots).sum()
    }

    /// Which of the job's slots a subtask of a vertex takes: those of a group are next to each other.
    pub fn slot_of(&self, vertex: usize, subtask: usize) -> usize {
        let group = self.vertices.get(vertex).map(|vertex| vertex.slot_sharing_group.as_str());
        let groups = self.slot_sharing_groups();
        let before = groups.iter().take_while(|(name, _)| Some(*name) != group);
        before.map(|(_, slots)| slots).sum::<usize>() + subtask
    }

    /// Whether there are several.
    pub fn has_slot_sharing_groups(&self) -> bool {
        self.slot_sharing_groups().len() > 1
    }

    /// In the order of their first vertex, with the slots that each needs.
    fn slot_sharing_groups(&self) -> Vec<(&str, usize)> {
        let mut groups: Vec<(&str, usize)> = Vec::new();
        for Vertex { slot_sharing_group, parallelism, .. } in &self.vertices {
            match groups.iter_mut().find(|(name, _)| name == slot_sharing_group) {
                Some((_, slots)) => *slots = (*slots).max(*parallelism),
                None => groups.push((slot_sharing_group, *parallelism)),
            }
        }
        groups
    }

    /// Checks what the scheduler relies on.
    pub fn validate(self) -> Result<Self, InvalidPlan> {
        if self.vertices.is_empty() {
            return Err(InvalidPlan::Empty);
        }
        if let Some(index) = self.vertices.iter().position(|vertex| vertex.parallelism == 0) {
            return Err(InvalidPlan::NoSubtasks(index));
        }
        let tasks = self.vertices.iter().fold(0_usize, |sum, vertex| sum.saturating_add(vertex.parallelism));
        if tasks > MAX_TASKS {
            return Err(InvalidPlan::TooManyTasks(tasks));
        }
        for (index, edge) in self.edges.iter().enumerate() {
            if edge.from.max(edge.to) >= self.vertices.len() {
                return Err(InvalidPlan::DanglingEdge(index));
            }
        }
        Ok(self)
    }

    /// The 32 hex digits by which REST knows a vertex: the same for the same plan.
    pub fn vertex_id(&self, vertex: usize) -> String {
        AttemptId::from_bytes(digest16(&[self.fingerprint.as_bytes(), &(vertex as u64).to_le_bytes()])).to_string()
    }
}

impl Ship {
    /// As REST shows it.
    pub fn name(self) -> &'static str {
        match self {
            Ship::Hash => "HASH",
        }
    }
}

/// The first 16 bytes of the SHA-256 of `parts`, each with its length before it.
pub(crate) fn digest16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    id
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// `source` subtasks, each with a channel to each of the `window` subtasks.
    pub(crate) fn shuffle(source: usize, window: usize) -> JobPlan {
        let vertex = |name: &str, parallelism| Vertex {
            name: name.to_owned(),
            parallelism,
            operators: vec![name.to_owned()],
            slot_sharing_group: "default".to_owned(),
        };
        JobPlan {
            name: "test".to_owned(),
            sql_sha256: "0".repeat(64),
            parallelism: window,
            fingerprint: "f".to_owned(),
            vertices: vec![vertex("Source", source), vertex("Window", window)],
            edges: vec![Edge { from: 0, to: 1, ship: Ship::Hash }],
        }
    }

    #[test]
    fn a_slot_takes_one_subtask_of_each_vertex() {
        let plan = shuffle(2, 4).validate().unwrap();
        assert_eq!(plan.slots_needed(), 4);
        assert_eq!((plan.slot_of(0, 1), plan.slot_of(1, 1), plan.slot_of(1, 3)), (1, 1, 3));
    }

    #[test]
    fn groups_do_not_share_slots() {
        let mut plan = shuffle(2, 4);
        plan.vertices[0].slot_sharing_group = "sources".to_owned();
        assert_eq!(plan.slots_needed(), 6);
        assert_eq!((plan.slot_of(0, 0), plan.slot_of(0, 1), plan.slot_of(1, 0), plan.slot_of(1, 3)), (0, 1, 2, 5));
    }

    #[test]
    fn graphs_that_contradict_themselves_are_refused() {
        assert_eq!(shuffle(0, 1).validate(), Err(InvalidPlan::NoSubtasks(0)));
        assert_eq!(shuffle(MAX_TASKS, 1).validate(), Err(InvalidPlan::TooManyTasks(MAX_TASKS + 1)));
        let mut plan = shuffle(1, 2);
        plan.edges = vec![Edge { from: 0, to: 2, ship: Ship::Hash }];
        assert_eq!(plan.validate(), Err(InvalidPlan::DanglingEdge(0)));
    }
}
