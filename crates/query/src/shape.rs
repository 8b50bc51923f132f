//! A query without its values: for logs, which must not show what is in documents.

use protocol::query::{MatchType, Occurance, Query, QuerySpecification, QueryTerm};

/// A longer shape is cut to this many characters.
const SHAPE_CHARACTERS: usize = 600;

/// What a query asks, with `?` for each value.
pub fn shape_of(specification: &QuerySpecification) -> String {
    let mut shape = String::new();
    clause(&specification.query, &mut shape);
    let names = |terms: &[QueryTerm]| {
        terms.iter().map(|term| term.property_name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if let Some(first) = &specification.sort_term {
        let more = names(&specification.additional_sort_terms);
        let comma = if more.is_empty() { "" } else { ", " };
        shape.push_str(&format!("; sort {}{comma}{more}", first.property_name));
    }
    if !specification.aggregates.is_empty() {
        shape.push_str(&format!("; {} aggregates", specification.aggregates.len()));
    }
    if !specification.grouping.group_terms.is_empty() {
        shape.push_str(&format!(" by {}", names(&specification.grouping.group_terms)));
    }
    if let Some(limit) = specification.result_limit {
        shape.push_str(&format!("; limit {limit}"));
    }
    if !specification.options.is_empty() {
        let words = specification.options.iter().map(serde_json::to_value);
        let words: Vec<String> =
            words.flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect();
        shape.push_str(&format!("; {}", words.join(", ")));
    }
    // Names are what somebody has sent: none of them begins another line of a log.
    shape = shape.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shape.chars().count() > SHAPE_CHARACTERS {
        shape = shape.chars().take(SHAPE_CHARACTERS).collect::<String>() + "...";
    }
    shape
}

fn clause(query: &Query, shape: &mut String) {
    match query.occurance {
        Occurance::MustOccur => {}
        Occurance::MustNotOccur => shape.push_str("not "),
        Occurance::ShouldOccur => shape.push_str("or "),
    }
    if let Some(term) = &query.term {
        let compared = match (&term.range, term.match_type.unwrap_or_default()) {
            _ if !term.match_values.is_empty() => "in (?)",
            (Some(range), _) => match (&range.min, &range.max) {
                (Some(_), Some(_)) => "between ? and ?",
                (Some(_), None) => "> ?",
                _ => "< ?",
            },
            (None, MatchType::Term) => "= ?",
            (None, MatchType::Prefix) => "prefix ?",
            (None, MatchType::Wildcard) => "like ?",
            (None, MatchType::Phrase) => "phrase ?",
        };
        shape.push_str(&format!("{} {compared}", term.property_name));
        return;
    }
    shape.push('(');
    for (number, inner) in query.boolean_clauses.iter().flatten().enumerate() {
        if number > 0 {
            shape.push(' ');
        }
        clause(inner, shape);
    }
    shape.push(')');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::specification::parse_specification;

    #[test]
    fn a_shape_has_no_values() {
        let specification = parse_specification(&json!({
            "query": {"booleanClauses": [
                {"term": {"propertyName": "name", "matchValue": "secret"}},
                {"occurance": "MUST_NOT_OCCUR",
                    "term": {"propertyName": "a.b", "range": {"min": 4711}}},
                {"occurance": "SHOULD_OCCUR", "booleanClauses": [
                    {"term": {"propertyName": "c", "matchValue": "x*", "matchType": "WILDCARD"}}]},
            ]},
            "aggregates": [{"function": "COUNT"}], "groupTerms": [{"propertyName": "name"}],
        }));
        assert_eq!(
            shape_of(&specification.unwrap()),
            "(name = ? not a.b > ? or (c like ?)); 1 aggregates by name"
        );
    }

    #[test]
    fn a_name_begins_no_line_of_the_log() {
        let specification = parse_specification(&json!({"query": {"term": {
            "propertyName": "a\n2026-01-01 WARN amrita: n2 was removed\r\u{1b}[2J",
            "matchValue": 1}}}));
        let shape = shape_of(&specification.unwrap());
        assert!(shape.contains("n2 was removed") && !shape.contains(char::is_control), "{shape:?}");
    }
}
