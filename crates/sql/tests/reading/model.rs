//! Random statements over random documents, beside an evaluation of SQL's rules as they are
//! written: three values of truth, and no index, no query and no order of keys.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use random::Random;
use serde_json::{Map, Value, json};

use crate::world::{self, World};

const FIELDS: [&str; 5] = ["name", "counter", "flag", "tags", "a.b"];
const TEXTS: [&str; 7] = ["a", "ab", "b", "a%b", "a_b", "*", "5"];

#[derive(Debug)]
enum Said {
    Compare(&'static str, &'static str, Value),
    In(&'static str, Vec<Value>, bool),
    Between(&'static str, Value, Value, bool),
    Like(&'static str, String, bool),
    Null(&'static str, bool),
    Not(Box<Self>),
    Both(Vec<Self>),
    Either(Vec<Self>),
}

fn number(random: &mut Random) -> Value {
    let whole = i64::try_from(random.below(8)).unwrap() - 2;
    if random.one_in(4) {
        json!(f64::from(i32::try_from(whole).unwrap()) + 0.5)
    } else {
        json!(whole)
    }
}

fn literal(random: &mut Random) -> Value {
    match random.below(5) {
        0 | 1 => number(random),
        2 => json!(random.one_in(2)),
        _ => json!(*random.pick(&TEXTS)),
    }
}

fn ordered(random: &mut Random, is_number: bool) -> Value {
    if is_number { number(random) } else { json!(*random.pick(&TEXTS)) }
}

fn said(random: &mut Random, depth: u64) -> Said {
    let field = *random.pick(&FIELDS);
    let is_negated = random.one_in(3);
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 | 1 => {
            let operator = *random.pick(&["=", "<>", "<", "<=", ">", ">="]);
            let is_number = random.one_in(2);
            let value = match operator {
                "=" | "<>" => literal(random),
                _ => ordered(random, is_number),
            };
            Said::Compare(field, operator, value)
        }
        2 => {
            Said::In(field, (0..1 + random.below(3)).map(|_| literal(random)).collect(), is_negated)
        }
        3 => {
            let is_number = random.one_in(2);
            let (low, high) = (ordered(random, is_number), ordered(random, is_number));
            Said::Between(field, low, high, is_negated)
        }
        4 => {
            let letters = ["a", "b", "%", "_", "*", "5"];
            let pattern = (0..1 + random.below(3)).map(|_| *random.pick(&letters)).collect();
            Said::Like(field, pattern, is_negated)
        }
        5 => Said::Null(field, is_negated),
        6 => Said::Not(Box::new(said(random, depth - 1))),
        7 => Said::Both((0..2 + random.below(2)).map(|_| said(random, depth - 1)).collect()),
        _ => Said::Either((0..2 + random.below(2)).map(|_| said(random, depth - 1)).collect()),
    }
}

fn sql_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

fn sql(said: &Said) -> String {
    let not = |is_negated: &bool| if *is_negated { "not " } else { "" };
    let joined = |parts: &[Said], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| format!("({})", sql(part))).collect();
        parts.join(word)
    };
    match said {
        Said::Compare(field, operator, value) => format!("{field} {operator} {}", sql_value(value)),
        Said::In(field, values, negated) => {
            let values: Vec<String> = values.iter().map(sql_value).collect();
            format!("{field} {}in ({})", not(negated), values.join(", "))
        }
        Said::Between(field, low, high, negated) => {
            let not = not(negated);
            format!("{field} {not}between {} and {}", sql_value(low), sql_value(high))
        }
        Said::Like(field, pattern, negated) => format!("{field} {}like '{pattern}'", not(negated)),
        Said::Null(field, negated) => format!("{field} is {}null", not(negated)),
        Said::Not(inner) => format!("not ({})", sql(inner)),
        Said::Both(parts) => joined(parts, " and "),
        Said::Either(parts) => joined(parts, " or "),
    }
}

fn values<'v>(body: &'v Value, field: &str) -> Vec<&'v Value> {
    let mut at = body;
    for name in field.split('.') {
        at = &at[name];
    }
    match at {
        Value::Null => vec![],
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

/// True, false, or not known.
fn holds(said: &Said, body: &Value) -> Option<bool> {
    let any = |field: &str, is: &dyn Fn(&Value) -> bool, is_negated: bool| {
        let values = values(body, field);
        (!values.is_empty()).then(|| values.into_iter().any(is) != is_negated)
    };
    match said {
        Said::Compare(field, operator, value) => {
            let is = |found: &Value| match *operator {
                "=" | "<>" => equal(found, value),
                operator => order(found, value).is_some_and(|order| match operator {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }),
            };
            any(field, &is, *operator == "<>")
        }
        Said::In(field, wanted, negated) => {
            any(field, &|found| wanted.iter().any(|value| equal(found, value)), *negated)
        }
        Said::Between(field, low, high, negated) => {
            let is = |found: &Value| {
                order(found, low).is_some_and(Ordering::is_ge)
                    && order(found, high).is_some_and(Ordering::is_le)
            };
            any(field, &is, *negated)
        }
        Said::Like(field, pattern, negated) => {
            let pattern: Vec<char> = pattern.chars().collect();
            // `%` alone finds whatever there is.
            let is_all = pattern.iter().all(|letter| *letter == '%');
            let is = |found: &Value| {
                let text = found.as_str().map(|text| text.chars().collect::<Vec<_>>());
                is_all || text.is_some_and(|text| fits(&pattern, &text))
            };
            any(field, &is, *negated)
        }
        Said::Null(field, negated) => Some(values(body, field).is_empty() != *negated),
        Said::Not(inner) => holds(inner, body).map(|holds| !holds),
        Said::Both(parts) => {
            let each: Vec<Option<bool>> = parts.iter().map(|part| holds(part, body)).collect();
            match (each.contains(&Some(false)), each.contains(&None)) {
                (true, _) => Some(false),
                (false, true) => None,
                (false, false) => Some(true),
            }
        }
        Said::Either(parts) => {
            let each: Vec<Option<bool>> = parts.iter().map(|part| holds(part, body)).collect();
            match (each.contains(&Some(true)), each.contains(&None)) {
                (true, _) => Some(true),
                (false, true) => None,
                (false, false) => Some(false),
            }
        }
    }
}

/// A text and a number are equal when they are written alike.
fn equal(found: &Value, wanted: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (found, wanted) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => text(found) == text(wanted),
    }
}

