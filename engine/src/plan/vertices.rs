//! Cuts a pipeline at its exchanges: each piece is a vertex.

use std::sync::Arc;

use super::harvest::{Pipeline, Step};
use super::{InputPlan, OutputPlan, VertexPlan, fingerprint};
use crate::connectors::SinkTable;
use crate::error::PlanError;
use crate::exchange::compression::Compression;
use crate::graph::{Edge, JobGraph, Ship, Vertex, VertexId};
use crate::operators::OperatorPlan;

/// A vertex in the making.
struct Piece {
    input: InputPlan,
    slot_sharing_group: String,
    /// Of the exchange behind it, if the script says.
    compression: Option<Compression>,
    parallelism: usize,
    plans: Vec<OperatorPlan>,
    names: Vec<String>,
}

impl Piece {
    fn add(&mut self, plan: OperatorPlan, name: String) {
        self.plans.push(plan);
        // A filter and a projection are one Calc to the reader.
        if self.names.last() != Some(&name) {
            self.names.push(name);
        }
    }

    fn finish(self, id: usize, output: OutputPlan) -> Vertex {
        Vertex {
            id: VertexId(id),
            name: self.names.join(" -> "),
            parallelism: self.parallelism,
            operators: self.names,
            slot_sharing_group: self.slot_sharing_group,
            plan: VertexPlan { input: self.input, operators: self.plans, output },
        }
    }
}

pub(super) fn assemble(
    pipeline: Pipeline,
    sink: SinkTable,
    parallelism: usize,
    canonical: &str,
) -> Result<JobGraph, PlanError> {
    let Pipeline { source, read, steps } = pipeline;
    let (source_name, source_compression) = (source.table.name.clone(), source.compression);
    let mut names = vec![format!("Source: {}", source.table.name)];
    names.extend(read.event_time.map(|_| "Watermark".to_owned()));
    let mut piece = Piece {
        slot_sharing_group: source.slot_sharing_group,
        compression: source.compression,
        parallelism: parallelism.min(source.source.max_parallelism()),
        input: InputPlan::Source(read),
        plans: Vec::new(),
        names,
    };
    let mut vertices = Vec::new();
    for step in steps {
        match step {
            Step::Operator { plan, name } => piece.add(plan, name),
            Step::Exchange { schema, key } => {
                // Without a key there is one group of rows, hence one subtask.
                let parallelism = if key.is_empty() { 1 } else { parallelism };
                let next = Piece {
                    input: InputPlan::Exchange(Arc::clone(&schema)),
                    slot_sharing_group: sink.slot_sharing_group.clone(),
                    compression: sink.compression,
                    parallelism,
                    plans: Vec::new(),
                    names: Vec::new(),
                };
                let done = std::mem::replace(&mut piece, next);
                let compression = done.compression;
                vertices.push(done.finish(vertices.len(), OutputPlan::Exchange { schema, key, compression }));
            }
        }
    }
    // Of the exchanges, the first is the source's, and the others are the sink's.
    let exchanges = vertices.len();
    for (table, chosen, has) in
        [(&source_name, source_compression, exchanges > 0), (&sink.name, sink.compression, exchanges > 1)]
    {
        if chosen.is_some() && !has {
            return Err(PlanError::table(
                table,
                "option 'exchange.compression': the query has no exchange that it would hold for; the source's holds \
                 for the first one, the sink's for those behind it",
            ));
        }
    }
    let SinkTable { name, sink, .. } = sink;
    piece.names.push(format!("Sink: {name}"));
    vertices.push(piece.finish(vertices.len(), OutputPlan::Sink { table: name.clone(), sink }));
    let edges = (1..vertices.len()).map(|to| Edge { from: to - 1, to, ship: Ship::Hash }).collect();
    Ok(JobGraph { name: format!("insert-into_{name}"), vertices, edges, fingerprint: fingerprint::digest(canonical) })
}
