//! What a query asks of all its hits together: counts, sums, least and greatest values, distinct
//! ones, histograms and percentiles, of all or of each group.
//!
//! A field with several values, in a list or in objects of a list, counts with each of them: a
//! document is in the group of each of its values, and its values are summed up. Nulls are no
//! values. Sums, averages, histograms and percentiles are of numbers; other values are left out,
//! and the results say how many.

use std::collections::BTreeMap;

use protocol::Problem;
use protocol::query::{Aggregate, AggregateFunction, QueryOption, QuerySpecification};
use serde_json::Value;

use crate::candidate::Candidate;
use crate::decimal::Decimal;
use crate::groups::{GROUPS_BYTES_MAX, GroupKey, Groups};
use crate::leaves::{Leaves, walk};
use crate::ordered::Leaf;
use crate::partial::Partial;
use crate::paths::{is_built_in, paths};
use crate::predicate::wrong;
use crate::scalar::Scalar;

/// How many aggregates a query may have.
const AGGREGATES_MAX: usize = 64;

/// How many fields documents may be grouped by.
const GROUP_TERMS_MAX: usize = 8;

/// How many groups one document may be in, by lists in fields that are grouped by.
const GROUPS_OF_ONE_MAX: usize = 1_000;

/// How many percentiles one aggregate may have.
const PERCENTS_MAX: usize = 32;

/// A millionth of a percent.
const PERCENT_PARTS: f64 = 1_000_000.0;

/// Aggregates, checked and made ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// The paths that each field stands for.
    fields: Vec<Vec<String>>,
    /// Numbers of fields.
    group_by: Vec<usize>,
    wanted: Vec<WantedAggregate>,
}

#[derive(Clone, Debug, PartialEq)]
struct WantedAggregate {
    name: String,
    function: AggregateFunction,
    /// The number of a field; none to count documents.
    field: Option<usize>,
    interval: Option<Decimal>,
    /// Each with the text by which it is shown, and in millionths.
    percents: Vec<(String, u64)>,
}

/// A group with what is said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// The values that its documents have in common; `None` where they have none.
    pub key: Vec<Option<Scalar>>,
    /// One for each aggregate.
    pub values: Vec<AggregateValue>,
}

/// What an aggregate came to.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateValue {
    /// As JSON, with all digits.
    pub json: String,
    /// The same, if it is a single value.
    pub scalar: Option<Scalar>,
    /// How many values were left out, as they are no numbers.
    pub left_out: u64,
}

impl Aggregation {
    /// What the specification asks of all hits together, if it does.
    ///
    /// # Errors
    /// `BAD_REQUEST` that names the part of the specification that is wrong.
    pub(crate) fn new(specification: &QuerySpecification) -> Result<Option<Self>, Problem> {
        if specification.aggregates.is_empty() {
            return match specification.grouping.group_terms.is_empty() {
                true => Ok(None),
                false => wrong("groupTerms", "go with aggregates, of which there are none"),
            };
        }
        check_options(specification)?;
        let mut made = Self { fields: Vec::new(), group_by: Vec::new(), wanted: Vec::new() };
        if specification.grouping.group_terms.len() > GROUP_TERMS_MAX {
            return wrong("groupTerms", &format!("are too many; the limit is {GROUP_TERMS_MAX}"));
        }
        for (number, term) in specification.grouping.group_terms.iter().enumerate() {
            let at = format!("groupTerms[{number}].propertyName");
            let field = made.field(&term.property_name, &at)?;
            made.group_by.push(field);
        }
        if specification.aggregates.len() > AGGREGATES_MAX {
            return wrong("aggregates", &format!("are too many; the limit is {AGGREGATES_MAX}"));
        }
        for (number, aggregate) in specification.aggregates.iter().enumerate() {
            let wanted = made.wanted(aggregate, &format!("aggregates[{number}]"))?;
            if made.wanted.iter().any(|known| known.name == wanted.name) {
                let why = format!("is '{}', as another one; give it another name", wanted.name);
                return wrong(&format!("aggregates[{number}].name"), &why);
            }
            made.wanted.push(wanted);
        }
        Ok(Some(made))
    }

