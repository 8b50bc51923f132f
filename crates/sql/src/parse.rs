//! The text of a statement, read.

use protocol::Problem;
use sqlparser::ast::{Spanned, Statement as Parsed};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::dialect::AmritaDialect;
use crate::place::{SQL_BYTES_MAX, refused, unsupported};
use crate::select::select;
use crate::statement::Statement;
use crate::table::Tables;

/// How deep a statement may be nested for the parser.
const RECURSION_MAX: usize = 40;

/// How many words, numbers and signs a statement may have. The parser counts how deep parentheses
/// are, and not how long a chain such as `a + a + a` is: that becomes a tree which is as deep as
/// the chain is long, and whatever walks it needs the stack for it.
const TOKENS_MAX: usize = 2_000;

/// Reads a statement.
///
/// # Errors
/// `BAD_REQUEST` that says what of it cannot be done, and where in the text it is.
pub fn parse(text: &str, tables: &dyn Tables) -> Result<Statement, Problem> {
    if text.len() > SQL_BYTES_MAX {
        let bytes = text.len();
        let why = format!("the statement has {bytes} bytes, and the limit is {SQL_BYTES_MAX}");
        return Err(Problem::bad_request(why));
    }
    let tokens = Tokenizer::new(&AmritaDialect, text).tokenize();
    let tokens = tokens.map_err(|error| not_read(&error.into()))?;
    let count = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if count > TOKENS_MAX {
        let why =
            format!("the statement has {count} words and signs, and the limit is {TOKENS_MAX}");
        return Err(Problem::bad_request(format!("SQL: {why}")));
    }
    let parser = Parser::new(&AmritaDialect).with_recursion_limit(RECURSION_MAX);
    let parsed = parser.try_with_sql(text).and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| not_read(&error))?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        let why = "one statement is expected, such as: select name from examples limit 10";
        return Err(Problem::bad_request(format!("SQL: {why}")));
    };
    match statement {
        Parsed::Query(query) => select(&query, tables),
        Parsed::Explain {
            describe_alias: _,
            analyze: false,
            verbose: false,
            query_plan: false,
            estimate: false,
            statement,
            format: None,
            options: None,
        } => match *statement {
            Parsed::Query(query) => {
                let mut statement = select(&query, tables)?;
                statement.specification.explain = true;
                Ok(statement)
            }
            other => unsupported(other.span(), "EXPLAIN of anything but a SELECT"),
        },
        other => {
            let text = other.to_string();
            let word = text.split_whitespace().next().unwrap_or_default();
            refused(other.span(), &format!("{word} is not supported: SQL only reads, by SELECT"))
        }
    }
}

fn not_read(error: &ParserError) -> Problem {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => {
            format!("the statement is nested deeper than {RECURSION_MAX}")
        }
    };
    Problem::bad_request(format!("SQL: {text}"))
}
