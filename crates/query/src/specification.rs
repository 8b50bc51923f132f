//! Reading a query specification from JSON, with errors that name the wrong part.

use protocol::Problem;
use protocol::query::{AggregateFunction, QuerySpecification};
use serde_json::{Map, Value};

use crate::compiled::DEPTH_MAX;
use crate::predicate::wrong;

/// From this on a limit is none: it is the greatest number of Xenon's clients.
pub(crate) const NO_PAGES: u64 = 2_147_483_647;

/// The fields of an object: those that are read, and those of Xenon's that are not. These may be
/// there when they say nothing.
struct Fields {
    known: &'static [&'static str],
    idle: &'static [&'static str],
}

const SPECIFICATION: Fields = Fields {
    known: &[
        "query",
        "options",
        "resultLimit",
        "sortTerm",
        "sortOrder",
        "additionalSortTerms",
        "selectTerms",
        "explain",
        "aggregates",
        "groupTerms",
        "timeSnapshotBoundaryMicros",
        "offset",
        "expectedResultCount",
        "linkTerms",
        "groupByTerm",
        "groupSortTerm",
        "groupSortOrder",
        "groupResultLimit",
    ],
    idle: &["context", "expectedResultCount", "additionalGroupSortTerms", "linkTerms", "offset"],
};
const QUERY: Fields = Fields { known: &["occurance", "term", "booleanClauses"], idle: &[] };
const TERM: Fields = Fields {
    known: &[
        "propertyName",
        "propertyType",
        "matchValue",
        "matchValues",
        "matchType",
        "range",
        "within",
    ],
    idle: &["sortOrder", "matchValues"],
};
const RANGE: Fields = Fields {
    known: &["type", "min", "max", "isMinInclusive", "isMaxInclusive"],
    idle: &[PRECISION_STEP],
};

const AGGREGATE: Fields =
    Fields { known: &["name", "function", "propertyName", "interval", "percents"], idle: &[] };

/// Of Lucene's index, which is not here: any number of it gives the same results.
const PRECISION_STEP: &str = "precisionStep";

/// What Xenon has and is not here, and what there is in its place.
const INSTEAD: [(&str, &str); 2] = [
    (
        "additionalGroupSortTerms",
        "would sort groups by further fields; they are sorted by the value that their documents have \
         in common: leave it out",
    ),
    ("context", "is Xenon's own, for what runs within it: leave it out"),
];

/// How the kinds of a query task and of its parts begin.
const KINDS: &str = "com:vmware:xenon:services:common:QueryTask";

const OCCURANCES: [&str; 3] = ["MUST_OCCUR", "MUST_NOT_OCCUR", "SHOULD_OCCUR"];
const MATCH_TYPES: [&str; 4] = ["TERM", "WILDCARD", "PHRASE", "PREFIX"];
const SORT_ORDERS: [&str; 2] = ["ASC", "DESC"];
const OPTIONS: [&str; 15] = [
    "EXPAND_CONTENT",
    "EXPAND_BUILTIN_CONTENT_ONLY",
    "EXPAND_SELECTED_FIELDS",
    "INCLUDE_ALL_VERSIONS",
    "INCLUDE_DELETED",
    "COUNT",
    "SORT",
    "TOP_RESULTS",
    "TIME_SNAPSHOT",
    "SELECT_LINKS",
    "EXPAND_LINKS",
    "GROUP_BY",
    "READ_AFTER_WRITE_CONSISTENCY",
    "BROADCAST",
    "OWNER_SELECTION",
];

/// Options of Xenon that hint at how to run a query: they change no result here.
const HINTS: [&str; 5] =
    ["DO_NOT_REFRESH", "FORWARD_ONLY", "SINGLE_USE", "INDEXED_METADATA", "TASK"];

