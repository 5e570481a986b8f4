//! Takes a physical plan of DataFusion apart: a chain of nodes from the sink down to one source
//! becomes a chain of our operators.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use super::ReadPlan;
use super::event_time::Lineage;
use super::scan::ScanExec;
use crate::connectors::SourceTable;
use crate::error::PlanError;
use crate::exchange::codec::is_flat;
use crate::exchange::key_group::is_key;
use crate::operators::window::{Aggregate, Tumble};
use crate::operators::{Filter, OperatorPlan, Project, WindowPlan};
use crate::script::{MAX_EXPRESSION_DEPTH, Script};

/// A query as a chain, in the order rows pass it.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: SourceTable,
    pub(super) read: ReadPlan,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) enum Step {
    Operator {
        plan: OperatorPlan,
        name: String,
    },
    /// A hash exchange; without a key, all rows go to one subtask.
    Exchange {
        schema: SchemaRef,
        key: Vec<Arc<dyn PhysicalExpr>>,
    },
}

pub(super) fn harvest(root: &Arc<dyn ExecutionPlan>, script: &Script) -> Result<Pipeline, PlanError> {
    let mut nodes = Vec::new();
    let mut node = root;
    let scan = loop {
        if let Some(scan) = node.downcast_ref::<ScanExec>() {
            break scan;
        }
        nodes.push(node.as_ref());
        node = match node.children().as_slice() {
            [only] => only,
            [] => return Err(PlanError::Unsupported("a query that reads no table".to_owned())),
            _ => return Err(PlanError::Unsupported(format!("{}: a query reads one table", describe(node.as_ref())))),
        };
    };
    if scan.table.name == script.sink.name {
        return Err(PlanError::Unsupported(format!("reading from '{}', the table that is written", scan.table.name)));
    }
    let source = SourceTable::open(&scan.table)?;
    let names = scan.schema();
    let event_time = source.event_time.as_ref().and_then(|time| names.index_of(&time.column).ok());
    let read = ReadPlan { source: source.clone(), projection: scan.projection.clone(), event_time };
    let lineage = Lineage::of_source(names.fields().len(), event_time);
    let mut harvest = Harvest { source: &source, lineage, steps: Vec::new(), aggregated: false };
    for node in nodes.into_iter().rev() {
        harvest.node(node)?;
    }
    let steps = harvest.steps;
    Ok(Pipeline { source, read, steps })
}

struct Harvest<'a> {
    source: &'a SourceTable,
    lineage: Lineage,
    steps: Vec<Step>,
    aggregated: bool,
}

