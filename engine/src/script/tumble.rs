//! `tumble(time, interval)`, as Flink users write it, becomes DataFusion's `date_bin(interval,
//! time)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Ident, ObjectName, Statement, visit_expressions_mut};

/// Rewrites every call in place. Fails on a call that does not have two arguments.
pub(super) fn rewrite(statement: &mut Statement) -> Result<(), String> {
    let flow = visit_expressions_mut(statement, |expr| {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("tumble") {
            return ControlFlow::Continue(());
        }
        match &mut function.args {
            FunctionArguments::List(list) if list.args.len() == 2 => {
                list.args.swap(0, 1);
                function.name = ObjectName::from(vec![Ident::new("date_bin")]);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(format!("{function}: tumble takes a time column and an interval")),
        }
    });
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::script::Script;

    const TABLE: &str = "CREATE TABLE t (a TIMESTAMP(3)) WITH ('connector' = 'print');";

    #[test]
    fn rewrites_calls_and_refuses_wrong_ones() {
        let script = Script::parse(&format!(
            "{TABLE} INSERT INTO t SELECT TUMBLE(a, INTERVAL '1 day') FROM t GROUP BY tumble(a, INTERVAL '1 day')"
        ))
        .unwrap();
        assert_eq!(
            script.insert.to_string(),
            "INSERT INTO t SELECT date_bin(INTERVAL '1 day', a) FROM t GROUP BY date_bin(INTERVAL '1 day', a)"
        );
        let error = Script::parse(&format!("{TABLE} INSERT INTO t SELECT tumble(a) FROM t")).unwrap_err();
        assert!(error.to_string().contains("takes a time column and an interval"), "{error}");
    }
}
