//! `GROUP_BY`: which groups there are is asked as an aggregate, and each group is a query of its
//! own, narrowed to a value of the field.

use std::collections::BTreeMap;

use protocol::Problem;
use protocol::query::{
    Aggregate, Grouping, MatchType, NumericRange, Occurance, Query, QueryOption,
    QuerySpecification, QueryTerm, SortOrder,
};

use crate::aggregate::GroupRow;
use crate::paths::paths;
use crate::predicate::wrong;
use crate::scalar::Scalar;

/// As Xenon calls the group of the documents without a value.
const WITHOUT_VALUE: &str = "DocumentsWithoutResults";

/// How many groups an answer tells of when nothing is said, as in Xenon.
const GROUPS_SHOWN: usize = 10_000;

/// A group, by its name, with the values that are written like it: the text `5` and the number.
pub struct NamedGroup {
    pub name: String,
    pub values: Vec<Option<Scalar>>,
}

/// # Errors
/// `BAD_REQUEST` that names the part of the specification that is wrong.
pub(crate) fn check(specification: &QuerySpecification) -> Result<(), Problem> {
    let Grouping { group_by_term, group_sort_term, .. } = &specification.grouping;
    let has = |option| specification.has(option);
    if !has(QueryOption::GroupBy) {
        let said = [
            ("groupByTerm", group_by_term.is_some()),
            ("groupSortTerm", group_sort_term.is_some()),
            ("groupSortOrder", specification.grouping.group_sort_order.is_some()),
            ("groupResultLimit", specification.grouping.group_result_limit.is_some()),
        ];
        return match said.iter().find(|(_, is_said)| *is_said) {
            Some((name, _)) => wrong(name, "goes with the option GROUP_BY"),
            None => Ok(()),
        };
    }
    let Some(by) = group_by_term else {
        return wrong(
            "groupByTerm",
            "is missing; the option GROUP_BY needs a 'propertyName' in it",
        );
    };
    paths(&by.property_name, "groupByTerm.propertyName")?;
    if group_sort_term.as_ref().is_some_and(|sort| sort.property_name != by.property_name) {
        let why = "is another field than groupByTerm; groups are sorted by the value that they have \
                   in common";
        return wrong("groupSortTerm", why);
    }
    if specification.grouping.group_result_limit == Some(0) {
        return wrong("groupResultLimit", "is 0; give at least 1");
    }
    if !specification.aggregates.is_empty() {
        return wrong("aggregates", "have groupTerms of their own; leave out GROUP_BY");
    }
    for (option, name) in [(QueryOption::Count, "COUNT"), (QueryOption::TopResults, "TOP_RESULTS")]
    {
        if has(option) {
            let why = format!("have GROUP_BY, which gives pages, and {name}; drop one");
            return wrong("options", &why);
        }
    }
    Ok(())
}

/// The query that finds the groups, with how many documents each has.
pub fn groups_of(specification: &QuerySpecification) -> QuerySpecification {
    let mut found = specification.all_found();
    found.aggregates = vec![Aggregate::default()];
    found.grouping.group_terms = specification.grouping.group_by_term.iter().cloned().collect();
    found.explain = specification.explain;
    found
}

/// The query of the documents with one of these values; `None` is of those without a value.
pub fn of_group(
    specification: &QuerySpecification,
    values: &[Option<Scalar>],
) -> QuerySpecification {
    let field =
        specification.grouping.group_by_term.as_ref().map_or("", |term| &term.property_name);
    let clauses = values.iter().map(|value| clause(field, value.as_ref())).collect();
    let mut of_group =
        QuerySpecification { grouping: Grouping::default(), ..specification.clone() };
    of_group.options.retain(|option| *option != QueryOption::GroupBy);
    of_group.and(Query { boolean_clauses: Some(clauses), ..Query::default() });
    of_group
}

