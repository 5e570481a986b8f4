//! The job graph: what a script becomes, seen from outside the engine.
//!
//! Vertices are chains of operators that run in one task; edges ship batches between tasks. The
//! JobManager and every TaskManager plan the same script for themselves and compare
//! [`JobGraph::fingerprint`]: no executable plan ever crosses a wire.

use std::fmt;

use crate::plan::VertexPlan;

/// One script, planned. Made by [`crate::plan()`].
#[derive(Debug, Clone)]
pub struct JobGraph {
    /// A readable default name, in Flink's spelling: `insert-into_<sink>`.
    pub name: String,
    /// In topological order, sources first; `vertices[i].id == VertexId(i)`.
    pub vertices: Vec<Vertex>,
    /// In the order of their upstream vertex.
    pub edges: Vec<Edge>,
    /// SHA-256, in lower-case hex, of a canonical text of this graph, its expressions, its
    /// connector options and the engine's version. Equal fingerprints mean interchangeable graphs.
    pub fingerprint: String,
}

impl JobGraph {
    /// Indices into [`Self::edges`] that end at `vertex`, in the order `run_task` expects its
    /// inputs.
    pub fn inputs(&self, vertex: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges.iter().enumerate().filter(move |(_, edge)| edge.to == vertex).map(|(index, _)| index)
    }

    /// Indices into [`Self::edges`] that start at `vertex`, in the order `run_task` expects its
    /// outputs.
    pub fn outputs(&self, vertex: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges.iter().enumerate().filter(move |(_, edge)| edge.from == vertex).map(|(index, _)| index)
    }
}

/// The position of a vertex in [`JobGraph::vertices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

impl fmt::Display for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A chain of operators that runs as one task, `parallelism` times.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// This vertex's position in the graph.
    pub id: VertexId,
    /// The operators' names, joined: `Source: flights -> Watermark -> Calc`.
    pub name: String,
    /// How many subtasks, `1..=`[`crate::KEY_GROUPS`].
    pub parallelism: usize,
    /// The operators' names, in the order rows pass them.
    pub operators: Vec<String>,
    /// Vertices of different groups do not share task slots.
    pub slot_sharing_group: String,
    pub(crate) plan: VertexPlan,
}

/// A connection between two vertices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Index of the upstream vertex.
    pub from: usize,
    /// Index of the downstream vertex.
    pub to: usize,
    /// Which upstream subtask sends to which downstream subtask.
    pub ship: Ship,
}

/// How rows are spread over an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ship {
    /// Every upstream subtask is connected to every downstream subtask; a row goes to the owner of
    /// its key's key group.
    Hash,
}
