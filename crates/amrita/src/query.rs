//! `amrita query`: terms as one would say them, made into a query task.

use std::collections::BTreeMap;

use client::Client;
use protocol::query::{
    self, MatchType, NumericRange, Occurance, Query, QueryOption, QuerySpecification, QueryTerm,
    SortOrder,
};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::arguments::{Cluster, QueryOptions};
use crate::found::Found;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::{body_of, client};

/// How many are shown when nothing is said.
const LIMIT: usize = 100;

/// Comparisons, the longer ones first: `>=` begins with `>`.
const COMPARISONS: [&str; 6] = ["!=", ">=", "<=", "=", ">", "<"];

pub(crate) async fn run(cluster: &Cluster, options: &QueryOptions) -> Outcome {
    check(options).map_err(Trouble::usage)?;
    let task = match &options.terms[..] {
        [raw] if is_whole(raw) => task_of(&body_of(raw)?),
        _ => {
            let specification = specification(options).map_err(Trouble::usage)?;
            task_of(&to_raw_value(&specification).expect("a specification is JSON"))
        }
    };
    let client = client(cluster)?;
    let answer = client.post(query::LINK, &task).await.map_err(|error| unreachable(&error))?;
    let results = &answer.to_json()["results"];
    let has_groups = !results["groups"].is_null() || !results["nextPageLinksPerGroup"].is_null();
    let found = Found::of(&answer).filter(|_| answer.is_success() && !has_groups);
    let Some(mut found) = found else {
        // An error, groups, or a task that is not direct and has no results yet: as it is.
        return screen::show(&answer, cluster.json);
    };
    let is_count = answer.to_json()["querySpec"]["options"]
        .as_array()
        .is_some_and(|options| options.iter().any(|option| option == "COUNT"));
    if is_count || options.count {
        let count = found.page.document_count.to_string();
        return screen::done(&answer, cluster.json, &count);
    }
    found.add_pages(&client, options.limit.unwrap_or(LIMIT)).await?;
    check_names(&client, &found, options).await?;
    screen::say(&match cluster.json {
        true => found.into_json(),
        false => listing(&found, &columns(options)),
    });
    Ok(())
}

/// A kind or a field that nothing has is a slip, and no result.
async fn check_names(client: &Client, found: &Found, options: &QueryOptions) -> Outcome {
    let links = &found.page.document_links;
    if links.is_empty() {
        return match &options.kind {
            Some(kind) if !kind.contains('*') => check_kind(client, kind).await,
            _ => Ok(()),
        };
    }
    let Some(sort) = &options.sort else { return Ok(()) };
    let (name, _) = sort_of(sort).map_err(Trouble::usage)?;
    if links.iter().any(|link| !found.cell(link, name).is_empty()) {
        return Ok(());
    }
    let count = links.len();
    Err(format!("none of the {count} documents found has a field '{name}' to sort by").into())
}

/// The kinds that there are, as the factories tell.
async fn check_kind(client: &Client, kind: &str) -> Outcome {
    let root = client.get("/").await.map_err(|error| unreachable(&error))?;
    let mut kinds = Vec::new();
    for factory in root.to_json()["documentLinks"].as_array().into_iter().flatten() {
        let Some(factory) = factory.as_str() else { continue };
        let path = format!("{factory}/template");
        let answer = client.get(&path).await.map_err(|error| unreachable(&error))?;
        if let Some(known) = answer.to_json()["documentKind"].as_str() {
            kinds.push(known.to_owned());
        }
    }
    let short = |known: &str| known.rsplit(':').next().unwrap_or(known).to_owned();
    if kinds.is_empty() || kinds.iter().any(|known| known == kind || short(known) == kind) {
        return Ok(());
    }
    let names: Vec<String> = kinds.iter().map(|known| short(known)).collect();
    Err(format!("there is no kind '{kind}'; there are {}", names.join(", ")).into())
}

/// Whether it is a specification or a task, and no term.
fn is_whole(text: &str) -> bool {
    text.starts_with(['{', '@']) || text == "-"
}