    fn field(&mut self, name: &str, at: &str) -> Result<usize, Problem> {
        let paths = paths(name, at)?;
        if let Some(known) = self.fields.iter().position(|field| *field == paths) {
            return Ok(known);
        }
        self.fields.push(paths);
        Ok(self.fields.len() - 1)
    }

    fn wanted(&mut self, asked: &Aggregate, at: &str) -> Result<WantedAggregate, Problem> {
        let function = asked.function;
        let field = match &asked.property_name {
            Some(name) => Some(self.field(name, &format!("{at}.propertyName"))?),
            None if function == AggregateFunction::Count => None,
            None => return wrong(&format!("{at}.propertyName"), "is missing"),
        };
        let name = asked.name.clone().unwrap_or_else(|| usual_name(asked));
        let interval = interval(asked, &format!("{at}.interval"))?;
        let percents = percents(asked, &format!("{at}.percents"))?;
        Ok(WantedAggregate { name, function, field, interval, percents })
    }

    /// How the aggregates are called, in the order of a row's values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(|wanted| wanted.name.as_str())
    }

    /// What there is to say before any document was seen.
    pub fn begin(&self) -> Groups {
        let mut groups = Groups::default();
        if self.group_by.is_empty() {
            groups.change(Vec::new(), || self.empty(), |_| 0);
        }
        groups
    }

    fn empty(&self) -> Vec<Partial> {
        self.wanted.iter().map(|wanted| Partial::of(wanted.function)).collect()
    }

    /// Adds a document, or a version of one.
    pub fn add(&self, groups: &mut Groups, candidate: &Candidate<'_>) {
        let mut found =
            FoundValues { aggregation: self, values: vec![Vec::new(); self.fields.len()] };
        for field in protocol::BUILT_IN_FIELDS {
            if self.paths().any(|path| path == field)
                && let Some(leaf) = candidate.built_in(field)
            {
                found.take(field, leaf);
            }
        }
        if self.paths().any(|path| !is_built_in(path)) {
            walk(candidate.body, &mut found);
        }
        let values = found.values;
        let Some(keys) = self.keys(&values) else { return groups.give_up() };
        for key in keys {
            groups.change(key, || self.empty(), |partials| self.take(partials, &values));
        }
    }

    fn paths(&self) -> impl Iterator<Item = &String> {
        self.fields.iter().flatten()
    }

    fn take(&self, partials: &mut [Partial], values: &[Vec<Scalar>]) -> usize {
        let document = [Scalar::Boolean(true)];
        let mut bytes = 0;
        for (wanted, partial) in self.wanted.iter().zip(partials) {
            let values = wanted.field.map_or(&document[..], |field| &values[field]);
            bytes += partial.take(values, wanted.interval.as_ref());
        }
        bytes
    }

    /// The keys of the groups that a document is in; `None` if these are too many.
    fn keys(&self, values: &[Vec<Scalar>]) -> Option<Vec<GroupKey>> {
        let mut keys: Vec<GroupKey> = vec![Vec::new()];
        for field in &self.group_by {
            let mut own: Vec<Option<&Scalar>> = values[*field].iter().map(Some).collect();
            own.sort_unstable();
            own.dedup();
            if own.is_empty() {
                own.push(None);
            }
            let bytes = |value: Option<&Scalar>| value.map_or(0, Scalar::bytes);
            let before: usize = keys.iter().flatten().map(|it| bytes(it.as_ref())).sum();
            let added: usize = own.iter().map(|it| bytes(*it)).sum();
            // Each key with each value, before any of them is made.
            let all = before.saturating_mul(own.len()).saturating_add(added * keys.len());
            let count = keys.len().saturating_mul(own.len());
            if count > GROUPS_OF_ONE_MAX || all > GROUPS_BYTES_MAX {
                return None;
            }
            let longer = |key: &GroupKey, value: Option<&Scalar>| {
                let mut key = key.clone();
                key.push(value.cloned());
                key
            };
            keys = keys
                .iter()
                .flat_map(|key| own.iter().map(move |value| longer(key, *value)))
                .collect();
        }
        Some(keys)
    }

    /// The groups in order of their keys.
    pub fn rows(&self, groups: Groups) -> Vec<GroupRow> {
        let row = |(key, partials): (GroupKey, Vec<Partial>)| {
            let values = self.wanted.iter().zip(partials);
            GroupRow { key, values: values.map(|(wanted, it)| wanted.value(it)).collect() }
        };
        groups.into_iter().map(row).collect()
    }
}

