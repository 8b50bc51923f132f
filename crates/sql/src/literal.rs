//! A value that is written in a statement.

use protocol::Problem;
use query::{Decimal, exact_number};
use serde_json::Value as Json;
use sqlparser::ast::{Expr, UnaryOperator, Value};
use sqlparser::tokenizer::Span;

use crate::place::{refused, unsupported};

/// A value that is written in the statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    /// As it is written.
    Number(String),
    Text(String),
    Boolean(bool),
}

impl Literal {
    /// For a term of a query.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Number(text) => exact_number(text).unwrap_or_else(|| text.as_str().into()),
            Self::Text(text) => text.as_str().into(),
            Self::Boolean(boolean) => (*boolean).into(),
        }
    }
}

/// The literal that an expression is; `None` for anything else.
///
/// # Errors
/// When it is a literal of a sort that is not known, or NULL.
pub(crate) fn literal(expression: &Expr) -> Result<Option<Literal>, Problem> {
    match expression {
        Expr::Nested(inner) => literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match literal(expr)? {
            Some(Literal::Number(text)) => {
                Ok(Some(Literal::Number(match text.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{text}"),
                })))
            }
            _ => Ok(None),
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => literal(expr),
        Expr::Value(value) => literal_value(&value.value, value.span).map(Some),
        _ => Ok(None),
    }
}

fn literal_value(value: &Value, at: Span) -> Result<Literal, Problem> {
    match value {
        Value::Number(text, false) => match Decimal::parse(&whole_form(text)) {
            Some(_) => Ok(Literal::Number(whole_form(text))),
            None => refused(at, &format!("{text} is not a number that can be compared")),
        },
        Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
        Value::Boolean(boolean) => Ok(Literal::Boolean(*boolean)),
        Value::Null => refused(at, "nothing equals NULL; write 'is null' or 'is not null'"),
        Value::Placeholder(name) => unsupported(at, &format!("the parameter {name}")),
        other => unsupported(at, &format!("the literal {other}")),
    }
}

/// `.5` and `5.` as JSON writes them.
fn whole_form(text: &str) -> String {
    let text = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    match text.strip_suffix('.') {
        Some(whole) => whole.to_owned(),
        None => text.replace(".e", "e").replace(".E", "E"),
    }
}
