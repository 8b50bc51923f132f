//! `amrita immortal list` and `show`: how instances are, and what to do when one is not well.

use serde_json::Value;

use super::{LINK, OWNER_WITHIN, instance, instance_at_owner, replicas, text};
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::unreachable;
use crate::screen::{self, cell, say, size, table};
use crate::verbs::client;

pub(super) async fn list(cluster: &Cluster) -> Outcome {
    let client = client(cluster)?;
    let path = format!("{LINK}?expand");
    let answer = client.get(&path).await.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let body = answer.to_json();
    let (mut rows, mut owners_are_slow) = (Vec::new(), false);
    let asking = client.patience(OWNER_WITHIN);
    for (_, state) in body["documents"].as_object().into_iter().flatten() {
        // A node without a replica of it does not know how it is: whoever owns it is asked. Where
        // nobody does there is no more to learn, and one that is slow is not waited for again.
        let mut asked = None;
        if state.get("inputs").is_none() && !state["owner"].is_null() && !owners_are_slow {
            let answer = instance(&asking, text(&state["name"])).await;
            owners_are_slow = answer.is_err();
            asked = answer.ok().map(|(_, state)| state);
        }
        rows.push(row(asked.as_ref().unwrap_or(state)));
    }
    if rows.is_empty() {
        say("There is no instance. amrita immortal register NAME makes one.");
        return Ok(());
    }
    say(&table(&["name", "primary on", "replicas", "inputs", "version", "state"], &rows));
    Ok(())
}

fn row(state: &Value) -> Vec<String> {
    let all = replicas(state).count();
    let attached = replicas(state).filter(|replica| replica["attached"] == true).count();
    let primary = replicas(state).find(|replica| replica["role"] == "PRIMARY");
    let version = replicas(state).find_map(|replica| replica.get("programVersion"));
    vec![
        text(&state["name"]).into(),
        primary.map_or(String::new(), |replica| text(&replica["node"]).into()),
        format!("{attached} of {all} attached"),
        cell(&state["inputs"]),
        cell(version.unwrap_or(&state["currentVersion"])),
        in_a_word(state).into(),
    ]
}

fn in_a_word(state: &Value) -> &'static str {
    let any = |role: &str| replicas(state).any(|replica| replica["role"] == role);
    if state["paused"] == true {
        "PAUSED"
    } else if any("DIVERGED") {
        "DIVERGED"
    } else if any("HELD") {
        "HELD"
    } else if any("PRIMARY") {
        "SERVED"
    } else if state["owner"].is_null() {
        "NO OWNER"
    } else if any("RECOVERING") {
        "RECOVERING"
    } else {
        "WAITING"
    }
}

pub(super) async fn show(cluster: &Cluster, name: &str) -> Outcome {
    let client = client(cluster)?;
    let (answer, state) = instance_at_owner(&client, name).await?;
    if cluster.json {
        return screen::show(&answer, true);
    }
    say(&of_replicas(&state));
    let said = of_streams(&state);
    if !said.is_empty() {
        say("");
        say(&said);
    }
    say("");
    say(&in_sentences(&state));
    Ok(())
}

fn of_replicas(state: &Value) -> String {
    let rows: Vec<Vec<String>> = replicas(state)
        .map(|replica| {
            let attached = match &replica["attached"] {
                Value::Bool(true) => "yes",
                Value::Bool(false) => "no",
                _ => "?",
            };
            let node = if replica["up"] == false { " (down)" } else { "" };
            let ports = match (replica["receivePort"].as_u64(), replica["sendPort"].as_u64()) {
                (Some(receive), Some(send)) => format!("{receive}/{send}"),
                _ => String::new(),
            };
            let taken = &replica["checkpoint"];
            let checkpoint = match (taken["input"].as_u64(), taken["bytes"].as_u64()) {
                (Some(0), Some(0)) | (None, _) | (_, None) => String::new(),
                (Some(input), Some(bytes)) => format!("at {input}, {}", size(bytes)),
            };
            vec![
                cell(&replica["replicaNumber"]),
                format!("{}{node}", text(&replica["node"])),
                text(&replica["role"]).into(),
                cell(&replica["done"]),
                cell(&replica["lag"]),
                attached.into(),
                cell(&replica["programVersion"]),
                checkpoint,
                replica["logBytes"].as_u64().map_or(String::new(), size),
                ports,
            ]
        })
        .collect();
    let mut heading = vec![
        "replica",
        "node",
        "role",
        "position",
        "lag",
        "attached",
        "version",
        "checkpoint",
        "log since",
        "ports",
    ];
    let with_ports = rows.iter().any(|row| row.last().is_some_and(|ports| !ports.is_empty()));
    let mut rows = rows;
    if !with_ports {
        heading.pop();
        for row in &mut rows {
            row.pop();
        }
    }
    table(&heading, &rows)
}