/// Reads `querySpec`. Unlike plain serde it refuses misspelt and unsupported parts, says where
/// they are and how they are spelled, and drops Xenon's options that make no difference here.
///
/// # Errors
/// `BAD_REQUEST` that names the wrong part and the right spelling.
pub fn parse_specification(specification: &Value) -> Result<QuerySpecification, Problem> {
    let mut known = specification.clone();
    read_texts(&mut known, &["explain"], &WHOLE_NUMBERS);
    let fields = object(&mut known, "querySpec", &SPECIFICATION)?;
    if let Some(options) = fields.get_mut("options") {
        let Value::Array(names) = options else {
            return wrong("options", "must be an array of names, such as [\"EXPAND_CONTENT\"]");
        };
        names.retain(|name| !HINTS.iter().any(|hint| name == hint));
        for (number, name) in names.iter().enumerate() {
            word(Some(name), &format!("options[{number}]"), &OPTIONS)?;
        }
    }
    word(fields.get("sortOrder"), "sortOrder", &SORT_ORDERS)?;
    let order = fields.get("sortOrder").cloned().unwrap_or_else(|| "ASC".into());
    if let Some(sort_term) = fields.get_mut("sortTerm") {
        take_sort_order(sort_term, &order)?;
        term(sort_term, "sortTerm")?;
    }
    if fields.get("explain").is_some_and(|explain| !explain.is_boolean()) {
        return wrong("explain", "must be true or false");
    }
    each(fields, "additionalSortTerms", &mut sort_term_of)?;
    each(fields, "selectTerms", &mut |term_value, at| field_only(term_value, at))?;
    each(fields, "groupTerms", &mut |term_value, at| field_only(term_value, at))?;
    each(fields, "aggregates", &mut aggregate)?;
    if fields.get("resultLimit").and_then(Value::as_u64).is_some_and(|it| it >= NO_PAGES) {
        fields.remove("resultLimit");
    }
    if fields.get("resultLimit").is_some_and(|limit| !limit.is_u64()) {
        return wrong("resultLimit", "must be a whole number from 1 up");
    }
    check_groups(fields)?;
    each(fields, "linkTerms", &mut |term_value, at| field_only(term_value, at))?;
    if fields.get("offset").is_some_and(|offset| !offset.is_u64()) {
        return wrong("offset", "must be a whole number from 0 up");
    }
    if fields.get("expectedResultCount").is_some_and(|count| !count.is_u64()) {
        return wrong("expectedResultCount", "must be a whole number from 0 up");
    }
    if fields.get("timeSnapshotBoundaryMicros").is_some_and(|time| !time.is_u64()) {
        return wrong("timeSnapshotBoundaryMicros", "must be a time in microseconds since 1970");
    }
    match fields.get_mut("query") {
        Some(inner) => query(inner, "query", 1)?,
        None => return wrong("query", "is missing; give it a 'term' or 'booleanClauses'"),
    }
    serde_json::from_value(known).map_err(|error| {
        Problem::bad_request(format!("the query specification cannot be read: {error}"))
    })
}

/// Fields whose values may be texts of whole numbers, as Xenon's clients may send them.
const WHOLE_NUMBERS: [&str; 5] = [
    "resultLimit",
    "offset",
    "timeSnapshotBoundaryMicros",
    "groupResultLimit",
    "expectedResultCount",
];

/// Reads texts as what they stand for, and whole numbers that are written with a fraction.
fn read_texts(value: &mut Value, booleans: &[&str], numbers: &[&str]) {
    for name in booleans {
        let Some(field) = value.get_mut(*name) else { continue };
        match field.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => *field = true.into(),
            Some("false") => *field = false.into(),
            _ => {}
        }
    }
    for name in numbers {
        let Some(field) = value.get_mut(*name) else { continue };
        let text = match field {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => number.to_string(),
            _ => continue,
        };
        let whole = text.strip_suffix(".0").unwrap_or(&text);
        if let Ok(number) = whole.parse::<u64>() {
            *field = number.into();
        }
    }
}

fn check_groups(fields: &mut Map<String, Value>) -> Result<(), Problem> {
    for name in ["groupByTerm", "groupSortTerm"] {
        if let Some(term) = fields.get_mut(name) {
            // Xenon's clients send an order with it, which is the one of the groups.
            if let Value::Object(inner) = term {
                inner.remove("sortOrder");
            }
            field_only(term, name)?;
        }
    }
    word(fields.get("groupSortOrder"), "groupSortOrder", &SORT_ORDERS)?;
    let limit = fields.get("groupResultLimit");
    if limit.is_some_and(|limit| !limit.is_u64()) {
        return wrong("groupResultLimit", "must be a whole number from 1 up");
    }
    if limit.and_then(Value::as_u64).is_some_and(|it| it >= NO_PAGES) {
        fields.remove("groupResultLimit");
    }
    Ok(())
}