impl WantedAggregate {
    fn value(&self, partial: Partial) -> AggregateValue {
        let left_out = partial.left_out();
        let scalar = match &partial {
            Partial::Count(count) => Some(Scalar::Number(Decimal::of_u64(*count))),
            Partial::Sum { count: 0, .. } => None,
            Partial::Sum { sum, count, .. } if self.function == AggregateFunction::Avg => {
                Some(Scalar::Number(sum.total().divided_by(*count).0))
            }
            Partial::Sum { sum, .. } => Some(Scalar::Number(sum.total())),
            Partial::Least(found) | Partial::Greatest(found) => found.clone(),
            Partial::Distinct(all) if self.function == AggregateFunction::CountDistinct => {
                let count = u64::try_from(all.len()).expect("a length fits");
                Some(Scalar::Number(Decimal::of_u64(count)))
            }
            Partial::Numbers { numbers, .. } if self.percents.len() == 1 => {
                percentile(numbers, self.percents[0].1).map(Scalar::Number)
            }
            Partial::Distinct(_) | Partial::Numbers { .. } => None,
        };
        let json = match partial {
            Partial::Distinct(all) if self.function == AggregateFunction::Distinct => {
                let all: Vec<String> = all.iter().map(Scalar::to_json).collect();
                format!("[{}]", all.join(","))
            }
            Partial::Numbers { numbers, .. } if self.function == AggregateFunction::Histogram => {
                let bucket = |(from, count)| format!("{{\"from\":{from},\"count\":{count}}}");
                format!("[{}]", numbers.iter().map(bucket).collect::<Vec<_>>().join(","))
            }
            Partial::Numbers { numbers, .. } => {
                let of = |(shown, parts): &(String, u64)| {
                    let found = percentile(&numbers, *parts);
                    let found = found.map_or_else(|| "null".into(), |it| it.to_string());
                    format!("\"{shown}\":{found}")
                };
                format!("{{{}}}", self.percents.iter().map(of).collect::<Vec<_>>().join(","))
            }
            _ => scalar.as_ref().map_or_else(|| "null".into(), Scalar::to_json),
        };
        AggregateValue { json, scalar, left_out }
    }
}

/// The least of the numbers that at least this share of all of them does not exceed, in millionths
/// of a percent.
fn percentile(numbers: &BTreeMap<Decimal, u64>, parts: u64) -> Option<Decimal> {
    let all: u128 = numbers.values().map(|times| u128::from(*times)).sum();
    let rank = (all * u128::from(parts)).div_ceil(100_000_000).max(1);
    let mut seen = 0;
    let found = numbers.iter().find(|(_, times)| {
        seen += u128::from(**times);
        seen >= rank
    });
    found.map(|(number, _)| number.clone())
}

struct FoundValues<'a> {
    aggregation: &'a Aggregation,
    values: Vec<Vec<Scalar>>,
}

impl Leaves for FoundValues<'_> {
    fn wants(&self, path: &str) -> bool {
        let is_above = |wanted: &String| {
            wanted.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !is_built_in(path) && self.aggregation.paths().any(is_above)
    }

    fn take(&mut self, path: &str, leaf: Leaf<'_>) {
        for (field, values) in self.aggregation.fields.iter().zip(&mut self.values) {
            if field.iter().any(|wanted| wanted == path) {
                values.push(Scalar::of(leaf));
            }
        }
    }
}

