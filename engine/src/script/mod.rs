//! The script: `CREATE TABLE`s and one `INSERT`, parsed and checked before anything is planned.

mod depth;
mod duration;
mod options;
mod table;
mod tumble;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{CreateTable, Insert, Statement, TableObject};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::error::PlanError;

pub(crate) use depth::MAX_EXPRESSION_DEPTH;
pub(crate) use options::{OptionReader, Options};
pub(crate) use table::Table;

/// Longest script accepted, in bytes.
const MAX_SCRIPT_BYTES: usize = 1024 * 1024;

/// Most tokens accepted. Bounds the depth of any expression tree, hence the stack that planning
/// needs.
const MAX_SCRIPT_TOKENS: usize = 20_000;

/// A script whose statements are the supported ones.
#[derive(Debug)]
pub(crate) struct Script {
    /// By name.
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
    /// The table the `INSERT` names, one of `tables`.
    pub(crate) sink: Arc<Table>,
    /// The `INSERT`, with `tumble` already rewritten.
    pub(crate) insert: Statement,
}

impl Script {
    pub(crate) fn parse(sql: &str) -> Result<Self, PlanError> {
        let mut tables = BTreeMap::new();
        let mut insert: Option<(Location, Box<Insert>)> = None;
        for (at, statement) in statements(sql)? {
            match statement {
                Statement::CreateTable(create) => define(&mut tables, create, at)?,
                Statement::Insert(_) if insert.is_some() => {
                    return Err(error(at, "a second INSERT: a script has exactly one"));
                }
                Statement::Insert(statement) => insert = Some((at, Box::new(statement))),
                other => {
                    let text = other.to_string();
                    let keyword = text.split_whitespace().next().unwrap_or_default().to_uppercase();
                    return Err(error(
                        at,
                        format!("{keyword} is not a statement of a script: use CREATE TABLE and one INSERT"),
                    ));
                }
            }
        }
        let Some((at, insert)) = insert else {
            return Err(error(
                Location { line: 1, column: 1 },
                "no INSERT in the script: it needs exactly one, to say what runs",
            ));
        };
        let sink = target(&tables, &insert, at)?;
        let mut insert = Statement::Insert(*insert);
        if depth::exceeded(&insert) {
            return Err(error(
                at,
                format!("an expression nested more than {MAX_EXPRESSION_DEPTH} deep (instead of many ORs, use IN)"),
            ));
        }
        tumble::rewrite(&mut insert).map_err(|message| error(at, message))?;
        Ok(Self { tables, sink, insert })
    }
}

/// Every statement with the position of its first token.
fn statements(sql: &str) -> Result<Vec<(Location, Statement)>, PlanError> {
    if sql.len() > MAX_SCRIPT_BYTES {
        return Err(PlanError::Syntax(format!("the script has {} bytes; the limit is {MAX_SCRIPT_BYTES}", sql.len())));
    }
    let tokens = Tokenizer::new(&GenericDialect, sql).tokenize_with_location().map_err(|e| syntax(e.into()))?;
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > MAX_SCRIPT_TOKENS {
        return Err(PlanError::Syntax(format!("the script has {count} tokens; the limit is {MAX_SCRIPT_TOKENS}")));
    }
    let mut parser = Parser::new(&GenericDialect).with_tokens_with_locations(tokens);
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        let next = parser.peek_token();
        if next.token == Token::EOF {
            return Ok(statements);
        }
        let statement = parser.parse_statement().map_err(syntax)?;
        let after = parser.peek_token();
        if !matches!(after.token, Token::SemiColon | Token::EOF) {
            return Err(error(
                after.span.start,
                format!("expected ';' or the end of the script, found {}", after.token),
            ));
        }
        statements.push((next.span.start, statement));
    }
}

fn define(tables: &mut BTreeMap<String, Arc<Table>>, create: CreateTable, at: Location) -> Result<(), PlanError> {
    let table = Table::define(create, at)?;
    if tables.contains_key(&table.name) {
        return Err(error(at, format!("table '{}' is defined twice", table.name)));
    }
    tables.insert(table.name.clone(), Arc::new(table));
    Ok(())
}

fn target(tables: &BTreeMap<String, Arc<Table>>, insert: &Insert, at: Location) -> Result<Arc<Table>, PlanError> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(error(at, "INSERT INTO needs the name of a table"));
    };
    let name = table::table_name(name, at)?;
    tables.get(&name).cloned().ok_or_else(|| error(at, format!("INSERT INTO '{name}': no such table in the script")))
}

pub(crate) fn error(at: Location, message: impl Into<String>) -> PlanError {
    PlanError::Script { message: message.into(), line: at.line, column: at.column }
}

fn syntax(error: ParserError) -> PlanError {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => PlanError::Syntax(message),
        ParserError::RecursionLimitExceeded => PlanError::Syntax("the script is nested too deeply".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const TABLES: &str = "CREATE TABLE a (x INT, \"Y\" STRING NOT NULL) WITH ('connector' = 'datagen', 'seed' = '7');\n\
                          CREATE TABLE `b` (x INT) WITH ('connector' = 'blackhole');\n";

    fn refused(sql: &str) -> String {
        Script::parse(sql).unwrap_err().to_string()
    }

    #[test]
    fn reads_tables_and_the_insert() {
        let script = Script::parse(&format!("-- a comment\n{TABLES}INSERT INTO b SELECT x FROM a;")).unwrap();
        assert_eq!(script.tables.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(script.sink.name, "b");
        assert_eq!(script.tables["a"].schema.field(1).name(), "Y");
        assert!(!script.tables["a"].schema.field(1).is_nullable());
    }

    #[test]
    fn names_the_position_of_what_is_wrong() {
        assert_eq!(
            refused(&format!("{TABLES}INSERT INTO b SELECT x FROM a;\n  INSERT INTO b SELECT 1")),
            "a second INSERT: a script has exactly one at line 4, column 3"
        );
        assert!(refused(TABLES).starts_with("no INSERT in the script"));
        assert_eq!(
            refused(&format!("{TABLES}INSERT INTO c SELECT 1")),
            "INSERT INTO 'c': no such table in the script at line 3, column 1"
        );
        assert!(refused("DROP TABLE a").starts_with("DROP is not a statement of a script"));
        assert!(refused("SELEC 1").contains("Line: 1, Column: 1"));
        assert!(refused("INSERT INTO b SELECT 1 WHERE true 7").contains("found 7 at line 1, column 35"));
        assert!(
            refused(&format!("{TABLES}{TABLES}INSERT INTO b SELECT x FROM a"))
                .contains("'a' is defined twice at line 3")
        );
    }

    #[test]
    fn bounds_size_and_nesting() {
        assert!(refused(&" ".repeat(MAX_SCRIPT_BYTES + 1)).contains("limit"));
        assert!(refused(&"1+".repeat(MAX_SCRIPT_TOKENS)).contains("tokens"));
        assert!(refused(&format!("SELECT {}1", "(".repeat(5000))).contains("nested too deeply"));
    }
}
