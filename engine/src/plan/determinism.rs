//! Refuses functions whose value depends on when or where they are evaluated: every process plans
//! the script for itself, a restarted job reads its input again, and all have to agree.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::error::PlanError;

pub(super) fn check(plan: &LogicalPlan) -> Result<(), PlanError> {
    let mut culprit = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                let Some(name) = unstable(expression) else { return Ok(TreeNodeRecursion::Continue) };
                culprit = Some(name.to_owned());
                Ok(TreeNodeRecursion::Stop)
            })
        })
    })?;
    match culprit {
        None => Ok(()),
        Some(name) => Err(PlanError::Unsupported(format!(
            "{name}(): its value depends on when it is called, so a job could not be repeated"
        ))),
    }
}

fn unstable(expression: &Expr) -> Option<&str> {
    let Expr::ScalarFunction(call) = expression else { return None };
    (call.func.signature().volatility != Volatility::Immutable).then(|| call.func.name())
}
