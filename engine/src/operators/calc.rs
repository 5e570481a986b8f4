//! Stateless operators: a filter, a projection. Shown together as `Calc`, as in Flink.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;

use super::{Operator, columns};
use crate::error::TaskError;

/// Keeps the rows for which the predicate is true, and then some of their columns.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) predicate: Arc<dyn PhysicalExpr>,
    pub(crate) projection: Option<Vec<usize>>,
}

/// Computes columns.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) expressions: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) schema: SchemaRef,
}

impl Operator for Filter {
    fn batch(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskError> {
        let keep = self.predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
        let batch = match &self.projection {
            Some(projection) => batch.project(projection)?,
            None => batch,
        };
        // NULL is not true.
        Ok(vec![filter_record_batch(&batch, as_boolean_array(&keep)?)?])
    }

    fn watermark(&mut self, _watermark: i64) -> Result<Vec<RecordBatch>, TaskError> {
        Ok(Vec::new())
    }
}

impl Operator for Project {
    fn batch(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = columns(&self.expressions, &batch)?;
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?])
    }

    fn watermark(&mut self, _watermark: i64) -> Result<Vec<RecordBatch>, TaskError> {
        Ok(Vec::new())
    }
}