/// Aggregates take the place of hits.
fn check_options(specification: &QuerySpecification) -> Result<(), Problem> {
    let refused = |what: &str| {
        wrong("aggregates", &format!("take the place of hits; leave out {what}, or the aggregates"))
    };
    let of_hits = [
        (QueryOption::Count, "the option COUNT"),
        (QueryOption::ExpandContent, "the option EXPAND_CONTENT"),
        (QueryOption::ExpandBuiltinContentOnly, "the option EXPAND_BUILTIN_CONTENT_ONLY"),
        (QueryOption::ExpandSelectedFields, "the option EXPAND_SELECTED_FIELDS"),
        (QueryOption::Sort, "the option SORT"),
        (QueryOption::TopResults, "the option TOP_RESULTS"),
    ];
    if let Some((_, name)) = of_hits.iter().find(|(option, _)| specification.has(*option)) {
        return refused(name);
    }
    if specification.sort_term.is_some() {
        return refused("sortTerm");
    }
    match specification.result_limit {
        Some(_) => refused("resultLimit"),
        None => Ok(()),
    }
}

fn usual_name(asked: &Aggregate) -> String {
    let function = serde_json::to_value(asked.function).expect("a word is JSON");
    let function = function.as_str().unwrap_or_default().to_lowercase();
    match &asked.property_name {
        Some(field) => format!("{function}({field})"),
        None => function,
    }
}

fn interval(asked: &Aggregate, at: &str) -> Result<Option<Decimal>, Problem> {
    if asked.function != AggregateFunction::Histogram {
        return match asked.interval {
            Some(_) => wrong(at, "goes with the function HISTOGRAM only"),
            None => Ok(None),
        };
    }
    let text = match &asked.interval {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return wrong(at, "must be a number"),
        None => return wrong(at, "is missing: how wide a bucket is"),
    };
    let step = Decimal::parse(&text).filter(Decimal::is_step);
    match step {
        Some(step) => Ok(Some(step)),
        None => wrong(at, "must be a number above zero with at most 18 significant digits"),
    }
}

