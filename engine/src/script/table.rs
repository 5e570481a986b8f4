//! `CREATE TABLE name (columns) WITH (options)`: names, types and options of one table.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, DataType as SqlType, ExactNumberInfo, Ident, ObjectName,
    TimezoneInfo,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::{Options, error};
use crate::error::PlanError;

/// A table of the script. What it connects to is decided when the query says how it is used.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    pub(crate) options: Options,
}

impl Table {
    pub(super) fn define(create: CreateTable, at: Location) -> Result<Self, PlanError> {
        let name = table_name(&create.name, at)?;
        let plain = CreateTableBuilder::new(create.name.clone())
            .columns(create.columns.clone())
            .table_options(create.table_options.clone())
            .build();
        if plain != create {
            return Err(error(
                at,
                format!("CREATE TABLE {name}: only CREATE TABLE name (columns) WITH (options) is supported"),
            ));
        }
        let CreateTableOptions::With(options) = create.table_options else {
            return Err(PlanError::table(&name, "WITH ('connector' = '...', ...) is missing"));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(create.columns.len());
        for column in &create.columns {
            let field = field(column).map_err(|message| PlanError::table(&name, message))?;
            if fields.iter().any(|other| other.name() == field.name()) {
                return Err(PlanError::table(&name, format!("column '{}' is defined twice", field.name())));
            }
            fields.push(field);
        }
        if fields.is_empty() {
            return Err(PlanError::table(&name, "no columns"));
        }
        Ok(Self { options: Options::parse(&name, options)?, schema: Arc::new(Schema::new(fields)), name })
    }
}

/// The name of a table: one part, in lower case unless quoted.
pub(super) fn table_name(name: &ObjectName, at: Location) -> Result<String, PlanError> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(identifier),
        _ => None,
    }
    .ok_or_else(|| error(at, format!("'{name}' is not a table name: catalogs and schemas are not supported")))
}

/// An identifier as the query sees it.
fn identifier(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn field(column: &ColumnDef) -> Result<Field, String> {
    let name = identifier(&column.name);
    let mut nullable = true;
    for option in &column.options {
        match option.option {
            ColumnOption::Null => nullable = true,
            ColumnOption::NotNull => nullable = false,
            _ => return Err(format!("column '{name}': '{}' is not supported, only NULL and NOT NULL", option.option)),
        }
    }
    Ok(Field::new(&name, data_type(&column.data_type).map_err(|e| format!("column '{name}': {e}"))?, nullable))
}

fn data_type(sql: &SqlType) -> Result<DataType, String> {
    Ok(match sql {
        SqlType::String(None) | SqlType::Varchar(None) => DataType::Utf8,
        SqlType::Int(None) | SqlType::Integer(None) => DataType::Int32,
        SqlType::BigInt(None) => DataType::Int64,
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::Date => DataType::Date32,
        // Six digits is the SQL standard's and Flink's default.
        SqlType::Timestamp(digits, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            let unit = match digits.unwrap_or(6) {
                0 => TimeUnit::Second,
                1..=3 => TimeUnit::Millisecond,
                4..=6 => TimeUnit::Microsecond,
                7..=9 => TimeUnit::Nanosecond,
                more => return Err(format!("TIMESTAMP({more}): at most 9 fractional digits")),
            };
            DataType::Timestamp(unit, None)
        }
        other => {
            return Err(format!(
                "type {other} is not supported: use STRING, VARCHAR, INT, BIGINT, DOUBLE, BOOLEAN, DATE or TIMESTAMP(p)"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::script::Script;

    fn define(columns: &str, rest: &str) -> Result<Script, PlanError> {
        Script::parse(&format!("CREATE TABLE t ({columns}) {rest}; INSERT INTO t SELECT 1"))
    }

    #[test]
    fn maps_types() {
        let script = define(
            "a STRING, b VARCHAR, c INT, d INTEGER, e BIGINT, f DOUBLE, g DOUBLE PRECISION, h BOOLEAN, i DATE, j TIMESTAMP, \
             k TIMESTAMP(0), L TIMESTAMP(3), m TIMESTAMP(9), \"N\" INT NOT NULL",
            "WITH ('connector' = 'print')",
        )
        .unwrap();
        let schema = &script.sink.schema;
        let types: Vec<String> = schema.fields().iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(
            types,
            [
                "Utf8",
                "Utf8",
                "Int32",
                "Int32",
                "Int64",
                "Float64",
                "Float64",
                "Boolean",
                "Date32",
                "Timestamp(µs)",
                "Timestamp(s)",
                "Timestamp(ms)",
                "Timestamp(ns)",
                "Int32"
            ]
        );
        assert_eq!((schema.field(11).name().as_str(), schema.field(13).name().as_str()), ("l", "N"));
    }

    #[test]
    fn refuses_what_would_be_ignored() {
        let with = "WITH ('connector' = 'print')";
        for (columns, rest, expected) in [
            ("a VARCHAR(10)", with, "VARCHAR(10) is not supported"),
            ("a TIMESTAMP(10)", with, "at most 9"),
            ("a TIMESTAMP WITH TIME ZONE", with, "not supported"),
            ("a INT PRIMARY KEY", with, "'PRIMARY KEY' is not supported"),
            ("a INT, PRIMARY KEY (a)", with, "only CREATE TABLE name"),
            ("a INT, A INT", with, "'a' is defined twice"),
            ("a INT", "", "WITH ('connector'"),
            ("a INT", "WITH ('connector' = 'print') AS SELECT 1", "only CREATE TABLE name"),
            ("a INT", "WITH ('seed' = 'print')", "'connector' is missing"),
            ("a INT", "WITH ('connector' = 'print', 'connector' = 'print')", "given twice"),
        ] {
            let error = define(columns, rest).unwrap_err().to_string();
            assert!(error.contains(expected), "{columns} {rest}: {error}");
        }
    }
}
