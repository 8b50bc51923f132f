//! `amrita backup`: the files are written here, by the command, so that `--to` is a folder of
//! whoever asks for the backup and not of a node. The cluster hands out page by page, and the next
//! page is asked for when the last one is written: what is slow here holds up nothing there.

use std::path::Path;
use std::time::{Duration, Instant};

use client::{Client, ClientError, Method, Response};
use protocol::base64url;
use serde_json::{Value, json};
use server::backup::{BackupWriter, Contents, GroupFile, Manifest, verify};
use tokio::signal::unix::{SignalKind, signal};

use crate::access::session;
use crate::arguments::Cluster;
use crate::backup_options::{BackupCommand, BackupOptions};
use crate::outcome::{Outcome, Trouble, problem, refusal, unreachable};
use crate::screen;

const LINK: &str = "/core/backups";

/// Work that takes longer than this says how far it is, this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A backup whose nodes died is begun anew this many times.
const ATTEMPTS_MAX: u32 = 6;

/// Between two attempts, so that others take over meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// How long it is tried to reach one node, before the next one is asked.
const REACH_WITHIN: Duration = Duration::from_millis(500);

/// Why an attempt came to nothing.
enum Lost {
    /// Nothing helps.
    Trouble(Trouble),
    /// The nodes that had it are gone: another attempt may do.
    Again(String),
}

impl From<server::Failure> for Lost {
    fn from(failure: server::Failure) -> Self {
        Self::Trouble(failure.to_string().into())
    }
}

pub(crate) async fn run(cluster: &Cluster, options: &BackupOptions) -> Outcome {
    match (&options.command, &options.to) {
        (Some(BackupCommand::Verify { dir }), _) => {
            let mut teller = Teller::new("read");
            let contents = verify(dir, &mut |done, all| teller.tell(done, Some(all)));
            show(&contents.map_err(|failure| failure.to_string())?, cluster.json);
            Ok(())
        }
        (None, Some(to)) => make(cluster, to).await,
        (None, None) => Err(Trouble::usage("say where to with --to DIR")),
    }
}

async fn make(cluster: &Cluster, to: &Path) -> Outcome {
    let begun = Instant::now();
    let mut addresses = session::chosen(&cluster.address);
    let mut why = String::new();
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            screen::aside(&format!("{why}; the backup is begun anew"));
            tokio::time::sleep(PAUSE).await;
        }
        match attempt_at(&mut addresses, to).await {
            Ok((manifest, answer)) => {
                said(&manifest, &answer, to, begun.elapsed(), cluster.json);
                return Ok(());
            }
            Err(Lost::Trouble(trouble)) => return Err(trouble),
            Err(Lost::Again(lost)) => why = lost,
        }
    }
    Err(format!("{why}. That went on for {ATTEMPTS_MAX} attempts: is the cluster well?").into())
}

fn said(manifest: &Manifest, answer: &Value, to: &Path, took: Duration, json: bool) {
    let bytes: u64 = manifest.groups.iter().map(|group| group.bytes).sum();
    let instances = manifest.groups.iter().filter(|group| group.instance.is_some()).count();
    if json {
        let mut said = serde_json::to_value(manifest).expect("a manifest is plain data");
        said["bytes"] = json!(bytes);
        said["heldMicros"] = answer["heldMicros"].clone();
        screen::say(&said.to_string());
        return;
    }
    let groups = manifest.groups.len();
    let waited = answer["heldMicros"].as_u64().unwrap_or(0);
    screen::say(&format!(
        "Backup {} of cluster {} is in {}: {groups} groups ({instances} immortals), {}, in {} ms. All of \
         it is of one moment, for which writes waited {} ms.",
        manifest.backup,
        manifest.cluster,
        to.display(),
        in_words(bytes),
        took.as_millis(),
        waited.div_ceil(1_000)
    ));
}

/// From the first node that begins one.
async fn attempt_at(addresses: &mut [String], to: &Path) -> Result<(Manifest, Value), Lost> {
    let mut why = "no node was named".to_owned();
    for number in 0..addresses.len() {
        let one = session::client_of(&addresses[number..=number]).map_err(Lost::Trouble)?;
        // Each POST begins another backup, so it is not simply sent again.
        let one = one.reach_within(REACH_WITHIN).without_keys();
        match one.send(client::request(Method::Post, LINK)).await {
            Ok(answer) if answer.is_success() => {
                // Whoever has just answered is asked first the next time.
                addresses.swap(0, number);
                let begun = answer.to_json();
                let id = begun["backup"].as_str().unwrap_or_default().to_owned();
                let fetched = tokio::select! {
                    fetched = fetch(&one, begun, to) => fetched,
                    signal = interrupted() => Err(Lost::Trouble(signal.into())),
                };
                // If it is not ended now, the nodes end it in a minute; until then it takes one of
                // the few places for backups.
                drop(one.delete(&format!("{LINK}/{id}")).await);
                return fetched;
            }
            Ok(answer) if answer.status == 503 => why = problem(&answer),
            Ok(answer) => return Err(Lost::Trouble(refusal(&answer))),
            Err(error @ ClientError::Unreachable { .. }) => why = unreachable(&error).why,
            Err(error) => return Err(Lost::Trouble(unreachable(&error))),
        }
    }
    Err(Lost::Again(why))
}