impl Harvest<'_> {
    fn node(&mut self, node: &dyn ExecutionPlan) -> Result<(), PlanError> {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            self.filter(filter)
        } else if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            self.project(projection)
        } else if let Some(exchange) = node.downcast_ref::<RepartitionExec>() {
            self.exchange(exchange)
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            self.aggregate(aggregate)
        } else {
            Err(PlanError::Unsupported(describe(node)))
        }
    }

    fn filter(&mut self, filter: &FilterExec) -> Result<(), PlanError> {
        if filter.fetch().is_some() {
            return Err(PlanError::Unsupported("LIMIT".to_owned()));
        }
        check_depth(filter.predicate())?;
        let projection = filter.projection().as_ref().map(|projection| projection.to_vec());
        if let Some(projection) = &projection {
            self.lineage.select(projection);
        }
        self.calc(OperatorPlan::Filter(Filter { predicate: Arc::clone(filter.predicate()), projection }));
        Ok(())
    }

    fn project(&mut self, projection: &ProjectionExec) -> Result<(), PlanError> {
        let expressions: Vec<_> = projection.expr().iter().map(|projected| Arc::clone(&projected.expr)).collect();
        expressions.iter().try_for_each(check_depth)?;
        self.lineage.project(&expressions)?;
        self.calc(OperatorPlan::Project(Project { expressions, schema: projection.schema() }));
        Ok(())
    }

    fn calc(&mut self, plan: OperatorPlan) {
        self.steps.push(Step::Operator { plan, name: "Calc".to_owned() });
    }

    fn exchange(&mut self, exchange: &RepartitionExec) -> Result<(), PlanError> {
        let Partitioning::Hash(key, _) = exchange.partitioning() else {
            return Err(PlanError::Unsupported(describe(exchange)));
        };
        self.ship(exchange.input().schema(), key.clone())
    }

    fn ship(&mut self, schema: SchemaRef, key: Vec<Arc<dyn PhysicalExpr>>) -> Result<(), PlanError> {
        if let Some(field) = schema.fields().iter().find(|field| !is_flat(field.data_type())) {
            return Err(PlanError::Unsupported(format!(
                "column '{}' of {} in an exchange",
                field.name(),
                field.data_type()
            )));
        }
        for expression in &key {
            let data_type = expression.data_type(&schema)?;
            if !is_key(&data_type) {
                return Err(PlanError::Unsupported(format!("{expression} of {data_type} as a key")));
            }
        }
        self.steps.push(Step::Exchange { schema, key });
        Ok(())
    }

    fn aggregate(&mut self, aggregate: &AggregateExec) -> Result<(), PlanError> {
        if std::mem::replace(&mut self.aggregated, true) {
            return Err(PlanError::Unsupported("an aggregation of an aggregation".to_owned()));
        }
        let group = aggregate.group_expr();
        if group.is_true_no_grouping() || !group.is_single() {
            return Err(PlanError::Unsupported(
                "an aggregation without GROUP BY, or with GROUPING SETS, CUBE or ROLLUP".to_owned(),
            ));
        }
        if !matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned)
            || aggregate.limit_options().is_some()
        {
            return Err(PlanError::Unsupported(describe(aggregate)));
        }
        let keys = group.input_exprs();
        let window = self.window(&keys)?;
        let others =
            keys.iter().enumerate().filter(|(index, _)| window.as_ref().is_none_or(|window| window.key != *index));
        let input = aggregate.input().schema();
        self.ship(Arc::clone(&input), others.map(|(_, key)| Arc::clone(key)).collect())?;
        let aggregates: Vec<Aggregate> = aggregate
            .aggr_expr()
            .iter()
            .zip(aggregate.filter_expr())
            .map(|(function, filter)| {
                if !function.order_bys().is_empty() {
                    return Err(PlanError::Unsupported(format!("{}: ORDER BY in an aggregate", function.name())));
                }
                Ok(Aggregate {
                    function: Arc::clone(function),
                    arguments: function.expressions(),
                    filter: filter.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        for expression in keys
            .iter()
            .chain(aggregates.iter().flat_map(|aggregate| aggregate.arguments.iter().chain(&aggregate.filter)))
        {
            check_depth(expression)?;
        }
        let name = match (&window, &self.source.event_time) {
            (Some(window), Some(time)) => format!("Window(tumble({}, {}))", time.column, window.readable_size()),
            _ => "GroupAggregate".to_owned(),
        };
        let group_schema = group.group_schema(&input)?;
        let plan = WindowPlan { keys, group_schema, aggregates, window, schema: aggregate.schema() };
        self.lineage.aggregate(plan.schema.fields().len());
        self.steps.push(Step::Operator { plan: OperatorPlan::Window(Arc::new(plan)), name });
        Ok(())
    }

    /// The window of a `GROUP BY`. Without one, groups are complete only when the input ends: fine
    /// for a table that ends and has no event time.
    fn window(&self, keys: &[Arc<dyn PhysicalExpr>]) -> Result<Option<Tumble>, PlanError> {
        let table = &self.source.table.name;
        if let Some(tumble) = self.lineage.tumble(keys)? {
            return Ok(Some(tumble));
        }
        match &self.source.event_time {
            Some(time) => Err(PlanError::Unsupported(format!(
                "GROUP BY over the event time of '{table}' without a window: add date_bin(interval '1 day', {0}) or tumble({0}, interval '1 day') to the GROUP BY",
                time.column
            ))),
            None if !self.source.source.bounded() => Err(PlanError::Unsupported(format!(
                "GROUP BY without a window over '{table}', which never ends: set 'watermark.column' and group by date_bin(interval '1 day', that column)"
            ))),
            None => Ok(None),
        }
    }
}

/// Expressions of nested queries merge, and evaluating them recurses on a task's stack.
fn check_depth(expression: &Arc<dyn PhysicalExpr>) -> Result<(), PlanError> {
    fn deep(expression: &Arc<dyn PhysicalExpr>, left: usize) -> bool {
        left == 0 || expression.children().into_iter().any(|child| deep(child, left - 1))
    }
    if deep(expression, MAX_EXPRESSION_DEPTH) {
        return Err(PlanError::Unsupported(format!("an expression nested more than {MAX_EXPRESSION_DEPTH} deep")));
    }
    Ok(())
}

/// A node of DataFusion in the words of SQL.
fn describe(node: &dyn ExecutionPlan) -> String {
    let name = node.name();
    let clause = match name {
        "SortExec" | "SortPreservingMergeExec" => "ORDER BY",
        "GlobalLimitExec" | "LocalLimitExec" => "LIMIT",
        "WindowAggExec" | "BoundedWindowAggExec" => "OVER",
        "UnionExec" | "InterleaveExec" => "UNION",
        "EmptyExec" | "PlaceholderRowExec" | "DataSourceExec" => "a query that reads no table",
        name if name.ends_with("JoinExec") => "JOIN",
        name => name,
    };
    clause.to_owned()
}