fn clause(field: &str, value: Option<&Scalar>) -> Query {
    let term = QueryTerm { within: Some(false), ..QueryTerm::field(field) };
    let should =
        |term| Query { occurance: Occurance::ShouldOccur, term: Some(term), boolean_clauses: None };
    let matching = |match_type, value: String| QueryTerm {
        match_type: Some(match_type),
        match_value: Some(value.into()),
        ..term.clone()
    };
    match value {
        None => Query {
            occurance: Occurance::ShouldOccur,
            term: None,
            boolean_clauses: Some(vec![Query {
                occurance: Occurance::MustNotOccur,
                ..should(matching(MatchType::Wildcard, "*".into()))
            }]),
        },
        Some(Scalar::Number(number)) => {
            let end = Some(number.to_string().into());
            let range = NumericRange {
                number_type: Some("DOUBLE".into()),
                min: end.clone(),
                max: end,
                is_min_inclusive: true,
                is_max_inclusive: true,
            };
            should(QueryTerm { range: Some(range), ..term })
        }
        // A text that is also a number or a boolean would find these, too.
        Some(Scalar::Text(text)) if is_another_value(text) => {
            let escaped: String = text
                .chars()
                .flat_map(|char| ['\\', char].into_iter().skip(usize::from(!"*?\\".contains(char))))
                .collect();
            should(matching(MatchType::Wildcard, escaped))
        }
        Some(Scalar::Text(text)) => should(matching(MatchType::Term, text.clone())),
        Some(Scalar::Boolean(boolean)) => should(matching(MatchType::Term, boolean.to_string())),
    }
}

fn is_another_value(text: &str) -> bool {
    crate::decimal::Decimal::parse(text).is_some()
}

/// The groups that an answer tells of, after the one with the name `after`; and whether there are
/// more.
///
/// # Errors
/// When there is no such group any more: where it was among the others is not known.
pub fn groups_shown(
    specification: &QuerySpecification,
    rows: Vec<GroupRow>,
    after: Option<&str>,
) -> Result<(Vec<NamedGroup>, bool), Problem> {
    let mut by_name: BTreeMap<String, NamedGroup> = BTreeMap::new();
    for row in rows {
        let value = row.key.into_iter().next().flatten();
        let name = match &value {
            None => WITHOUT_VALUE.to_owned(),
            Some(Scalar::Text(text)) => text.clone(),
            Some(other) => other.to_json(),
        };
        let group = by_name.entry(name.clone());
        group.or_insert(NamedGroup { name, values: Vec::new() }).values.push(value);
    }
    // Numbers by what they are worth, and those without a value last.
    let mut groups: Vec<NamedGroup> = by_name.into_values().collect();
    let is_down = specification.grouping.group_sort_order == Some(SortOrder::Desc);
    groups.sort_by(|one, other| {
        let by_value = rank(one).cmp(&rank(other));
        let by_value = if is_down { by_value.reverse() } else { by_value };
        one.values.contains(&None).cmp(&other.values.contains(&None)).then(by_value)
    });
    if let Some(after) = after {
        let Some(place) = groups.iter().position(|group| group.name == after) else {
            return Err(Problem::bad_request(format!(
                "the last group of the page before, '{after}', is not there any more, so nobody \
                 knows where the next page begins; ask for the first page again"
            )));
        };
        groups.drain(..=place);
    }
    let limit = specification.grouping.group_result_limit.unwrap_or(GROUPS_SHOWN);
    let more = groups.len() > limit;
    groups.truncate(limit);
    Ok((groups, more))
}

fn rank(group: &NamedGroup) -> (Option<&Scalar>, &str) {
    (group.values.iter().flatten().min(), &group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_do_not_begin_anew_when_the_last_one_is_gone() {
        let rows = |names: &[&str]| -> Vec<GroupRow> {
            let key = |name: &&str| vec![Some(Scalar::Text((*name).to_owned()))];
            names.iter().map(|name| GroupRow { key: key(name), values: Vec::new() }).collect()
        };
        let shown = |after| groups_shown(&QuerySpecification::default(), rows(&["a", "c"]), after);
        let (groups, more) = shown(Some("a")).unwrap();
        assert_eq!((groups[0].name.as_str(), groups.len(), more), ("c", 1, false));
        let Err(problem) = shown(Some("b")) else { panic!("the group is gone") };
        assert!(problem.message.contains("'b', is not there any more"), "{}", problem.message);
    }
}