fn percents(asked: &Aggregate, at: &str) -> Result<Vec<(String, u64)>, Problem> {
    if asked.function != AggregateFunction::Percentiles {
        return match asked.percents.is_empty() {
            true => Ok(Vec::new()),
            false => wrong(at, "go with the function PERCENTILES only"),
        };
    }
    if asked.percents.is_empty() || asked.percents.len() > PERCENTS_MAX {
        return wrong(at, &format!("must be from 1 to {PERCENTS_MAX} numbers, such as [50, 99]"));
    }
    let parts = |percent: f64| {
        let parts = (percent * PERCENT_PARTS).round();
        let is_whole = (parts / PERCENT_PARTS - percent).abs() < f64::EPSILON * 100.0;
        let is_within = percent > 0.0 && percent <= 100.0 && parts >= 1.0;
        let parts = format!("{parts:.0}").parse::<u64>().ok();
        parts.filter(|_| is_whole && is_within).map(|parts| (format!("{percent}"), parts))
    };
    let parts: Option<Vec<_>> = asked.percents.iter().map(|percent| parts(*percent)).collect();
    match parts {
        Some(parts) => Ok(parts),
        None => wrong(at, "must be above 0 and up to 100, with at most six decimals"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::specification::parse_specification;

    fn compiled(aggregates: Value, groups: &[&str]) -> Result<Aggregation, Problem> {
        let groups: Vec<Value> = groups.iter().map(|it| json!({"propertyName": it})).collect();
        let specification = parse_specification(&json!({
            "query": {"term": {"propertyName": "a", "matchValue": 1}},
            "aggregates": aggregates,
            "groupTerms": groups,
        }))?;
        Ok(Aggregation::new(&specification)?.expect("there are aggregates"))
    }

    fn rows(aggregates: Value, groups: &[&str], bodies: &[&str]) -> Vec<String> {
        let aggregation = compiled(aggregates, groups).unwrap();
        // Each document in a partition of its own.
        let mut all = aggregation.begin();
        for body in bodies {
            let mut own = aggregation.begin();
            let candidate = Candidate { body: body.as_bytes(), ..Candidate::nothing() };
            aggregation.add(&mut own, &candidate);
            all.merge(own);
        }
        let mut shown = Vec::new();
        for row in aggregation.rows(all) {
            let key = row.key.iter().map(|it| it.as_ref().map_or("null".into(), Scalar::to_json));
            let values = row.values.iter().map(|it| it.json.clone());
            shown.push(key.chain(values).collect::<Vec<_>>().join(" "));
        }
        shown
    }

    #[test]
    fn numbers_are_exact_whatever_their_size() {
        let all = json!([
            {"function": "COUNT"},
            {"function": "SUM", "propertyName": "n"},
            {"function": "AVG", "propertyName": "n"},
            {"function": "MIN", "propertyName": "n"},
            {"function": "MAX", "propertyName": "n"},
        ]);
        let bodies = [
            r#"{"n":9007199254740993}"#,
            r#"{"n":123456789012345678901234567890}"#,
            r#"{"n":0.1}"#,
            r#"{"n":[0.2,null]}"#,
            r"{}",
        ];
        assert_eq!(
            rows(all, &[], &bodies),
            ["5 123456789012354686100489308883.3 30864197253088671525122327220.825 0.1 \
              123456789012345678901234567890"]
        );
    }

    #[test]
    fn of_nothing_there_is_a_count_and_no_sum() {
        let all = json!([{"function": "COUNT"}, {"function": "SUM", "propertyName": "n"},
            {"function": "DISTINCT", "propertyName": "n"},
            {"function": "PERCENTILES", "propertyName": "n", "percents": [50, 99]}]);
        assert_eq!(rows(all, &[], &[]), [r#"0 null [] {"50":null,"99":null}"#]);
        assert!(rows(json!([{"function": "COUNT"}]), &["n"], &[]).is_empty());
    }

    #[test]
    fn a_document_is_in_the_group_of_each_of_its_values() {
        let bodies = [
            r#"{"k":["a","b","a"],"n":1}"#,
            r#"{"k":"a","n":2,"f":true}"#,
            r#"{"k":5,"n":"x"}"#,
            r#"{"k":5.0,"n":4}"#,
            r#"{"n":8}"#,
        ];
        let all = json!([{"function": "COUNT"}, {"function": "COUNT", "propertyName": "f"},
            {"function": "SUM", "propertyName": "n"}]);
        assert_eq!(
            rows(all, &["k"], &bodies),
            ["null 1 0 8", "5 2 0 4", "\"a\" 2 1 3", "\"b\" 1 0 1"]
        );
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out_and_counted() {
        let aggregation = compiled(json!([{"function": "SUM", "propertyName": "n"}]), &[]).unwrap();
        let mut groups = aggregation.begin();
        for body in [r#"{"n":"5"}"#, r#"{"n":[true,2]}"#] {
            let candidate = Candidate { body: body.as_bytes(), ..Candidate::nothing() };
            aggregation.add(&mut groups, &candidate);
        }
        let rows = aggregation.rows(groups);
        assert_eq!((rows[0].values[0].json.as_str(), rows[0].values[0].left_out), ("2", 2));
    }

    #[test]
    fn histograms_and_percentiles_are_of_the_values_themselves() {
        let bodies: Vec<String> = (0..1000).map(|n| format!("{{\"n\":{n}}}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let all = json!([
            {"function": "PERCENTILES", "propertyName": "n", "percents": [0.1, 50, 99.9, 100]},
            {"function": "HISTOGRAM", "propertyName": "n", "interval": 400},
            {"function": "COUNT_DISTINCT", "propertyName": "n"},
        ]);
        assert_eq!(
            rows(all, &[], &bodies),
            [r#"{"0.1":0,"50":499,"99.9":998,"100":999} "#.to_owned()
                + r#"[{"from":0,"count":400},{"from":400,"count":400},{"from":800,"count":200}]"#
                + " 1000"]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let message = |aggregates: Value| compiled(aggregates, &[]).unwrap_err().message;
        for (aggregate, why) in [
            (json!({"function": "SUMM"}), "aggregates[0].function is 'SUMM'"),
            (json!({"function": "SUM"}), "aggregates[0].propertyName is missing"),
            (json!({"propertyName": "a"}), "aggregates[0].function is missing"),
            (json!({"function": "COUNT", "field": "a"}), "aggregates[0].field is not known"),
            (json!({"function": "COUNT", "interval": 1}), "aggregates[0].interval goes with"),
            (
                json!({"function": "HISTOGRAM", "propertyName": "a", "interval": 0}),
                "aggregates[0].interval must be a number above zero",
            ),
            (
                json!({"function": "PERCENTILES", "propertyName": "a", "percents": [0]}),
                "aggregates[0].percents must be above 0",
            ),
        ] {
            let message = message(json!([aggregate]));
            assert!(message.starts_with(why), "{message}");
        }
        let twice = message(json!([{"function": "COUNT"}, {"function": "COUNT"}]));
        assert!(twice.starts_with("aggregates[1].name is 'count', as another one"), "{twice}");
    }

    #[test]
    fn too_many_groups_are_given_up() {
        let aggregation = compiled(json!([{"function": "COUNT"}]), &["n"]).unwrap();
        let mut groups = aggregation.begin();
        let text = "x".repeat(100_000);
        for number in 0..200 {
            let body = format!("{{\"n\":\"{number}{text}\"}}");
            let candidate = Candidate { body: body.as_bytes(), ..Candidate::nothing() };
            aggregation.add(&mut groups, &candidate);
        }
        assert!(groups.is_over() && groups.bytes() == 0);
        let mut others = aggregation.begin();
        others.merge(groups);
        assert!(others.is_over());
    }

    fn document_is_too_much(aggregates: Value, groups: &[&str], body: &str) -> bool {
        let aggregation = compiled(aggregates, groups).unwrap();
        let mut all = aggregation.begin();
        let candidate = Candidate { body: body.as_bytes(), ..Candidate::nothing() };
        aggregation.add(&mut all, &candidate);
        all.is_over()
    }

    /// Each may be the text of a whole document, or have as many digits.
    #[test]
    fn the_least_and_the_greatest_and_sums_count_in_what_groups_take() {
        let of = |function: &str, count: usize| {
            let each = (0..count).map(
                |n| json!({"function": function, "propertyName": "n", "name": format!("a{n}")}),
            );
            Value::from_iter(each)
        };
        let text = format!("{{\"n\":\"{}\"}}", "x".repeat(250_000));
        let number = format!("{{\"n\":0.{}}}", "7".repeat(250_000));
        for (function, body) in [("MIN", &text), ("MAX", &text), ("SUM", &number)] {
            assert!(!document_is_too_much(of(function, 1), &[], body), "{function}");
            assert!(document_is_too_much(of(function, 64), &[], body), "{function}");
        }
    }

    /// Otherwise one document would take so much for a moment, whatever is kept of it.
    #[test]
    fn the_keys_of_a_document_are_counted_before_they_are_made() {
        let aggregation = compiled(json!([{"function": "COUNT"}]), &["t", "l"]).unwrap();
        let keys = |bytes: usize| {
            let text = vec![Scalar::Text("x".repeat(bytes))];
            let list = (0..900).map(|n| Scalar::Number(Decimal::of_u64(n))).collect();
            aggregation.keys(&[text, list]).map(|keys| keys.len())
        };
        assert_eq!(keys(1_000), Some(900));
        assert_eq!(keys(100_000), None);
    }
}
