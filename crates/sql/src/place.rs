//! Errors that say where in the text they are.

use protocol::Problem;
use sqlparser::tokenizer::Span;

/// The longest statement, in bytes. The parser goes as deep as a statement is nested.
pub const SQL_BYTES_MAX: usize = 16 << 10;

/// That something cannot be done, at its place.
pub(crate) fn refused<T>(at: Span, why: &str) -> Result<T, Problem> {
    Err(problem(at, why))
}

pub(crate) fn problem(at: Span, why: &str) -> Problem {
    let start = at.start;
    let place = match start.line {
        0 => "SQL".to_owned(),
        1 => format!("SQL, character {}", start.column),
        line => format!("SQL, line {line}, character {}", start.column),
    };
    Problem::bad_request(format!("{place}: {why}"))
}

/// That a part of SQL is not there at all.
pub(crate) fn unsupported<T>(at: Span, what: &str) -> Result<T, Problem> {
    refused(at, &format!("{what} is not supported"))
}
