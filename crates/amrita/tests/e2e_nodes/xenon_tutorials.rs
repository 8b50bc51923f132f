//! Every request of Xenon's tutorials, as `docs/xenon-tutorials.md` lists them, on real nodes, and
//! what the list says of the answer.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const LIST: &str = include_str!("../../../../docs/xenon-tutorials.md");

/// A line of a tutorial.
#[derive(Debug)]
struct Line {
    request: &'static str,
    status: Option<u16>,
    /// A place in the answer, and what is there.
    has: Vec<(&'static str, Value)>,
}

/// The lines of one tutorial.
fn lines(tutorial: &str) -> Vec<Line> {
    let part = LIST.split("\n## ").find(|part| part.starts_with(&format!("{tutorial}\n")));
    let rows = part.unwrap_or_else(|| panic!("no part '{tutorial}'")).lines();
    let rows = rows.filter_map(|row| row.strip_prefix("| `")?.strip_suffix('|'));
    let lines = rows.map(|row| {
        let (request, rest) = row.split_once("` | ").expect("a request, and what comes of it");
        let (status, answer) = rest.split_once('|').expect("a status, and the answer");
        let answer = answer.split("**Differs**").next().unwrap_or_default();
        let has = answer.split('`').skip(1).step_by(2).map(|one| {
            let (place, value) = one.split_once(" = ").unwrap_or_else(|| panic!("{one}"));
            (place, serde_json::from_str(value).unwrap_or_else(|why| panic!("{value}: {why}")))
        });
        Line { request, status: status.trim().parse().ok(), has: has.collect() }
    });
    lines.collect()
}

/// The values at a place, where `*` stands for each.
fn values<'a>(body: &'a Value, place: &str) -> Vec<&'a Value> {
    let mut found = vec![body];
    for part in place.split('/') {
        found = found
            .into_iter()
            .flat_map(|value| match (part, value) {
                ("*", Value::Object(fields)) => fields.values().collect(),
                ("*", Value::Array(items)) => items.iter().collect(),
                (name, Value::Object(fields)) => fields.get(name).into_iter().collect(),
                (number, Value::Array(items)) => {
                    number.parse().ok().and_then(|at: usize| items.get(at)).into_iter().collect()
                }
                _ => Vec::new(),
            })
            .collect();
    }
    found
}

/// What is not as the list says.
fn wrong(line: &Line, reply: &Reply) -> Option<String> {
    if Some(reply.status) != line.status {
        return Some(format!("the status is {}", reply.status));
    }
    line.has.iter().find_map(|(place, wanted)| {
        let counted = place.strip_prefix('#');
        let found = values(&reply.body, counted.unwrap_or(place));
        let is_so_many = |count: usize| wanted.as_u64() == u64::try_from(count).ok();
        let is_right = |value: &&Value| match (counted, value) {
            (None, value) => *value == wanted,
            (Some(_), Value::Array(items)) => is_so_many(items.len()),
            (Some(_), Value::Object(fields)) => is_so_many(fields.len()),
            (Some(_), _) => false,
        };
        let is_so = !found.is_empty() && found.iter().all(is_right);
        (!is_so).then(|| format!("{place} is {found:?}, not {wanted}"))
    })
}

/// The words of a line, as a shell has them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for char in line.chars() {
        match char {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            char => words.last_mut().expect("there is one").push(char),
        }
    }
    words
}

/// Plays one line. `link`: of the document that was made last.
fn play(cluster: &mut Cluster, line: &Line, link: &mut String) {
    let words = words(&line.request.replace("LINK", link));
    if words[0] == "amrita" {
        let which = (0..3).find(|which| words.contains(&format!("--port=800{which}")));
        return cluster.start(which.expect("it names a port"));
    }
    assert_eq!(words[0], "curl", "{line:?}");
    let after = |flag: &str| words.iter().position(|word| word == flag).map(|at| &words[at + 1]);
    let method = after("-X").map_or("GET", String::as_str);
    let uri = words.last().and_then(|uri| uri.strip_prefix("http://localhost:800"));
    let uri = uri.unwrap_or_else(|| panic!("{line:?}"));
    let which: usize = uri[..1].parse().expect("a port from 8000 on");
    let path = &uri[1..];
    if (method, path) == ("DELETE", "/core/management") {
        assert_eq!(line.status, Some(202));
        assert!(cluster.stop(which).success());
        return;
    }
    let port = |text: &str| {
        (0..cluster.len()).fold(text.to_owned(), |text, which| {
            text.replace(&format!(":800{which}"), &format!(":{}", cluster.port(which)))
        })
    };
    let body = after("-d").map(|body| port(body));
    let mut ask = Ask::new(method, path);
    if let Some(body) = &body {
        ask = ask.raw(body.as_bytes());
    }
    if method == "GET" {
        // What is under way comes to its end.
        cluster.wait_for(&format!("{line:?}"), || {
            let reply = ask.send(cluster.port(which)).ok()?;
            wrong(line, &reply).is_none().then_some(())
        });
        return;
    }
    let reply = cluster.ask(which, &ask);
    assert_eq!(wrong(line, &reply), None, "{line:?}\n{}", reply.body);
    if let Some(made) = reply.body["documentSelfLink"].as_str().filter(|_| method == "POST") {
        made.clone_into(link);
    }
}

fn play_all(tutorial: &str, mut cluster: Cluster, least: usize) {
    let lines = lines(tutorial);
    assert!(lines.len() >= least, "{tutorial} has {} lines", lines.len());
    let mut link = String::new();
    for line in &lines {
        play(&mut cluster, line, &mut link);
    }
}

#[test]
fn the_example_service_tutorial() {
    play_all("Example Service Tutorial", Cluster::started(1), 6);
}

#[test]
fn the_multi_node_tutorial() {
    play_all("Multi-Node Tutorial", Cluster::started(2), 10);
}

#[test]
fn the_introduction_to_service_queries() {
    play_all("Introduction to Service Queries", Cluster::started(1), 15);
}

#[test]
fn the_task_service_tutorial() {
    play_all("Task Service Tutorial", Cluster::started(1), 7);
}

#[test]
fn the_highly_available_task_tutorial() {
    let mut cluster = Cluster::of(3);
    cluster.always(&["--membership-quorum", "3"]);
    cluster.start_all();
    play_all("Highly Available Task Tutorial", cluster, 15);
}

/// No line of the list is left out, and what is no line is not taken for one.
#[test]
fn every_part_of_the_list_is_played() {
    let parts: Vec<&str> =
        LIST.split("\n## ").skip(1).filter_map(|part| part.lines().next()).collect();
    let played = include_str!("xenon_tutorials.rs");
    for part in parts {
        assert!(played.contains(&format!("\"{part}\"")), "nothing plays '{part}'");
        assert!(!lines(part).is_empty());
    }
}
