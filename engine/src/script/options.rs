//! Table options: read with their type, and complained about if nobody reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Expr, SqlOption, UnaryOperator, Value};

use super::duration;
use crate::error::PlanError;

/// The `WITH (...)` of one table, in the order of the keys.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    table: String,
    connector: String,
    values: BTreeMap<String, String>,
}

impl Options {
    pub(super) fn parse(table: &str, options: Vec<SqlOption>) -> Result<Self, PlanError> {
        let mut values = BTreeMap::new();
        for option in options {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(PlanError::table(table, format!("option '{option}' is not 'key' = 'value'")));
            };
            let key = key.value;
            let value = literal(&value)
                .ok_or_else(|| PlanError::table(table, format!("option '{key}': '{value}' is not a string")))?;
            if values.insert(key.clone(), value).is_some() {
                return Err(PlanError::table(table, format!("option '{key}' is given twice")));
            }
        }
        let connector =
            values.remove("connector").ok_or_else(|| PlanError::table(table, "option 'connector' is missing"))?;
        Ok(Self { table: table.to_owned(), connector, values })
    }

    /// The value of `connector`.
    pub(crate) fn connector(&self) -> &str {
        &self.connector
    }

    pub(crate) fn reader(&self) -> OptionReader<'_> {
        OptionReader { options: self, known: Vec::new() }
    }
}

/// The canonical text of the options, for the plan's fingerprint.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connector={:?}", self.connector)?;
        self.values.iter().try_for_each(|(key, value)| write!(f, ", {key}={value:?}"))
    }
}

/// Hands out options and remembers which exist; [`Self::finish`] refuses the rest.
#[derive(Debug)]
pub(crate) struct OptionReader<'a> {
    options: &'a Options,
    known: Vec<String>,
}

impl OptionReader<'_> {
    /// The value as text, if the script gives it.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        self.options.values.get(key).cloned()
    }

    /// The value as text.
    pub(crate) fn required(&mut self, key: &str) -> Result<String, PlanError> {
        self.text(key).ok_or_else(|| self.error(format!("option '{key}' is missing")))
    }

    /// The value parsed by `FromStr`; `expected` says what it should have been.
    pub(crate) fn get<T: FromStr>(&mut self, key: &str, expected: &str) -> Result<Option<T>, PlanError> {
        self.parse(key, expected, |text| text.parse().ok())
    }

    /// A duration such as `24 h`.
    pub(crate) fn duration(&mut self, key: &str) -> Result<Option<Duration>, PlanError> {
        self.parse(key, "a duration such as '24 h', '30 s' or '500 ms'", duration::parse)
    }

    /// The value read by `parser`; `expected` says what it should have been.
    pub(crate) fn parse<T>(
        &mut self,
        key: &str,
        expected: &str,
        parser: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, PlanError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match parser(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(format!("option '{key}' = '{text}' is not {expected}"))),
        }
    }

    /// Refuses every option that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), PlanError> {
        match self.options.values.keys().find(|key| !self.known.contains(key)) {
            None => Ok(()),
            Some(unknown) => Err(self.error(format!(
                "unknown option '{unknown}' of connector '{}'; known here: {}",
                self.options.connector,
                self.known.join(", ")
            ))),
        }
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> PlanError {
        PlanError::table(&self.options.table, message)
    }
}

/// A quoted or bare literal as text.
fn literal(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some(text.clone()),
            Value::Boolean(flag) => Some(flag.to_string()),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => literal(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}
