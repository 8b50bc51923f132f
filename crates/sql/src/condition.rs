//! What `WHERE` and `HAVING` say, before it is known of what.

use protocol::Problem;
use sqlparser::ast::{BinaryOperator, Expr, InTarget, Spanned, UnaryOperator};
use sqlparser::tokenizer::Span;

use crate::literal::{Literal, literal};
use crate::operand::Operand;
use crate::place::{refused, unsupported};
use crate::table::Table;

/// How deep `not` and parentheses may lie in each other.
const DEPTH_MAX: usize = 12;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) operand: Operand,
    pub(crate) asks: Asks,
    pub(crate) at: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asks {
    Equal(Literal),
    In(Vec<Literal>),
    /// From one to the other; each with whether it belongs to it.
    Within(Option<(Literal, bool)>, Option<(Literal, bool)>),
    /// The pattern as a query's wildcard.
    Like(String),
    Null,
}

impl Condition {
    pub(crate) fn of(expression: &Expr, table: &Table) -> Result<Self, Problem> {
        Reader { table, depth: 0 }.read(expression)
    }
}

struct Reader<'t> {
    table: &'t Table,
    depth: usize,
}

impl Reader<'_> {
    fn read(&mut self, expression: &Expr) -> Result<Condition, Problem> {
        match expression {
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
                self.joined(expression, op)
            }
            Expr::BinaryOp { left, op, right } => self.comparison(left, op, right),
            Expr::Nested(inner) => self.deeper(inner),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                Ok(Condition::Not(Box::new(self.deeper(expr)?)))
            }
            Expr::In { expr, target: InTarget::List(list), negated, global: false } => {
                let literals = list.iter().map(wanted).collect::<Result<_, _>>()?;
                self.test(expr, Asks::In(literals), *negated)
            }
            Expr::Between { expr, negated, low, high } => {
                let ends = (Some((wanted(low)?, true)), Some((wanted(high)?, true)));
                same_sort(&ends.0, &ends.1, high.span())?;
                self.test(expr, Asks::Within(ends.0, ends.1), *negated)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                let escape = escape_char.as_deref().map(one_letter).transpose()?;
                let pattern = like(pattern, escape)?;
                self.test(expr, Asks::Like(pattern), *negated)
            }
            Expr::IsNull(expr) => self.test(expr, Asks::Null, false),
            Expr::IsNotNull(expr) => self.test(expr, Asks::Null, true),
            Expr::IsTrue(expr) => self.test(expr, Asks::Equal(Literal::Boolean(true)), false),
            Expr::IsFalse(expr) => self.test(expr, Asks::Equal(Literal::Boolean(false)), false),
            // A field that is true.
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                self.test(expression, Asks::Equal(Literal::Boolean(true)), false)
            }
            Expr::ILike { .. } => unsupported(expression.span(), "ILIKE"),
            Expr::In { target: InTarget::Subquery(_), .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_) => unsupported(expression.span(), "a query within a query"),
            other => unsupported(other.span(), &format!("the condition '{other}'")),
        }
    }

    fn deeper(&mut self, inner: &Expr) -> Result<Condition, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let why = format!("no more than {DEPTH_MAX} NOT and parentheses within each other");
            return refused(inner.span(), &why);
        }
        let read = self.read(inner)?;
        self.depth -= 1;
        Ok(read)
    }

    /// `a and b and c` lies leftward as deep as it is long.
    fn joined(&mut self, expression: &Expr, wanted: &BinaryOperator) -> Result<Condition, Problem> {
        let mut parts = Vec::new();
        let mut rest = expression;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == wanted
        {
            parts.push(self.read(right)?);
            rest = left;
        }
        parts.push(self.read(rest)?);
        parts.reverse();
        Ok(match wanted {
            BinaryOperator::And => Condition::All(parts),
            _ => Condition::Any(parts),
        })
    }

    fn comparison(
        &mut self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
    ) -> Result<Condition, Problem> {
        let (operand, value, is_turned) = match (literal(left)?, literal(right)?) {
            (None, Some(value)) => (left, value, false),
            (Some(value), None) => (right, value, true),
            (Some(_), Some(_)) => return unsupported(left.span(), "a comparison of two values"),
            (None, None) => {
                return refused(right.span(), "a value is expected here, and not a field");
            }
        };
        let at = operand.span();
        let above = |is_inclusive| Asks::Within(Some((value.clone(), is_inclusive)), None);
        let below = |is_inclusive| Asks::Within(None, Some((value.clone(), is_inclusive)));
        let asks = match (operator, is_turned) {
            (BinaryOperator::Eq | BinaryOperator::NotEq, _) => Asks::Equal(value.clone()),
            (BinaryOperator::Gt, false) | (BinaryOperator::Lt, true) => above(false),
            (BinaryOperator::GtEq, false) | (BinaryOperator::LtEq, true) => above(true),
            (BinaryOperator::Lt, false) | (BinaryOperator::Gt, true) => below(false),
            (BinaryOperator::LtEq, false) | (BinaryOperator::GtEq, true) => below(true),
            _ => return unsupported(at, &format!("the operator {operator}")),
        };
        if matches!((&asks, &value), (Asks::Within(..), Literal::Boolean(_))) {
            return refused(at, "true and false have no order; compare with =");
        }
        self.test(operand, asks, *operator == BinaryOperator::NotEq)
    }

    fn test(&self, operand: &Expr, asks: Asks, is_negated: bool) -> Result<Condition, Problem> {
        let test = Test { operand: Operand::of(operand, self.table)?, asks, at: operand.span() };
        let test = Condition::Test(test);
        Ok(if is_negated { Condition::Not(Box::new(test)) } else { test })
    }
}

fn wanted(expression: &Expr) -> Result<Literal, Problem> {
    match literal(expression)? {
        Some(literal) => Ok(literal),
        None => refused(expression.span(), "a value is expected here"),
    }
}

fn same_sort(
    low: &Option<(Literal, bool)>,
    high: &Option<(Literal, bool)>,
    at: Span,
) -> Result<(), Problem> {
    match (low.as_ref().map(|it| &it.0), high.as_ref().map(|it| &it.0)) {
        (Some(Literal::Number(_)), Some(Literal::Number(_)))
        | (Some(Literal::Text(_)), Some(Literal::Text(_))) => Ok(()),
        _ => refused(at, "BETWEEN takes two numbers or two texts"),
    }
}

fn one_letter(escape: &Expr) -> Result<char, Problem> {
    let text = wanted(escape)?;
    let mut letters = match &text {
        Literal::Text(text) => text.chars(),
        _ => return refused(escape.span(), "ESCAPE takes one character in quotes"),
    };
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => refused(escape.span(), "ESCAPE takes one character in quotes"),
    }
}

/// The pattern of a `LIKE` as a wildcard of a query.
fn like(pattern: &Expr, escape: Option<char>) -> Result<String, Problem> {
    let Literal::Text(text) = wanted(pattern)? else {
        return refused(pattern.span(), "LIKE takes a text");
    };
    let mut wildcard = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let (letter, is_plain) = match letter {
            it if Some(it) == escape => match letters.next() {
                Some(next) => (next, true),
                None => return refused(pattern.span(), "the pattern ends with its escape"),
            },
            it => (it, false),
        };
        match letter {
            '%' if !is_plain => wildcard.push('*'),
            '_' if !is_plain => wildcard.push('?'),
            '*' | '?' | '\\' => wildcard.extend(['\\', letter]),
            letter => wildcard.push(letter),
        }
    }
    Ok(wildcard)
}