fn order(found: &Value, wanted: &Value) -> Option<Ordering> {
    match (found, wanted) {
        (Value::Number(one), Value::Number(other)) => one.as_f64().partial_cmp(&other.as_f64()),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['%', rest @ ..], _) if fits(rest, text) => true,
        (['%', ..], [_, text @ ..]) => fits(pattern, text),
        (['_', rest @ ..], [_, text @ ..]) => fits(rest, text),
        ([wanted, rest @ ..], [first, text @ ..]) => wanted == first && fits(rest, text),
        _ => false,
    }
}

fn body(random: &mut Random) -> Value {
    let mut fields = Map::new();
    for name in ["name", "counter", "flag", "tags", "a"] {
        if random.one_in(4) {
            if random.one_in(2) {
                fields.insert(name.into(), Value::Null);
            }
            continue;
        }
        let value = match name {
            "name" => json!(*random.pick(&TEXTS)),
            "counter" => number(random),
            "flag" => json!(random.one_in(2)),
            "tags" => (0..random.below(3)).map(|_| literal(random)).collect(),
            _ => json!({"b": literal(random)}),
        };
        fields.insert(name.into(), value);
    }
    fields.into()
}

/// Booleans, then numbers, then texts; nothing comes last, whatever the direction.
fn sorted(one: &Value, other: &Value, field: &str, is_down: bool) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Bool(_) => 0,
        Value::Number(_) => 1,
        _ => 2,
    };
    let compare = |one: &Value, other: &Value| match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ => order(one, other).unwrap_or_else(|| rank(one).cmp(&rank(other))),
    };
    let first = |body| {
        let all = values(body, field).into_iter();
        let by = |one: &&Value, other: &&Value| compare(one, other);
        if is_down { all.max_by(by) } else { all.min_by(by) }
    };
    match (first(one), first(other)) {
        (Some(one), Some(other)) if is_down => compare(other, one),
        (Some(one), Some(other)) => compare(one, other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

fn cell(body: &Value, field: &str) -> Value {
    field.split('.').fold(body, |at, name| &at[name]).clone()
}

#[test]
fn statements_find_what_sql_says() {
    let mut random = Random::of_seed(7);
    let mut found = 0;
    for _ in 0..60 {
        let bodies: Vec<(String, Value)> =
            (0..30).map(|number| (format!("{number:02}"), body(&mut random))).collect();
        let texts: Vec<(&str, String)> =
            bodies.iter().map(|(link, body)| (link.as_str(), body.to_string())).collect();
        let texts: Vec<(&str, &str)> =
            texts.iter().map(|(link, it)| (*link, it.as_str())).collect();
        let world = World::of(&texts);
        for _ in 0..25 {
            found += one_statement(&mut random, &world, &bodies);
            one_grouping(&mut random, &world, &bodies);
        }
    }
    assert!(found > 3_000, "most statements should find something: {found}");
}

fn one_statement(random: &mut Random, world: &World, bodies: &[(String, Value)]) -> usize {
    let said = said(random, 3);
    let sorts: Vec<(&str, bool)> =
        (0..random.below(3)).map(|_| (*random.pick(&FIELDS), random.one_in(2))).collect();
    let (limit, offset) = (random.index(12), random.index(4));
    let mut statement =
        format!("select documentSelfLink, name, a.b from examples where {}", sql(&said));
    if !sorts.is_empty() {
        let direction = |is_down| if is_down { "desc" } else { "asc" };
        let all: Vec<String> = sorts
            .iter()
            .map(|(field, is_down)| format!("{field} {}", direction(*is_down)))
            .collect();
        statement.push_str(&format!(" order by {}", all.join(", ")));
    }
    statement.push_str(&format!(" limit {limit} offset {offset}"));
    let mut wanted: Vec<&(String, Value)> =
        bodies.iter().filter(|(_, body)| holds(&said, body) == Some(true)).collect();
    wanted.sort_by(|(link, one), (other_link, other)| {
        let by = |order: Ordering, (field, is_down): &(&str, bool)| {
            order.then_with(|| sorted(one, other, field, *is_down))
        };
        sorts.iter().fold(Ordering::Equal, by).then_with(|| link.cmp(other_link))
    });
    let wanted: Vec<Value> = wanted
        .into_iter()
        .skip(offset)
        .take(limit)
        .map(|(link, body)| {
            json!([format!("{}/{link}", world::FACTORY), cell(body, "name"), cell(body, "a.b")])
        })
        .collect();
    let answer: Value = serde_json::from_slice(&world.answer(&statement)).unwrap();
    assert_eq!(answer["rows"], json!(wanted), "{statement}");
    wanted.len()
}

fn one_grouping(random: &mut Random, world: &World, bodies: &[(String, Value)]) {
    let said = said(random, 2);
    let least = random.below(4);
    let statement = format!(
        "select name, count(*) n, sum(counter) s, max(counter) from examples where {} group by \
         name having n > {least} and s is not null order by n desc, s, name",
        sql(&said)
    );
    let mut groups: BTreeMap<Option<String>, Vec<&Value>> = BTreeMap::new();
    for (_, body) in bodies.iter().filter(|(_, body)| holds(&said, body) == Some(true)) {
        let name = body["name"].as_str().map(str::to_owned);
        groups.entry(name).or_default().push(body);
    }
    let mut rows: Vec<(Option<String>, usize, f64, f64)> = Vec::new();
    for (name, group) in groups {
        let counters: Vec<f64> = group.iter().filter_map(|it| it["counter"].as_f64()).collect();
        if group.len() as u64 > least && !counters.is_empty() {
            let most = counters.iter().copied().fold(f64::MIN, f64::max);
            rows.push((name, group.len(), counters.iter().sum(), most));
        }
    }
    rows.sort_by(|one, other| {
        let by_name = one.0.is_none().cmp(&other.0.is_none()).then(one.0.cmp(&other.0));
        other.1.cmp(&one.1).then(one.2.partial_cmp(&other.2).unwrap()).then(by_name)
    });
    let answer: Value = serde_json::from_slice(&world.answer(&statement)).unwrap();
    let found: Vec<_> = answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let count = usize::try_from(row[1].as_u64().unwrap()).unwrap();
            let name = row[0].as_str().map(str::to_owned);
            (name, count, row[2].as_f64().unwrap(), row[3].as_f64().unwrap())
        })
        .collect();
    assert_eq!(found, rows, "{statement}");
}