/// What would be passed over is refused.
fn check(options: &QueryOptions) -> Result<(), String> {
    let QueryOptions { terms, kind, limit, sort, show, all_versions, count } = options;
    let said = [
        ("--kind", kind.is_some()),
        ("--limit", limit.is_some()),
        ("--sort", sort.is_some()),
        ("--all-versions", *all_versions),
        ("--count", *count),
        ("--show", !show.is_empty()),
    ];
    let said = |names: &[&str]| {
        let found = said.iter().find(|(name, is_said)| *is_said && names.contains(name));
        found.map(|(name, _)| *name)
    };
    let whole = terms.iter().find(|term| is_whole(term));
    if let (Some(whole), true) = (whole, terms.len() > 1) {
        let shown: String = whole.chars().take(40).collect();
        return Err(format!("'{shown}' is a whole query; it goes with no other term"));
    }
    // It says itself what --show does not change.
    let by_itself = ["--kind", "--limit", "--sort", "--all-versions", "--count"];
    if let (Some(_), Some(name)) = (whole, said(&by_itself)) {
        return Err(format!("{name} does not go with a whole query, which says that itself"));
    }
    if let (true, Some(name)) = (*count, said(&["--limit", "--sort", "--show"])) {
        return Err(format!("{name} does not go with --count, which shows a number only"));
    }
    Ok(())
}