/// Somebody wants no backup any more: a person, or a timer's unit that is stopped.
async fn interrupted() -> String {
    let mut term = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut term {
            Some(term) => term.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
    "the backup was interrupted, and the nodes were told so: what is written so far is no backup, \
     and goes with the next one that is made into the same folder"
        .to_owned()
}

async fn fetch(one: &Client, begun: Value, to: &Path) -> Result<(Manifest, Value), Lost> {
    let text = |name: &str| begun[name].as_str().unwrap_or_default().to_owned();
    let id = text("backup");
    let nodes = begun["nodes"].as_array().into_iter().flatten();
    let manifest = Manifest {
        backup: id.clone(),
        cluster: text("cluster"),
        version: text("version"),
        at_micros: begun["atMicros"].as_u64().unwrap_or(0),
        nodes: nodes.filter_map(|node| Some(node.as_str()?.to_owned())).collect(),
        ..Manifest::default()
    };
    let mut writer = BackupWriter::create(to, manifest)?;
    let mut teller = Teller::new("written");
    let mut before = 0;
    for group in begun["groups"].as_array().into_iter().flatten() {
        let number = |name: &str| group[name].as_u64().unwrap_or(0);
        let entry = GroupFile {
            group: u32::try_from(number("group")).unwrap_or(u32::MAX),
            instance: group["instance"].as_str().map(str::to_owned),
            position: number("position"),
            term: number("term"),
            ..GroupFile::default()
        };
        let path = format!("{LINK}/{id}/{}", entry.group);
        let mut file = writer.group(entry)?;
        let mut next = Some(Vec::new());
        while let Some(after) = next {
            let page = page(one, &path, &after).await?;
            next = file.page(&page.body)?;
            teller.tell(before + file.bytes(), None);
        }
        before += file.bytes();
        writer.add(file.finish()?);
    }
    Ok((writer.finish()?, begun))
}

async fn page(one: &Client, path: &str, after: &[u8]) -> Result<Response, Lost> {
    let path = match after.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?after={}", base64url::encode(after)),
    };
    match one.get(&path).await {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) if matches!(answer.status, 404 | 503) => Err(Lost::Again(problem(&answer))),
        Ok(answer) => Err(Lost::Trouble(refusal(&answer))),
        Err(error) => Err(Lost::Again(unreachable(&error).why)),
    }
}

fn show(contents: &Contents, json: bool) {
    let manifest = &contents.manifest;
    let groups: Vec<Value> = contents
        .groups
        .iter()
        .map(|(file, census)| {
            json!({
                "group": file.group, "name": file.name(), "position": file.position,
                "term": file.term, "bytes": file.bytes, "documents": census.documents,
                "pairs": census.pairs, "entries": census.entries,
            })
        })
        .collect();
    if json {
        let said = json!({
            "backup": manifest.backup, "cluster": manifest.cluster, "version": manifest.version,
            "atMicros": manifest.at_micros, "nodes": manifest.nodes,
            "isRecovered": manifest.is_recovered,
            "documents": contents.documents(), "instances": contents.instances(),
            "bytes": contents.bytes, "groups": groups,
        });
        return screen::say(&said.to_string());
    }
    let rows: Vec<Vec<String>> = contents
        .groups
        .iter()
        .map(|(file, census)| {
            vec![
                file.name(),
                file.position.to_string(),
                file.term.to_string(),
                census.documents.to_string(),
                census.entries.to_string(),
                file.bytes.to_string(),
            ]
        })
        .collect();
    let heading = ["GROUP", "POSITION", "TERM", "DOCUMENTS", "ENTRIES", "BYTES"];
    screen::say(&screen::table(&heading, &rows));
    let moment = if manifest.is_recovered {
        "It was made of what was left of the cluster"
    } else {
        "All of it is of one moment"
    };
    screen::say(&format!(
        "Backup {} of cluster {} is whole: {} documents, {} immortals, {}. {moment}; amrita {} \
         wrote it.",
        manifest.backup,
        manifest.cluster,
        contents.documents(),
        contents.instances(),
        in_words(contents.bytes),
        manifest.version
    ));
}

pub(crate) fn in_words(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Says how far long work is.
struct Teller {
    what: &'static str,
    told: Instant,
}

impl Teller {
    fn new(what: &'static str) -> Self {
        Self { what, told: Instant::now() }
    }

    fn tell(&mut self, done: u64, all: Option<u64>) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let of = all.map(|all| format!(" of {}", in_words(all))).unwrap_or_default();
        screen::aside(&format!("{}{of} {}", in_words(done), self.what));
    }
}