fn query(value: &mut Value, at: &str, depth: usize) -> Result<(), Problem> {
    if depth > DEPTH_MAX {
        return wrong(at, &format!("lies deeper than {DEPTH_MAX} clauses; flatten the query"));
    }
    // The usual spelling is taken as well.
    if let Value::Object(fields) = value
        && let Some(occurrence) = fields.remove("occurrence").filter(|it| !it.is_null())
    {
        match fields.get("occurance").filter(|it| !it.is_null()) {
            Some(occurance) if *occurance != occurrence => {
                let why =
                    format!("is {occurrence}, and occurance is {occurance}; send one of them");
                return wrong(&format!("{at}.occurrence"), &why);
            }
            _ => drop(fields.insert("occurance".into(), occurrence)),
        }
    }
    let fields = object(value, at, &QUERY)?;
    word(fields.get("occurance"), &format!("{at}.occurance"), &OCCURANCES)?;
    if let Some(inner) = fields.get_mut("term") {
        term(inner, &format!("{at}.term"))?;
    }
    match fields.get_mut("booleanClauses") {
        None => {}
        Some(Value::Array(clauses)) => {
            for (number, clause) in clauses.iter_mut().enumerate() {
                query(clause, &format!("{at}.booleanClauses[{number}]"), depth + 1)?;
            }
        }
        Some(_) => return wrong(&format!("{at}.booleanClauses"), "must be an array of clauses"),
    }
    Ok(())
}

/// A term has the order of a further sort term in Xenon. That of the only one is the query's.
fn take_sort_order(sort_term: &mut Value, order: &Value) -> Result<(), Problem> {
    let Value::Object(fields) = sort_term else { return Ok(()) };
    match fields.remove("sortOrder").filter(|it| !it.is_null()) {
        Some(own) if own != *order => wrong(
            "sortTerm.sortOrder",
            &format!("is {own}, and the query's sortOrder is {order}; say it in sortOrder"),
        ),
        _ => Ok(()),
    }
}

fn term(value: &mut Value, at: &str) -> Result<(), Problem> {
    read_texts(value, &["within"], &[]);
    let fields = object(value, at, &TERM)?;
    for name in ["propertyName", "propertyType"] {
        if fields.get(name).is_some_and(|value| !value.is_string()) {
            return wrong(&format!("{at}.{name}"), "must be a string");
        }
    }
    word(fields.get("matchType"), &format!("{at}.matchType"), &MATCH_TYPES)?;
    if fields.get("matchValues").is_some_and(|values| !values.is_array()) {
        return wrong(&format!("{at}.matchValues"), "must be an array of values");
    }
    if fields.get("within").is_some_and(|value| !value.is_boolean() && !value.is_null()) {
        return wrong(&format!("{at}.within"), "must be true or false");
    }
    let Some(range) = fields.get_mut("range") else { return Ok(()) };
    let at = format!("{at}.range");
    read_texts(range, &["isMinInclusive", "isMaxInclusive"], &[PRECISION_STEP]);
    let fields = object(range, &at, &RANGE)?;
    for name in ["min", "max"] {
        if fields.get(name).is_some_and(|value| !value.is_number() && !value.is_string()) {
            return wrong(&format!("{at}.{name}"), "must be a number or a text");
        }
    }
    for name in ["isMinInclusive", "isMaxInclusive"] {
        if fields.get(name).is_some_and(|value| !value.is_boolean()) {
            return wrong(&format!("{at}.{name}"), "must be true or false");
        }
    }
    if fields.get("type").is_some_and(|value| !value.is_string()) {
        return wrong(&format!("{at}.type"), "must be LONG, DOUBLE, DATE or STRING");
    }
    Ok(())
}

