//! `amrita explain`: why something does not go on, and what would free it.

use client::Response;
use protocol::node_group::{LINK as NODE_GROUP, MANAGEMENT_LINK};
use serde_json::Value;

use crate::arguments::{Cluster, Explained};
use crate::immortal;
use crate::outcome::{Outcome, unreachable};
use crate::screen;
use crate::verbs::client;

pub(crate) async fn run(cluster: &Cluster, explained: &Explained) -> Outcome {
    let link = link_of(&explained.what);
    let path = format!("{link}/explain");
    let answer = client(cluster)?.get(&path).await.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    screen::say(&in_words(&link, &answer));
    Ok(())
}

/// A link as it is, `cluster` and `node`, or else the name of an instance.
fn link_of(what: &str) -> String {
    match what {
        "cluster" => NODE_GROUP.to_owned(),
        "node" => MANAGEMENT_LINK.to_owned(),
        link if link.starts_with('/') => {
            let link = link.trim_end_matches('/');
            link.strip_suffix("/explain").unwrap_or(link).to_owned()
        }
        name => immortal::link(name),
    }
}

fn in_words(link: &str, answer: &Response) -> String {
    let body = answer.to_json();
    let findings = body["findings"].as_array().cloned().unwrap_or_default();
    let told_by = body["toldBy"].as_str().unwrap_or("a node");
    if findings.is_empty() {
        return format!("{link} waits for nothing, as {told_by} knows it.");
    }
    let head = if body["isStuck"] == true {
        format!("{link} needs attention, as {told_by} knows it:")
    } else {
        format!("{link} goes on by itself, as {told_by} knows it:")
    };
    let lines = findings.iter().map(line);
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

fn line(finding: &Value) -> String {
    let text = |name: &str| finding[name].as_str().unwrap_or_default();
    let mut line = format!("  {:<12}{}", text("waitsFor"), text("text"));
    if let Some(millis) = finding["forMillis"].as_u64() {
        line.push_str(&format!(" (for {})", how_long(millis)));
    }
    if finding["remedy"].is_string() {
        line.push_str(&format!("\n{:14}-> {}", "", text("remedy")));
    }
    line
}

fn how_long(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{} s", millis / 1_000),
        _ => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_explained_is_a_link_or_a_name() {
        let cases = [
            ("cluster", "/core/node-groups/default"),
            ("node", "/core/management"),
            ("/core/examples/one/", "/core/examples/one"),
            ("/core/examples/one/explain", "/core/examples/one"),
            ("counter", "/core/immortals/counter"),
        ];
        for (what, link) in cases {
            assert_eq!(link_of(what), link, "{what}");
        }
    }

    #[test]
    fn each_finding_is_a_line_with_what_to_do_below() {
        let finding = json!({ "waitsFor": "QUORUM", "text": "1 of 3 nodes is up",
                              "forMillis": 130_000, "remedy": "start n2, n3" });
        assert_eq!(
            line(&finding),
            "  QUORUM      1 of 3 nodes is up (for 2 min)\n              -> start n2, n3"
        );
    }
}
