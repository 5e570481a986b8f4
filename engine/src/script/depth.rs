//! How deep the expressions of a statement are nested. `a + b + c + ...` nests once per operator,
//! the parser's own limit counts parentheses only, and the time that optimising takes grows with a
//! high power of it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Statement, Visit, Visitor};

/// Deepest expression of a script.
pub(crate) const MAX_EXPRESSION_DEPTH: usize = 128;

/// Whether an expression is nested deeper than [`MAX_EXPRESSION_DEPTH`].
pub(super) fn exceeded(statement: &Statement) -> bool {
    statement.visit(&mut Depth(0)).is_break()
}

/// How many expressions the visitor is in.
struct Depth(usize);

impl Visitor for Depth {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > MAX_EXPRESSION_DEPTH { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }
}