/// Looks at each item of an array, if it is there.
fn each(
    fields: &mut Map<String, Value>,
    name: &str,
    check: &mut dyn FnMut(&mut Value, &str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    match fields.get_mut(name) {
        None | Some(Value::Null) => drop(fields.remove(name)),
        Some(Value::Array(items)) => {
            for (number, item) in items.iter_mut().enumerate() {
                check(item, &format!("{name}[{number}]"))?;
            }
        }
        Some(_) => return wrong(name, "must be an array"),
    }
    Ok(())
}

/// A further term to sort by, with an order of its own.
fn sort_term_of(value: &mut Value, at: &str) -> Result<(), Problem> {
    let Value::Object(fields) = value else { return wrong(at, "must be a JSON object") };
    let order = fields.remove("sortOrder").filter(|it| !it.is_null());
    word(order.as_ref(), &format!("{at}.sortOrder"), &SORT_ORDERS)?;
    field_only(value, at)?;
    if let (Some(order), Value::Object(fields)) = (order, value) {
        fields.insert("sortOrder".into(), order);
    }
    Ok(())
}

/// A term that names a field and asks nothing of it.
fn field_only(value: &mut Value, at: &str) -> Result<(), Problem> {
    term(value, at)?;
    let asked = ["matchValue", "matchValues", "matchType", "range", "within"];
    match asked.iter().find(|name| value.get(**name).is_some()) {
        Some(name) => wrong(&format!("{at}.{name}"), "would say nothing here; leave it out"),
        None => Ok(()),
    }
}

fn aggregate(value: &mut Value, at: &str) -> Result<(), Problem> {
    let fields = object(value, at, &AGGREGATE)?;
    match fields.get("function") {
        None => return wrong(&format!("{at}.function"), "is missing"),
        function => word(function, &format!("{at}.function"), &AggregateFunction::NAMES)?,
    }
    for name in ["name", "propertyName"] {
        if fields.get(name).is_some_and(|value| !value.is_string()) {
            return wrong(&format!("{at}.{name}"), "must be a string");
        }
    }
    match fields.get("percents") {
        None => Ok(()),
        Some(Value::Array(all)) if all.iter().all(Value::is_number) => Ok(()),
        Some(_) => wrong(&format!("{at}.percents"), "must be an array of numbers"),
    }
}

/// The fields of an object, all of them known. Those that say nothing are taken out.
fn object<'v>(
    value: &'v mut Value,
    at: &str,
    known: &Fields,
) -> Result<&'v mut Map<String, Value>, Problem> {
    let Value::Object(fields) = value else { return wrong(at, "must be a JSON object") };
    fields.retain(|name, value| !says_nothing(name, value, known));
    if let Some(name) = fields.keys().find(|name| !known.known.contains(&name.as_str())) {
        if let Some((_, why)) = INSTEAD.iter().find(|(refused, _)| refused == name) {
            return wrong(&format!("{at}.{name}"), why);
        }
        return wrong(
            &format!("{at}.{name}"),
            &format!("is not known or not supported; {}", advice(name, known.known)),
        );
    }
    Ok(fields)
}

fn says_nothing(name: &str, value: &Value, known: &Fields) -> bool {
    let is_empty = match value {
        Value::Null => return true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => name == PRECISION_STEP || number.as_u64() == Some(0),
        _ => false,
    };
    let is_kind = ["kind", "documentKind"].contains(&name);
    is_empty && known.idle.contains(&name)
        || is_kind && value.as_str().is_some_and(|kind| kind.starts_with(KINDS))
}

/// That a value is one of a few words.
fn word(value: Option<&Value>, at: &str, known: &[&str]) -> Result<(), Problem> {
    let Some(value) = value else { return Ok(()) };
    match value.as_str() {
        Some(text) if known.contains(&text) => Ok(()),
        Some(text) => {
            wrong(at, &format!("is '{text}', which is not supported; {}", advice(text, known)))
        }
        None => wrong(at, &format!("must be one of {}", known.join(", "))),
    }
}

