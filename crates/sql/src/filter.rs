//! `WHERE` as a query.
//!
//! Nothing is true of NULL, and so `not (a = 1)` must not find a document without `a`. A negation
//! is therefore carried down to the comparisons. There it becomes: the field has a value, and none
//! that is like this.

use protocol::Problem;
use protocol::query::{MatchType, NumericRange, Occurance, Query, QueryTerm};

use crate::condition::{Asks, Condition, Test};
use crate::literal::Literal;
use crate::operand::Operand;
use crate::place::refused;

/// The clause for which the condition is true, or false.
pub(crate) fn clause(
    condition: &Condition,
    is_true: bool,
    occurance: Occurance,
) -> Result<Query, Problem> {
    let each = |parts: &[Condition], occurance| {
        parts.iter().map(|part| clause(part, is_true, occurance)).collect::<Result<Vec<_>, _>>()
    };
    match (condition, is_true) {
        (Condition::Not(inner), _) => clause(inner, !is_true, occurance),
        (Condition::All(parts), true) | (Condition::Any(parts), false) => {
            Ok(clauses(occurance, each(parts, Occurance::MustOccur)?))
        }
        (Condition::All(parts), false) | (Condition::Any(parts), true) => {
            Ok(clauses(occurance, each(parts, Occurance::ShouldOccur)?))
        }
        (Condition::Test(test), _) => one(test, is_true, occurance),
    }
}

fn clauses(occurance: Occurance, clauses: Vec<Query>) -> Query {
    Query { occurance, term: None, boolean_clauses: Some(clauses) }
}

fn leaf(occurance: Occurance, term: QueryTerm) -> Query {
    Query { occurance, term: Some(term), boolean_clauses: None }
}

fn one(test: &Test, is_true: bool, occurance: Occurance) -> Result<Query, Problem> {
    let Operand::Field(name) = &test.operand else {
        return refused(test.at, "an aggregate says something of groups; it goes into HAVING");
    };
    let present = matching(name, MatchType::Wildcard, "*".into());
    let (must, must_not) = (Occurance::MustOccur, Occurance::MustNotOccur);
    match (&test.asks, is_true) {
        (Asks::Null, true) => Ok(clauses(occurance, vec![leaf(must_not, present)])),
        (Asks::Null, false) => Ok(leaf(occurance, present)),
        (asks, true) => Ok(asked(name, asks, occurance)),
        (asks, false) => {
            Ok(clauses(occurance, vec![leaf(must, present), asked(name, asks, must_not)]))
        }
    }
}

fn asked(name: &str, asks: &Asks, occurance: Occurance) -> Query {
    match asks {
        Asks::Equal(literal) => leaf(occurance, equal(name, literal)),
        Asks::In(literals) => {
            let each = literals.iter().map(|it| leaf(Occurance::ShouldOccur, equal(name, it)));
            clauses(occurance, each.collect())
        }
        Asks::Within(low, high) => leaf(occurance, within(name, low.as_ref(), high.as_ref())),
        Asks::Like(pattern) => {
            leaf(occurance, matching(name, MatchType::Wildcard, pattern.clone()))
        }
        Asks::Null => unreachable!("it is seen to by whoever calls"),
    }
}

/// A column is the field itself: an object is NULL, and what lies within it has names of its own.
fn itself(name: &str) -> QueryTerm {
    QueryTerm { within: Some(false), ..QueryTerm::field(name) }
}

fn equal(name: &str, literal: &Literal) -> QueryTerm {
    let match_type = Some(MatchType::Term);
    QueryTerm { match_type, match_value: Some(literal.to_json()), ..itself(name) }
}

fn matching(name: &str, match_type: MatchType, pattern: String) -> QueryTerm {
    QueryTerm { match_type: Some(match_type), match_value: Some(pattern.into()), ..itself(name) }
}

fn within(name: &str, low: Option<&(Literal, bool)>, high: Option<&(Literal, bool)>) -> QueryTerm {
    let is_text = [low, high].into_iter().flatten().any(|it| matches!(it.0, Literal::Text(_)));
    let range = NumericRange {
        number_type: Some(if is_text { "STRING" } else { "DOUBLE" }.into()),
        min: low.map(|(literal, _)| literal.to_json()),
        max: high.map(|(literal, _)| literal.to_json()),
        is_min_inclusive: low.is_some_and(|(_, is_inclusive)| *is_inclusive),
        is_max_inclusive: high.is_some_and(|(_, is_inclusive)| *is_inclusive),
    };
    QueryTerm { range: Some(range), ..itself(name) }
}
