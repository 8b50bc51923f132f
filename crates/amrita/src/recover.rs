//! `amrita recover`: of the sandboxes that are left of a cluster, a backup is made.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;
use server::backup::{Findings, Found, look_at_sandboxes, save_findings};

use crate::key_options::KeyOptions;
use crate::outcome::{Outcome, Trouble};
use crate::screen;

#[derive(Clone, Debug, Args)]
pub(crate) struct RecoverOptions {
    /// Sandbox of a stopped node of the cluster; once for each that is left
    #[arg(long, value_name = "SANDBOX", required = true)]
    pub(crate) from: Vec<PathBuf>,
    /// Folder for the backup that is made, which is not encrypted: empty, or not there so far
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    key: KeyOptions,
    /// Make it. Without this, it is only said what is there and what may be lost
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(crate) fn run(options: &RecoverOptions, json: bool) -> Outcome {
    let mut work = options.to.as_os_str().to_owned();
    work.push(".work");
    let encryption = options.key.encryption();
    let findings = look_at_sandboxes(&options.from, &PathBuf::from(work), &encryption);
    let findings = findings.map_err(|failure| Trouble::from(failure.to_string()))?;
    if json {
        screen::say(&in_json(&findings));
    } else {
        in_words(&findings).iter().for_each(|line| screen::say(line));
    }
    if !options.yes {
        if !json {
            screen::say("Nothing was done. Say the same with --yes to make a backup of this.");
        }
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let saved = save_findings(&findings, &options.to, u64::try_from(now).unwrap_or(u64::MAX));
    let manifest = saved.map_err(|failure| Trouble::from(failure.to_string()))?;
    if !json {
        let to = options.to.display();
        screen::say(&format!(
            "Backup {} is in {to}. A new cluster is made of it by 'amrita restore {to}' with \
             an empty --sandbox; other nodes join that one. Never start the old sandboxes again \
             beside it.",
            manifest.backup
        ));
    }
    Ok(())
}

fn in_json(findings: &Findings) -> String {
    let groups = findings.found.iter().map(|found| {
        let best = found.best.as_ref();
        json!({
            "name": found.name,
            "furthest": best.map(|(node, ..)| node),
            "position": best.map(|(_, position, _)| position),
            "term": best.map(|(.., term)| term),
            "replicasHere": found.here,
            "replicas": found.of,
            "isChanging": found.is_changing,
            "isInMemory": found.is_in_memory,
            "isWhole": found.is_whole(),
            "mayWaitForEver": found.may_wait_for_ever(),
        })
    });
    let (here, all) = findings.nodes();
    json!({
        "cluster": findings.cluster(),
        "nodesHere": here,
        "nodes": all,
        "notes": findings.notes,
        "groups": groups.collect::<Vec<_>>(),
    })
    .to_string()
}

fn in_words(findings: &Findings) -> Vec<String> {
    let (here, all) = findings.nodes();
    let mut lines = vec![format!(
        "Cluster {} had the nodes {}; here are the sandboxes of {}.",
        findings.cluster(),
        all.join(", "),
        here.join(", ")
    )];
    lines.extend(findings.notes.iter().map(|note| format!("Note: {note}.")));
    let rows: Vec<Vec<String>> = findings.found.iter().map(row).collect();
    let heading = ["GROUP", "FURTHEST", "POSITION", "TERM", "REPLICAS", "WHAT MAY BE LOST"];
    lines.push(screen::table(&heading, &rows));
    if findings.found.iter().all(Found::is_whole) {
        lines.push(
            "A majority of the replicas of each group is here, so everything that was acknowledged is, if \
             these are the folders as the nodes left them. (Not every disk that was set back to an older \
             time can be told.)"
                .into(),
        );
        return lines;
    }
    lines.push(
        "Where less than a majority is here, what was acknowledged last may be missing; how much cannot be \
         known. The groups may end at different moments: a task may count as done whose effect in another \
         partition is lost, and an immortal may have handled messages that their sender, set back, does not \
         know of: as many of the sender's next ones are taken for repetitions. What was logged and never \
         acknowledged may be there, too."
            .into(),
    );
    let waiting = findings.found.iter().filter(|found| found.may_wait_for_ever());
    let waiting: Vec<&str> = waiting.map(|found| found.name.as_str()).collect();
    if !waiting.is_empty() {
        lines.push(format!(
            "What these had confirmed to others and lost, nobody sends them again, and they wait for it \
             for ever, silently: {}. If one of them takes nothing more from another immortal in the new \
             cluster, deregister it there and register it anew.",
            waiting.join(", ")
        ));
    }
    lines
}

fn row(found: &Found) -> Vec<String> {
    let (node, position, term) = match &found.best {
        Some((node, position, term)) => (node.clone(), position.to_string(), term.to_string()),
        None => ("none".into(), String::new(), String::new()),
    };
    let lost = match (&found.best, found.is_whole()) {
        (None, _) => "all of it: it will not be there".to_owned(),
        (_, true) => "nothing that was acknowledged".to_owned(),
        _ if found.is_in_memory => {
            format!("perhaps what came after position {position}: it is acknowledged in memory")
        }
        _ if found.is_changing => {
            format!("perhaps what came after position {position}: its replicas were changed")
        }
        _ => format!("what came after position {position}"),
    };
    vec![found.name.clone(), node, position, term, format!("{} of {}", found.here, found.of), lost]
}
