//! Aggregates as anybody would compute them: over the documents that the model finds.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use protocol::query::{Aggregate, AggregateFunction, Grouping, QuerySpecification, QueryTerm};
use query::{CompiledQuery, Groups, Scalar};
use random::Random;
use serde_json::{Value, json};

use super::model::{Found, values_of};

pub(crate) const FIELDS: [&str; 8] =
    ["name", "counter", "flag", "tags.item", "mixed", "nested.list.x", "documentVersion", "absent"];

/// The same query, but for aggregates in place of hits.
pub(crate) fn specification(random: &mut Random, of: &QuerySpecification) -> QuerySpecification {
    let mut field = || (*random.pick(&FIELDS)).to_owned();
    let functions = [
        AggregateFunction::Count,
        AggregateFunction::Sum,
        AggregateFunction::Min,
        AggregateFunction::Max,
        AggregateFunction::CountDistinct,
        AggregateFunction::Distinct,
        AggregateFunction::Percentiles,
        AggregateFunction::Histogram,
    ];
    let mut aggregates = vec![Aggregate::default()];
    for function in functions {
        aggregates.push(Aggregate {
            name: Some(format!("{function:?}")),
            property_name: Some(field()),
            interval: (function == AggregateFunction::Histogram).then(|| json!(3)),
            percents: vec![50.0; usize::from(function == AggregateFunction::Percentiles)],
            function,
        });
    }
    let groups = [field(), field()];
    let count = random.index(3);
    let group_terms = groups[..count].iter().map(|name| QueryTerm::field(name)).collect();
    let grouping = Grouping { group_terms, ..Grouping::default() };
    QuerySpecification { aggregates, grouping, ..of.all_found() }
}

/// What is said of each group, by its key. A value that the model does not compute is a star.
pub(crate) fn expected(
    specification: &QuerySpecification,
    found: &[Found],
) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut groups: BTreeMap<Vec<String>, Vec<&Value>> = BTreeMap::new();
    if specification.grouping.group_terms.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for found in found {
        let mut keys = vec![Vec::new()];
        for term in &specification.grouping.group_terms {
            let values = values_of(&found.document, &term.property_name);
            let mut own: BTreeSet<String> = values.iter().map(|it| canonical(it)).collect();
            if own.is_empty() {
                own.insert("null".into());
            }
            let longer = |key: &Vec<String>, value: &String| {
                let mut key = key.clone();
                key.push(value.clone());
                key
            };
            keys = keys
                .iter()
                .flat_map(|key| own.iter().map(move |value| longer(key, value)))
                .collect();
        }
        keys.into_iter().for_each(|key| groups.entry(key).or_default().push(&found.document));
    }
    let said = |documents: &Vec<&Value>| {
        specification.aggregates.iter().map(|aggregate| of_group(aggregate, documents)).collect()
    };
    groups.iter().map(|(key, documents)| (key.clone(), said(documents))).collect()
}

/// The same as the partitions have it.
pub(crate) fn found(
    compiled: &CompiledQuery,
    parts: Vec<Groups>,
) -> BTreeMap<Vec<String>, Vec<String>> {
    let aggregation = compiled.aggregation().unwrap();
    let mut all = aggregation.begin();
    parts.into_iter().for_each(|part| all.merge(part));
    assert!(!all.is_over());
    let row = |row: query::GroupRow| {
        let key = row.key.iter().map(|it| it.as_ref().map_or("null".into(), Scalar::to_json));
        (key.collect(), row.values.into_iter().map(|value| value.json).collect())
    };
    aggregation.rows(all).into_iter().map(row).collect()
}

fn of_group(aggregate: &Aggregate, documents: &[&Value]) -> String {
    let Some(field) = &aggregate.property_name else { return documents.len().to_string() };
    let each: Vec<Vec<&Value>> = documents.iter().map(|it| values_of(it, field)).collect();
    let all: Vec<&Value> = each.iter().flatten().copied().collect();
    let or_null = |value: Option<&&Value>| value.map_or("null".into(), |it| canonical(it));
    let distinct: BTreeMap<String, &Value> = all.iter().map(|it| (canonical(it), *it)).collect();
    let mut ordered: Vec<&Value> = distinct.values().copied().collect();
    ordered.sort_by(|one, other| compare(one, other));
    let mut numbers: Vec<&Value> = all.iter().copied().filter(|it| it.is_number()).collect();
    numbers.sort_by(|one, other| compare(one, other));
    let halves: Option<Vec<i128>> = numbers.iter().map(|it| halves(it)).collect();
    match aggregate.function {
        AggregateFunction::Count => each.iter().filter(|it| !it.is_empty()).count().to_string(),
        AggregateFunction::CountDistinct => distinct.len().to_string(),
        AggregateFunction::Distinct => {
            format!("[{}]", ordered.iter().map(|it| canonical(it)).collect::<Vec<_>>().join(","))
        }
        AggregateFunction::Min => or_null(ordered.first()),
        AggregateFunction::Max => or_null(ordered.last()),
        AggregateFunction::Sum if numbers.is_empty() => "null".into(),
        AggregateFunction::Sum => halves.map_or("*".into(), |all| of_halves(all.iter().sum())),
        AggregateFunction::Percentiles => {
            format!("{{\"50\":{}}}", or_null(numbers.get(numbers.len().div_ceil(2).max(1) - 1)))
        }
        AggregateFunction::Histogram => halves.map_or("*".into(), |all| {
            let mut buckets: BTreeMap<i128, u64> = BTreeMap::new();
            all.iter().for_each(|it| *buckets.entry(it.div_euclid(6) * 3).or_default() += 1);
            let shown =
                buckets.iter().map(|it| format!("{{\"from\":{},\"count\":{}}}", it.0, it.1));
            format!("[{}]", shown.collect::<Vec<_>>().join(","))
        }),
        AggregateFunction::Avg => "*".into(),
    }
}

/// How many halves it is, if that is a whole number that is not too large.
fn halves(value: &Value) -> Option<i128> {
    let float = value.as_f64()?;
    if value.is_f64() {
        return (float.abs() < 1e30).then(|| format!("{:.0}", float * 2.0).parse().unwrap());
    }
    Some(value.to_string().parse::<i128>().unwrap() * 2)
}

fn of_halves(halves: i128) -> String {
    let sign = if halves < 0 { "-" } else { "" };
    let size = halves.abs();
    format!("{sign}{}{}", size / 2, if size % 2 == 0 { "" } else { ".5" })
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match halves(value) {
            Some(halves) => of_halves(halves),
            None => format!("{:e}", number.as_f64().unwrap()),
        },
        other => other.to_string(),
    }
}

fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| (value.is_number(), value.is_string());
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => match (halves(one), halves(other)) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => one.as_f64().partial_cmp(&other.as_f64()).unwrap(),
        },
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ => {
            let order = |(is_number, is_text)| u8::from(is_number) + 2 * u8::from(is_text);
            order(rank(one)).cmp(&order(rank(other)))
        }
    }
}