fn of_streams(state: &Value) -> String {
    let list = |field: &str| state[field].as_array().cloned().unwrap_or_default();
    let said: Vec<Vec<String>> = list("outputs")
        .iter()
        .map(|stream| {
            let mut to = text(&stream["to"]).to_owned();
            if to.is_empty() {
                to = "(itself)".into();
            } else if stream["registered"] == false {
                to.push_str(" (not registered)");
            }
            let mut kept = stream["keptBytes"].as_u64().map_or(String::new(), size);
            if let Some(on_disk) = stream["onDiskBytes"].as_u64().filter(|bytes| *bytes > 0) {
                kept = format!("{kept}, {} of it on disk", size(on_disk));
            }
            vec![to, cell(&stream["said"]), cell(&stream["confirmed"]), kept]
        })
        .collect();
    let heard: Vec<Vec<String>> = list("senders")
        .iter()
        .map(|sender| vec![text(&sender["from"]).to_owned(), cell(&sender["received"])])
        .collect();
    let mut parts = Vec::new();
    if !said.is_empty() {
        parts.push(table(&["said to", "messages", "confirmed", "kept"], &said));
    }
    if !heard.is_empty() {
        parts.push(table(&["heard from", "messages"], &heard));
    }
    parts.join("\n\n")
}

/// How it is, and what to do if that is not well.
fn in_sentences(state: &Value) -> String {
    let name = text(&state["name"]);
    let mut lines = Vec::new();
    match replicas(state).find(|replica| replica["role"] == "PRIMARY") {
        Some(primary) => lines.push(format!(
            "'{name}' has handled {} inputs; the primary is on {}.",
            cell(&primary["done"]),
            text(&primary["node"])
        )),
        // What holds it is told below.
        None if replicas(state).any(|replica| replica.get("held").is_some()) => {}
        None => lines.push(without_primary(state)),
    }
    if state["durability"] == "memory" {
        lines.push(
            "Its inputs are in memory when they are acknowledged: they are lost when a majority of \
             its nodes dies at once."
                .into(),
        );
    }
    if let Some(wanted) = state["upgradeVersion"].as_u64()
        && let Some(now) = replicas(state).find_map(|replica| replica["programVersion"].as_u64())
        && wanted != now
    {
        lines.push(of_upgrade(state, now, wanted));
    }
    let full: Vec<&str> = state["waitsFor"].as_array().into_iter().flatten().map(text).collect();
    if !full.is_empty() {
        lines.push(format!(
            "So much is kept for {} that '{name}' is told no more inputs before some of it has \
             gone.",
            full.join(", ")
        ));
    }
    lines.extend(what_holds(name, state));
    lines.extend(replicas(state).filter_map(|replica| what_diverged(name, replica)));
    lines.extend(replicas(state).filter_map(why_let_go));
    for stream in state["outputs"].as_array().into_iter().flatten() {
        if stream["registered"] == false && !text(&stream["to"]).is_empty() {
            let to = text(&stream["to"]);
            lines.push(format!(
                "There is no instance '{to}': what was said to it waits. amrita immortal register \
                 {to}"
            ));
        }
    }
    lines.join("\n")
}

