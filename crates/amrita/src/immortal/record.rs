//! `amrita immortal record`: a checkpoint of an instance and what was logged since, in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use client::Client;
use immortals::recording::{Part, Recording, decode_entries, write_magic, write_part};
use immortals::{IndexedEntry, InputState};
use serde_json::{Value, json};

use super::options::RecordOptions;
use super::{instance_at_owner, link, replicas, text};
use crate::access::session;
use crate::admin::address_of;
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::{Trouble, refusal, unreachable};
use crate::screen::{say, size};
use crate::verbs::client;

/// A checkpoint that is replaced while it is read is begun anew this many times.
const TRIES_MAX: u32 = 5;

/// What a recording has.
pub(super) struct Recorded {
    pub(super) head: Recording,
    /// The last input in it.
    pub(super) inputs: u64,
}

pub(super) async fn record(cluster: &Cluster, options: &RecordOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    if options.to.exists() {
        let why = format!("there is a file {} already: name another", options.to.display());
        return Err(Trouble::usage(why));
    }
    let recorded = record_to(cluster, &name, &options.from, &options.to).await?;
    let bytes = std::fs::metadata(&options.to).map_or(0, |file| file.len());
    if cluster.json {
        let recorded = json!({
            "file": options.to, "instance": name, "node": recorded.head.node,
            "from": recorded.head.base.input_state.inputs, "to": recorded.inputs, "bytes": bytes,
        });
        say(&recorded.to_string());
        return Ok(());
    }
    say(&format!(
        "{} has the checkpoint of '{name}' at input {} and all inputs up to {}, from node {}: {}.",
        options.to.display(),
        recorded.head.base.input_state.inputs,
        recorded.inputs,
        recorded.head.node,
        size(bytes)
    ));
    Ok(())
}

/// Writes a recording to a new file.
pub(super) async fn record_to(
    cluster: &Cluster,
    name: &str,
    from: &str,
    to: &Path,
) -> Result<Recorded, Trouble> {
    let client = client(cluster)?;
    let (_, state) = instance_at_owner(&client, name).await?;
    let node = node_with(name, &state, from)?;
    let address = address_of(&client, &node).await?;
    let one = session::client_of(&[&address])?;
    let mut tries = 0;
    loop {
        tries += 1;
        let written = write(&one, name, to).await;
        if written.is_err() {
            drop(std::fs::remove_file(to));
        }
        match written {
            Err(Failed::Replaced(_)) if tries < TRIES_MAX => {}
            Err(Failed::Replaced(why) | Failed::Else(why)) => return Err(why),
            Ok(recorded) => return Ok(recorded),
        }
    }
}

/// A node whose replica has that checkpoint.
fn node_with(name: &str, state: &Value, from: &str) -> Result<String, String> {
    let mut there: Vec<(u64, &str)> = replicas(state)
        .filter(|replica| replica["up"] == true)
        .filter_map(|replica| {
            Some((replica["checkpoint"]["input"].as_u64()?, text(&replica["node"])))
        })
        .collect();
    there.sort_unstable();
    let Some((_, latest)) = there.last() else {
        return Err(format!("no replica of '{name}' is up"));
    };
    if from == "latest" {
        return Ok((*latest).to_owned());
    }
    let wanted: u64 = from
        .parse()
        .map_err(|_| format!("--from is 'latest' or the input of a checkpoint, not '{from}'"))?;
    let found = there.iter().find(|(input, _)| *input == wanted);
    found.map(|(_, node)| (*node).to_owned()).ok_or_else(|| {
        let all: Vec<String> =
            there.iter().map(|(input, node)| format!("{input} on {node}")).collect();
        format!(
            "no replica of '{name}' has a checkpoint at input {wanted}; there are {}",
            all.join(", ")
        )
    })
}

enum Failed {
    /// There is a later checkpoint now.
    Replaced(Trouble),
    Else(Trouble),
}

async fn page(client: &Client, name: &str, query: &str) -> Result<Bytes, Failed> {
    let path = format!("{}/recording{query}", link(name));
    let answer = client.get(&path).await.map_err(|error| Failed::Else(unreachable(&error)))?;
    if answer.is_success() {
        return Ok(answer.body);
    }
    let why = refusal(&answer);
    Err(if answer.status == 409 { Failed::Replaced(why) } else { Failed::Else(why) })
}

async fn write(client: &Client, name: &str, to: &Path) -> Result<Recorded, Failed> {
    let failed =
        |error| Failed::Else(format!("{} cannot be written: {error}", to.display()).into());
    let mut file = BufWriter::new(File::create(to).map_err(failed)?);
    write_magic(&mut file).map_err(failed)?;
    let head = Recording::decode(&page(client, name, "").await?)
        .map_err(|why| Failed::Else(why.into()))?;
    write_part(&mut file, &Part::Head(Box::new(head.clone()))).map_err(failed)?;
    let base = head.base.position.0;
    for number in 0..head.base.blob.map_or(0, |blob| blob.chunks) {
        let chunk = page(client, name, &format!("?base={base}&chunk={number}")).await?;
        write_part(&mut file, &Part::Chunk(chunk)).map_err(failed)?;
    }
    let mut ledger: InputState = head.base.input_state.clone();
    let mut after = base;
    // What comes in meanwhile is not waited for.
    while ledger.inputs < head.inputs {
        let bytes = page(client, name, &format!("?base={base}&after={after}")).await?;
        let entries = decode_entries(&bytes).map_err(|why| Failed::Else(why.into()))?;
        let Some((last, _)) = entries.last() else { break };
        after = last.0;
        for (_, bytes) in &entries {
            let logged = IndexedEntry::read(bytes.clone()).and_then(|entry| ledger.log(&entry));
            logged.map_err(|why| Failed::Else(format!("an entry of '{name}': {why}").into()))?;
        }
        write_part(&mut file, &Part::Entries(entries)).map_err(failed)?;
    }
    write_part(&mut file, &Part::End).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(Recorded { head, inputs: ledger.inputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_found_by_its_input() {
        let state = json!({"replicas": [
            {"node": "n1", "up": true, "checkpoint": {"input": 10, "bytes": 1}},
            {"node": "n2", "up": true, "checkpoint": {"input": 30, "bytes": 1}},
            {"node": "n3", "up": false, "checkpoint": {"input": 40, "bytes": 1}},
        ]});
        assert_eq!(node_with("s", &state, "latest").unwrap(), "n2");
        assert_eq!(node_with("s", &state, "10").unwrap(), "n1");
        let why = node_with("s", &state, "40").unwrap_err();
        assert!(why.contains("10 on n1, 30 on n2"), "{why}");
        assert!(node_with("s", &state, "old").unwrap_err().contains("'latest'"));
    }
}
