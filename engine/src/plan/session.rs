//! The DataFusion session that plans a script, with the optimiser rules that a stream can live
//! with.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{LogicalPlan, Partitioning, Repartition, WriteOp};
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;

use super::determinism;
use super::scan::ScriptTable;
use crate::error::PlanError;
use crate::script::Script;

/// Makes one aggregation into two, one below the other, for `count(DISTINCT ...)`: nothing for a
/// windowed stream.
const UNWANTED_RULE: &str = "single_distinct_aggregation_to_group_by";

/// The physical plan of the `SELECT` of a script, as one partition, with columns as the sink has
/// them.
pub(super) async fn physical_plan(script: &Script) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    let rules = Optimizer::new().rules.into_iter().filter(|rule| rule.name() != UNWANTED_RULE).collect();
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(1))
        .with_optimizer_rules(rules)
        // The other physical rules sort, repartition and check for one machine and a batch.
        .with_physical_optimizer_rules(vec![Arc::new(CombinePartialFinalAggregate::new())])
        .build();
    let context = SessionContext::new_with_state(state);
    for table in script.tables.values() {
        context.register_table(table.name.as_str(), Arc::new(ScriptTable(Arc::clone(table))))?;
    }
    let state = context.state();
    let logical = insert_input(&state, script).await?;
    let logical = logical.transform_up(exchange).map(|plan| plan.data)?;
    Ok(state.create_physical_plan(&logical).await?)
}

/// The rows that the `INSERT` of a script inserts, before optimisation. Refuses what is not
/// deterministic.
pub(crate) async fn insert_input(state: &SessionState, script: &Script) -> Result<LogicalPlan, PlanError> {
    let plan = state.statement_to_plan(Statement::Statement(Box::new(script.insert.clone()))).await?;
    let LogicalPlan::Dml(dml) = plan else {
        return Err(PlanError::Unsupported("this INSERT".to_owned()));
    };
    if dml.op != WriteOp::Insert(InsertOp::Append) {
        return Err(PlanError::Unsupported(format!("{}: a stream only appends", dml.op)));
    }
    determinism::check(&dml.input)?;
    Ok(Arc::unwrap_or_clone(dml.input))
}

/// `DISTRIBUTE BY`, which DataFusion does not plan physically, as a hash partitioning, which it
/// does.
fn exchange(plan: LogicalPlan) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Repartition(Repartition { input, partitioning_scheme: Partitioning::DistributeBy(key) }) => {
            Transformed::yes(LogicalPlan::Repartition(Repartition {
                input,
                partitioning_scheme: Partitioning::Hash(key, 1),
            }))
        }
        other => Transformed::no(other),
    })
}