fn of_upgrade(state: &Value, now: u64, wanted: u64) -> String {
    if state["upgradeGivenUp"] == true {
        let name = text(&state["name"]);
        return format!(
            "The upgrade from version {now} to {wanted} was given up: no program could make it, \
             and version {now} goes on. Mend the new program, start it beside a standby, and say \
             `amrita immortal set {name} --upgrade-version {wanted}` again."
        );
    }
    format!(
        "An upgrade from version {now} to {wanted} is wanted: it comes when a program that can do \
         both has caught up."
    )
}

fn without_primary(state: &Value) -> String {
    let name = text(&state["name"]);
    let up = replicas(state).filter(|replica| replica["up"] == true).count();
    let all = replicas(state).count();
    if state["paused"] == true {
        format!("'{name}' is paused: amrita immortal set {name} --resume")
    } else if up < all / 2 + 1 {
        let away = replicas(state).filter(|replica| replica["up"] != true);
        let away: Vec<&str> = away.map(|replica| text(&replica["node"])).collect();
        let unknown =
            if state.get("inputs").is_none() { " More is not known here until then." } else { "" };
        format!(
            "'{name}' waits for nodes: {up} of {all} with a replica are up, and {} needed; away: \
             {}. Start {}.{unknown}",
            if all / 2 + 1 == 1 { "1 is".to_owned() } else { format!("{} are", all / 2 + 1) },
            away.join(", "),
            if away.len() == 1 { "it" } else { "them" },
        )
    } else if replicas(state).all(|replica| replica["attached"] != true) {
        format!("'{name}' waits for a program: start one beside a node with a replica.")
    } else {
        format!("'{name}' has no primary at the moment.")
    }
}

/// Each input at which programs are held, once for all the replicas it holds.
fn what_holds(name: &str, state: &Value) -> Vec<String> {
    let mut inputs: Vec<(&Value, Vec<&str>)> = Vec::new();
    for replica in replicas(state) {
        let Some(held) = replica.get("held") else { continue };
        let node = text(&replica["node"]);
        match inputs.iter_mut().find(|(known, _)| known["input"] == held["input"]) {
            Some((_, nodes)) => nodes.push(node),
            None => inputs.push((held, vec![node])),
        }
    }
    let sentence = |(held, nodes): (&Value, Vec<&str>)| {
        let input = cell(&held["input"]);
        let who = match nodes[..] {
            [node] => format!("The program on {node} failed {} times on", cell(&held["tries"])),
            _ => format!("The programs on {} fail on", nodes.join(", ")),
        };
        let are = if nodes.len() == 1 { "is" } else { "are" };
        format!(
            "{who} input {input} and {are} held.\n  the input: {}\n  what it said: {}\n  -> mend \
             it and say `amrita immortal release {name}`, look at it with `amrita immortal debug \
             {name} --from latest --until {input}`,\n     or take the input out: `amrita immortal \
             skip {name} {input}`",
            text(&held["message"]),
            text(&held["text"]),
        )
    };
    inputs.into_iter().map(sentence).collect()
}

fn what_diverged(name: &str, replica: &Value) -> Option<String> {
    let node = text(&replica["node"]);
    let diverged = replica.get("diverged")?;
    let (after, input) = (cell(&diverged["after"]), cell(&diverged["input"]));
    let (what_now, then) = match diverged["isLastCopy"] == true {
        true => (
            "it goes on, since no other copy has come as far",
            String::from("Mend it, so that the next copy does the same"),
        ),
        false => ("it is stopped", format!("Mend it and say `amrita immortal release {name}`")),
    };
    Some(format!(
        "The program on {node} has said something else than was recorded, after input {after} and \
         up to input {input}; {what_now}.\n  expected: {}\n  found:    {}\n  -> its handlers \
         must not read clocks, chance or anything else outside. {then}",
        text(&diverged["expected"]),
        text(&diverged["found"]),
    ))
}