/// What was meant, if that can be guessed; else what there is.
fn advice(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|word| (distance(name, word), word)).min();
    match near {
        Some((steps, word)) if steps <= 2 => format!("did you mean '{word}'?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// How many letters have to be changed, added or left out (Levenshtein), without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    // A name that is much longer is not near to any; only its beginning matters.
    for (number, letter) in one.to_lowercase().chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (at, known) in other.iter().enumerate() {
            let changed = diagonal + usize::from(*known != letter);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(specification: Value) -> String {
        parse_specification(&specification).unwrap_err().message
    }

    #[test]
    fn a_query_of_a_tutorial_is_read() {
        let specification = json!({
            "options": ["EXPAND_CONTENT", "SORT", "DO_NOT_REFRESH"],
            "resultLimit": 50, "sortOrder": "ASC", "offset": null, "linkTerms": [], "context": {},
            "sortTerm": {"propertyName": "name", "propertyType": "STRING"},
            "query": {"booleanClauses": [
                {"occurance": "MUST_OCCUR", "term": {"propertyName": "name", "matchValue": "x"}},
                {"occurrence": "MUST_NOT_OCCUR", "term": {"propertyName": "counter",
                    "range": {"type": "LONG", "min": 1.0, "isMinInclusive": true}}},
            ]},
        });
        let parsed = parse_specification(&specification).unwrap();
        assert_eq!(parsed.options.len(), 2);
        assert_eq!(parsed.query.boolean_clauses.unwrap().len(), 2);
    }

    /// As Gson reads them.
    #[test]
    fn numbers_and_words_may_be_texts() {
        let specification = json!({
            "resultLimit": "50", "offset": 2.0, "explain": "true", "expectedResultCount": "0",
            "query": {"term": {"propertyName": "a", "within": "False", "range": {"min": 1,
                "isMinInclusive": "false", "isMaxInclusive": "TRUE", "precisionStep": "4"}}},
        });
        let parsed = parse_specification(&specification).unwrap();
        assert_eq!((parsed.result_limit, parsed.extent.offset), (Some(50), Some(2)));
        let term = parsed.query.term.unwrap();
        let range = term.range.unwrap();
        assert!(parsed.explain && range.is_max_inclusive && !range.is_min_inclusive);
        assert_eq!(term.within, Some(false));
        let wrong = |specification: Value| message(specification);
        let query = || json!({"term": {"propertyName": "a", "matchValue": "x"}});
        assert!(wrong(json!({"query": query(), "resultLimit": "many"})).contains("resultLimit"));
        assert!(wrong(json!({"query": query(), "explain": "yes"})).contains("explain"));
    }

    #[test]
    fn what_is_misspelt_is_named_with_the_right_spelling() {
        let clause = json!({"propertyName": "a", "matchValue": "x", "matchtype": "TERM"});
        assert_eq!(
            message(json!({"query": {"boolenClauses": [{}]}, "options": []})),
            "query.boolenClauses is not known or not supported; did you mean 'booleanClauses'?"
        );
        assert_eq!(
            message(json!({"query": {"booleanClauses": [{"term": clause}]}})),
            "query.booleanClauses[0].term.matchtype is not known or not supported; did you mean \
             'matchType'?"
        );
        assert_eq!(
            message(json!({"query": {"occurance": "MUST"}})),
            "query.occurance is 'MUST', which is not supported; there are MUST_OCCUR, \
             MUST_NOT_OCCUR, SHOULD_OCCUR"
        );
        assert_eq!(
            message(json!({"query": {}, "options": ["EXPAND_CONTENTS"]})),
            "options[0] is 'EXPAND_CONTENTS', which is not supported; did you mean \
             'EXPAND_CONTENT'?"
        );
        assert_eq!(
            message(json!({"query": {"term": {"propertyName": "a", "range": {"min": true}}}})),
            "query.term.range.min must be a number or a text"
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_when_it_says_something() {
        let specification = json!({"query": {"term": {"propertyName": "a", "matchValue": 1}},
            "context": {"a": 1}});
        let why = message(specification);
        assert!(why.starts_with("querySpec.context is Xenon's own"), "{why}");
    }

    #[test]
    fn parts_that_belong_together_are_asked_for_together() {
        let why = |more: Value| {
            let mut specification = json!({"query": {"term": {"propertyName": "a",
                "matchValue": 1}}});
            for (name, value) in more.as_object().unwrap() {
                specification[name] = value.clone();
            }
            let parsed = parse_specification(&specification).unwrap();
            crate::CompiledQuery::new(&parsed).unwrap_err().message
        };
        let by = json!({"propertyName": "b", "propertyType": "STRING", "sortOrder": "ASC"});
        for (more, wrong) in [
            (json!({"groupByTerm": by}), "groupByTerm goes with the option GROUP_BY"),
            (json!({"groupSortOrder": "ASC"}), "groupSortOrder goes with the option GROUP_BY"),
            (json!({"options": ["GROUP_BY"]}), "groupByTerm is missing"),
            (
                json!({"options": ["GROUP_BY", "COUNT"], "groupByTerm": by}),
                "options have GROUP_BY, which gives pages, and COUNT",
            ),
            (
                json!({"options": ["GROUP_BY"], "groupByTerm": by, "groupResultLimit": 0}),
                "groupResultLimit is 0",
            ),
            (
                json!({"options": ["GROUP_BY"], "groupByTerm": by,
                    "groupSortTerm": {"propertyName": "c"}}),
                "groupSortTerm is another field",
            ),
            (json!({"options": ["COUNT"], "offset": 1}), "offset leaves out the first"),
            (
                json!({"expectedResultCount": 2, "resultLimit": 5}),
                "expectedResultCount goes with no pages",
            ),
            (
                json!({"expectedResultCount": 9, "resultLimit": 5, "options": ["TOP_RESULTS"]}),
                "expectedResultCount is 9, and resultLimit 5",
            ),
            (
                json!({"options": ["SORT", "TOP_RESULTS"], "sortTerm": {"propertyName": "b"}}),
                "options have TOP_RESULTS",
            ),
            (json!({"options": ["TIME_SNAPSHOT"]}), "timeSnapshotBoundaryMicros is missing"),
            // The year 1970 is a time, too.
            (json!({"timeSnapshotBoundaryMicros": 0}), "timeSnapshotBoundaryMicros goes with"),
            (json!({"timeSnapshotBoundaryMicros": 1}), "timeSnapshotBoundaryMicros goes with"),
            (
                json!({"options": ["TIME_SNAPSHOT", "INCLUDE_ALL_VERSIONS"],
                    "timeSnapshotBoundaryMicros": 1}),
                "options have TIME_SNAPSHOT",
            ),
            (json!({"options": ["SELECT_LINKS"]}), "linkTerms are missing"),
        ] {
            let said = why(more.clone());
            assert!(said.starts_with(wrong), "{more}: {said}");
        }
    }

    #[test]
    fn only_what_xenon_knows_may_say_nothing() {
        let term = || json!({"propertyName": "a", "matchValue": 1});
        let with = |name: &str, value: Value| {
            let mut specification = json!({"query": {"term": term()}});
            specification[name] = value;
            specification
        };
        for (specification, wrong) in [
            (with("resultLimitt", json!(0)), "querySpec.resultLimitt is not known"),
            (with("fooo", json!([])), "querySpec.fooo is not known"),
            (with("kind", json!("foo")), "querySpec.kind is not known"),
            (with("expectedResultCount", json!(-1)), "expectedResultCount must be a whole"),
            (with("precisionStep", json!(0)), "querySpec.precisionStep is not known"),
            (with("context", json!({"a": 1})), "querySpec.context is Xenon's own"),
            (with("options", json!(["EXPAND_BINARY_CONTENT"])), "options[0] is"),
            (
                with("sortTerm", json!({"propertyName": "a", "sortOrder": "DESC"})),
                "sortTerm.sortOrder is \"DESC\", and the query's sortOrder is \"ASC\"",
            ),
            (json!({"query": {"term": term(), "baz": 0}}), "query.baz is not known"),
            (
                json!({"query": {"term": term(), "occurance": "MUST_OCCUR",
                    "occurrence": "MUST_NOT_OCCUR"}}),
                "query.occurrence is \"MUST_NOT_OCCUR\", and occurance is \"MUST_OCCUR\"",
            ),
            (
                json!({"query": {"term": {"propertyName": "a", "matchValue": 1, "bar": []}}}),
                "query.term.bar is not known",
            ),
        ] {
            let said = message(specification);
            assert!(said.starts_with(wrong), "{said}");
        }
        let mut taken = with("expectedResultCount", json!(0));
        taken["kind"] = "com:vmware:xenon:services:common:QueryTask:QuerySpecification".into();
        taken["sortOrder"] = "DESC".into();
        taken["sortTerm"] = json!({"propertyName": "a", "sortOrder": "DESC"});
        taken["query"]["occurance"] = "MUST_OCCUR".into();
        taken["query"]["occurrence"] = "MUST_OCCUR".into();
        taken["query"]["term"] = json!({"propertyName": "a", "range": {"min": 1,
            "precisionStep": 16}});
        let parsed = parse_specification(&taken).unwrap();
        assert_eq!(parsed.sort_order, Some(protocol::query::SortOrder::Desc));
    }

    #[test]
    fn clauses_cannot_lie_deeper_than_allowed() {
        let mut query = json!({"term": {"propertyName": "a", "matchValue": 1}});
        for _ in 0..DEPTH_MAX {
            query = json!({"booleanClauses": [query]});
        }
        assert!(message(json!({"query": query})).contains("lies deeper than 16"));
    }
}
