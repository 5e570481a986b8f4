//! The canonical text of a plan, and its hash: what two processes compare before they run parts of
//! one job.

use std::fmt::Write;

use datafusion::DATAFUSION_VERSION;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use sha2::{Digest, Sha256};

use super::{PlanOptions, SourceTable};
use crate::exchange::key_group::HASH_VERSION;
use crate::script::Script;

/// Everything that decides what a job does, except its vertices, which follow from it.
pub(super) fn canonical(
    physical: &std::sync::Arc<dyn ExecutionPlan>,
    script: &Script,
    source: &SourceTable,
    options: &PlanOptions,
) -> String {
    let mut text =
        format!("engine {} datafusion {DATAFUSION_VERSION} hash {HASH_VERSION}\n", env!("CARGO_PKG_VERSION"));
    let tables =
        [&source.table, &script.sink].map(|table| format!("{} {:?} {}", table.name, table.schema, table.options));
    let plan = displayable(physical.as_ref());
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "parallelism {}\nsource {} {}\nsink {}\n{:?}\n{}",
        options.parallelism,
        tables[0],
        source.source.canonical(),
        tables[1],
        physical.schema(),
        plan.indent(true)
    );
    text
}

/// SHA-256 in lower-case hex.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