/// Why there is no program where there was one.
fn why_let_go(replica: &Value) -> Option<String> {
    let let_go = replica.get("letGo").filter(|_| replica["attached"] == false)?;
    let (node, code, input) = (text(&replica["node"]), text(&let_go["code"]), &let_go["input"]);
    let what = match code {
        "GONE" => "ended by itself",
        "PROGRAM_VERSION" | "HELD" => "was turned away",
        _ => "was let go",
    };
    let after = match input.as_u64() {
        Some(0) | None => String::new(),
        Some(input) => format!(" after input {input}"),
    };
    Some(format!("The last program on {node} {what}{after} ({code}): {}.", text(&let_go["text"])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state() -> Value {
        json!({
            "name": "server", "owner": "n1", "durability": "disk", "paused": false, "inputs": 12,
            "upgradeVersion": null, "currentVersion": 0,
            "replicas": [
                {"node": "n1", "replicaNumber": 0, "up": true, "role": "PRIMARY", "attached": true,
                 "done": 12, "lag": 0, "programVersion": 0, "logBytes": 2048,
                 "checkpoint": {"input": 5, "bytes": 100}},
                {"node": "n2", "replicaNumber": 1, "up": false, "role": "UNKNOWN"},
            ],
            "outputs": [{"to": "lost", "said": 3, "confirmed": 1, "keptBytes": 20,
                "onDiskBytes": 10,
                         "registered": false}],
            "senders": [{"from": "client", "received": 11}],
        })
    }

    #[test]
    fn an_instance_is_shown_with_its_replicas_and_streams() {
        let state = state();
        let table = of_replicas(&state);
        assert!(table.contains("PRIMARY") && table.contains("at 5, 100 B"), "{table}");
        assert!(table.contains("n2 (down)") && !table.contains("PORTS"), "{table}");
        let streams = of_streams(&state);
        assert!(
            streams.contains("lost (not registered)") && streams.contains("client"),
            "{streams}"
        );
        assert!(streams.contains("20 B, 10 B of it on disk"), "{streams}");
        let words = in_sentences(&state);
        assert!(words.contains("register lost") && words.contains("primary is on n1"), "{words}");
    }

    #[test]
    fn why_the_last_program_went_is_said_where_there_is_none_now() {
        let mut state = state();
        let let_go = json!({ "code": "RELOAD", "text": "a checkpoint did not come", "input": 7 });
        state["replicas"][0]["letGo"] = let_go;
        assert!(!in_sentences(&state).contains("RELOAD"), "another one is attached");
        state["replicas"][0]["attached"] = json!(false);
        let words = in_sentences(&state);
        let expected = "program on n1 was let go after input 7 (RELOAD): a checkpoint did not come";
        assert!(words.contains(expected), "{words}");
    }

    #[test]
    fn what_is_not_well_comes_with_what_to_do() {
        let mut state = state();
        state["replicas"][0]["role"] = json!("HELD");
        state["replicas"][0]["held"] =
            json!({"input": 9, "tries": 3, "text": "no word", "message": "fork of method 1"});
        let words = in_sentences(&state);
        assert!(words.contains("skip server 9") && words.contains("fork of method 1"), "{words}");
        assert_eq!(in_a_word(&state), "HELD");
        state["replicas"][1] = state["replicas"][0].clone();
        state["replicas"][1]["node"] = json!("n2");
        let words = in_sentences(&state);
        assert!(words.contains("on n1, n2 fail"), "{words}");
        assert_eq!(words.matches("fork of method 1").count(), 1, "said once: {words}");
        assert!(!words.contains("waits for a program"), "{words}");
        for which in [0, 1] {
            let node = state["replicas"][which]["node"].clone();
            state["replicas"][which] = json!({"node": node, "up": true, "attached": false});
        }
        assert!(in_sentences(&state).contains("waits for a program"), "{}", in_sentences(&state));
    }

    #[test]
    fn an_upgrade_that_was_given_up_and_a_destination_that_is_away_are_told() {
        let mut state = state();
        state["upgradeVersion"] = json!(2);
        assert!(in_sentences(&state).contains("from version 0 to 2 is wanted"));
        state["upgradeGivenUp"] = json!(true);
        state["waitsFor"] = json!(["lost"]);
        let words = in_sentences(&state);
        for expected in ["was given up", "set server --upgrade-version 2", "kept for lost"] {
            assert!(words.contains(expected), "'{expected}' is not in {words}");
        }
    }
}