/// A whole task, from a task or from a specification only.
fn task_of(body: &RawValue) -> Box<RawValue> {
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(body.get());
    if fields.is_ok_and(|fields| fields.contains_key("querySpec")) {
        return body.to_owned();
    }
    let task = format!(r#"{{"taskInfo":{{"isDirect":true}},"querySpec":{}}}"#, body.get());
    RawValue::from_string(task).expect("JSON in JSON is JSON")
}

fn specification(options: &QueryOptions) -> Result<QuerySpecification, String> {
    let mut clauses =
        options.terms.iter().map(|term| clause(term)).collect::<Result<Vec<_>, _>>()?;
    if let Some(kind) = &options.kind {
        let whole = kind.contains([':', '*']);
        let pattern = if whole { kind.clone() } else { format!("*:{kind}") };
        clauses.push(exact("documentKind", &pattern));
    }
    if clauses.is_empty() {
        clauses.push(exact("documentSelfLink", "*"));
    }
    let mut specification = QuerySpecification {
        query: Query { boolean_clauses: Some(clauses), ..Query::default() },
        result_limit: (!options.count).then_some(options.limit.unwrap_or(LIMIT)),
        ..QuerySpecification::default()
    };
    specification.options.push(if options.count {
        QueryOption::Count
    } else {
        QueryOption::ExpandContent
    });
    if options.all_versions {
        specification.options.push(QueryOption::IncludeAllVersions);
    }
    if let Some(sort) = &options.sort {
        let (name, order) = sort_of(sort)?;
        specification.options.push(QueryOption::Sort);
        specification.sort_order = Some(order);
        specification.sort_term =
            Some(QueryTerm { property_name: name.into(), ..QueryTerm::default() });
    }
    Ok(specification)
}

/// The one field to sort by, and which way.
fn sort_of(text: &str) -> Result<(&str, SortOrder), String> {
    let (name, order) = match text.rsplit_once(':') {
        None => (text, SortOrder::Asc),
        Some((name, "desc")) => (name, SortOrder::Desc),
        Some((name, "asc")) => (name, SortOrder::Asc),
        Some((_, other)) => {
            return Err(format!("'{other}' in --sort {text} is no order; it is asc or desc"));
        }
    };
    if name.is_empty() || name.contains([',', ' ']) {
        return Err(format!("--sort takes the name of one field, and '{name}' is not one"));
    }
    Ok((name, order))
}

/// `name=foo` and the like.
fn clause(text: &str) -> Result<Query, String> {
    let (name, comparison, value) = split(text)?;
    match comparison {
        "=" => Ok(exact(name, value)),
        "!=" => Ok(Query { occurance: Occurance::MustNotOccur, ..exact(name, value) }),
        _ => {
            let whole = value.parse::<i64>().map(Value::from);
            let is_whole = whole.is_ok();
            let number = whole.ok().or_else(|| {
                let number = value.parse::<serde_json::Number>().ok()?;
                // As text it keeps all its digits.
                let is_same = number.to_string() == value;
                Some(if is_same { Value::Number(number) } else { value.into() })
            });
            let number = number.ok_or_else(|| {
                format!("'{value}' in '{text}' is not a number; {comparison} compares numbers")
            })?;
            let mut range = NumericRange {
                number_type: Some(if is_whole { "LONG" } else { "DOUBLE" }.into()),
                ..NumericRange::default()
            };
            let inclusive = comparison.ends_with('=');
            if comparison.starts_with('>') {
                (range.min, range.is_min_inclusive) = (Some(number), inclusive);
            } else {
                (range.max, range.is_max_inclusive) = (Some(number), inclusive);
            }
            let property_name = name.into();
            let term = QueryTerm { property_name, range: Some(range), ..QueryTerm::default() };
            Ok(Query { term: Some(term), ..Query::default() })
        }
    }
}

/// Where the first comparison stands: `a=b>c` compares `a` with `b>c`.
fn split(text: &str) -> Result<(&str, &str, &str), String> {
    let at = text.find(['!', '>', '<', '=']);
    let found = at.and_then(|at| {
        let (name, rest) = text.split_at(at);
        let comparison = COMPARISONS.iter().find(|comparison| rest.starts_with(**comparison))?;
        Some((name.trim(), *comparison, rest[comparison.len()..].trim()))
    });
    found.filter(|(name, ..)| !name.is_empty()).ok_or_else(|| {
        format!(
            "'{text}' is not a term\n  -> write it as name=foo, name=fo*, name!=foo or counter>=5"
        )
    })
}

/// A term, a prefix (`fo*`) or a pattern (`*o*`).
fn exact(name: &str, value: &str) -> Query {
    let before = value.strip_suffix('*').unwrap_or(value);
    let (match_type, value) = match before.contains('*') {
        _ if before == value => match value.contains('*') {
            true => (MatchType::Wildcard, value),
            false => (MatchType::Term, value),
        },
        false if !before.is_empty() => (MatchType::Prefix, before),
        _ => (MatchType::Wildcard, value),
    };
    let term = QueryTerm {
        property_name: name.into(),
        match_value: Some(value.into()),
        match_type: Some(match_type),
        ..QueryTerm::default()
    };
    Query { term: Some(term), ..Query::default() }
}

/// The fields beside the link: those asked for, or those of the terms and the sort.
fn columns(options: &QueryOptions) -> Vec<String> {
    if !options.show.is_empty() {
        return options.show.clone();
    }
    let mut columns: Vec<String> = Vec::new();
    let terms = options.terms.iter().filter_map(|term| split(term).ok());
    let sort = options.sort.iter().map(|sort| sort.split(':').next().unwrap_or(sort));
    for name in terms.map(|(name, ..)| name).chain(sort) {
        if !name.starts_with("document") && !columns.iter().any(|column| column == name) {
            columns.push(name.to_owned());
        }
    }
    columns
}

fn listing(found: &Found, columns: &[String]) -> String {
    let links = &found.page.document_links;
    let rows: Vec<Vec<String>> = links
        .iter()
        .map(|link| {
            let plain = link.split('?').next().unwrap_or(link).to_owned();
            let version = found.cell(link, "documentVersion");
            let fields = columns.iter().map(|column| found.cell(link, column));
            [plain, version].into_iter().chain(fields).collect()
        })
        .collect();
    let heading: Vec<&str> =
        ["link", "version"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut text = match rows.len() {
        0 => String::from("Nothing matches."),
        _ => screen::table(&heading, &rows),
    };
    if found.page.next_page_link.is_some() {
        text.push_str("\n\nThere is more: ask again with a higher --limit.");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let with = |terms: &[&str], change: fn(&mut QueryOptions)| {
            let mut asked = QueryOptions { limit: None, ..options(terms) };
            change(&mut asked);
            check(&asked)
        };
        assert_eq!(with(&["a=b", "c=d"], |_| ()), Ok(()));
        assert_eq!(with(&["{}"], |it| it.show = vec!["a".into()]), Ok(()));
        type Change = fn(&mut QueryOptions);
        let whole: [(Change, &str); 5] = [
            (|it| it.kind = Some("K".into()), "--kind"),
            (|it| it.limit = Some(1), "--limit"),
            (|it| it.sort = Some("a".into()), "--sort"),
            (|it| it.all_versions = true, "--all-versions"),
            (|it| it.count = true, "--count"),
        ];
        for (change, name) in whole {
            assert!(with(&["-"], change).unwrap_err().contains(name), "{name}");
        }
        assert!(with(&["a=b", "{}"], |_| ()).unwrap_err().contains("no other term"));
        let counted = |it: &mut QueryOptions| (it.count, it.limit) = (true, Some(1));
        assert!(with(&["a=b"], counted).unwrap_err().contains("--limit"));
    }

    #[test]
    fn a_whole_query_goes_as_it_was_written() {
        let raw = |text: &str| RawValue::from_string(text.into()).unwrap();
        let task = r#"{"querySpec": {"x": 123456789012345678901234567890}}"#;
        assert_eq!(task_of(&raw(task)).get(), task);
        let made = task_of(&raw(r#"{"x": 1.10}"#));
        assert_eq!(made.get(), r#"{"taskInfo":{"isDirect":true},"querySpec":{"x": 1.10}}"#);
    }

    fn options(terms: &[&str]) -> QueryOptions {
        QueryOptions {
            terms: terms.iter().map(|term| (*term).to_owned()).collect(),
            kind: None,
            limit: Some(10),
            sort: None,
            show: Vec::new(),
            all_versions: false,
            count: false,
        }
    }

    fn term(text: &str) -> (MatchType, Value) {
        let term = clause(text).unwrap().term.unwrap();
        (term.match_type.unwrap(), term.match_value.unwrap())
    }

    #[test]
    fn an_asterisk_makes_a_prefix_or_a_pattern() {
        assert_eq!(term("a=foo"), (MatchType::Term, "foo".into()));
        assert_eq!(term("a=foo*"), (MatchType::Prefix, "foo".into()));
        assert_eq!(term("a=*oo"), (MatchType::Wildcard, "*oo".into()));
        assert_eq!(term("a=f*o*"), (MatchType::Wildcard, "f*o*".into()));
        assert_eq!(term("a=*"), (MatchType::Wildcard, "*".into()));
        assert_eq!(term("a=b=c>d"), (MatchType::Term, "b=c>d".into()));
    }

    #[test]
    fn numbers_are_compared_by_ranges() {
        let range = |text: &str| clause(text).unwrap().term.unwrap().range.unwrap();
        let at_least = range("counter>=5");
        assert_eq!((at_least.min, at_least.is_min_inclusive), (Some(5.into()), true));
        let under = range("counter<2.5");
        assert_eq!((under.is_max_inclusive, under.number_type.as_deref()), (false, Some("DOUBLE")));
        assert!(clause("counter>x").unwrap_err().contains("not a number"));
    }

    #[test]
    fn what_is_not_a_term_is_refused_with_the_right_form() {
        for text in ["foo", "=foo", "", "a!b"] {
            assert!(clause(text).unwrap_err().contains("write it as name=foo"), "{text}");
        }
    }

    #[test]
    fn the_options_become_a_specification() {
        let options = QueryOptions {
            kind: Some("ExampleServiceState".into()),
            sort: Some("counter:desc".into()),
            all_versions: true,
            ..options(&["name!=x"])
        };
        let spec = json!(specification(&options).unwrap());
        assert_eq!(spec["options"], json!(["EXPAND_CONTENT", "INCLUDE_ALL_VERSIONS", "SORT"]));
        assert_eq!(spec["sortOrder"], "DESC");
        let clauses = &spec["query"]["booleanClauses"];
        assert_eq!(clauses[0]["occurance"], "MUST_NOT_OCCUR");
        assert_eq!(clauses[1]["term"]["matchValue"], "*:ExampleServiceState");
    }

    #[test]
    fn a_listing_shows_the_fields_of_the_terms() {
        let answer = client::Response::json(
            200,
            &json!({"results": {
                "documentLinks": ["/a/b?documentVersion=2"],
                "documents": {
                    "/a/b?documentVersion=2": {"documentVersion": 2, "taskInfo": {"stage": "S"}}
                },
                "nextPageLink": "/core/query-page/x",
            }}),
        );
        let found = Found::of(&answer).unwrap();
        let text = listing(&found, &columns(&options(&["taskInfo.stage=S"])));
        assert!(text.starts_with("LINK  VERSION  TASKINFO.STAGE\n/a/b        2  S"), "{text}");
        assert!(text.contains("--limit"), "{text}");
    }
}
