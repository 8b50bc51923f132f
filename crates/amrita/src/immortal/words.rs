//! AMBROSIA's words. Its tools take `-rp=2000` and `-aa`, which are no flags as ours are: they are
//! turned into our words before anything else is looked at.

use std::collections::VecDeque;
use std::ffi::OsString;

/// AMBROSIA's short word, its long one, and ours.
const WORDS: [(&str, &str, &str); 13] = [
    ("i", "instanceName", "--instance-name"),
    ("rp", "receivePort", "--receive-port"),
    ("sp", "sendPort", "--send-port"),
    ("aa", "activeActive", "--active-active"),
    ("cv", "currentVersion", "--current-version"),
    ("uv", "upgradeVersion", "--upgrade-version"),
    ("lts", "logTriggerSize", "--log-trigger-size"),
    ("ps", "pauseAtStart", "--pause-at-start"),
    ("npl", "noPersistLogs", "--no-persist-logs"),
    ("tu", "testingUpgrade", "--test-upgrade"),
    ("c", "checkpoint", "--from"),
    ("r", "replicaNum", "--replica-num"),
    ("p", "port", "-p"),
];

/// Words of AMBROSIA's that change nothing here, and why. Each has a value.
const NEEDLESS: [(&str, &str, &str); 3] = [
    ("l", "log", "each node keeps the log on its own disk"),
    ("lst", "logStorageType", "each node keeps the log on its own disk"),
    ("cs", "createService", "an instance recovers whenever there is something to recover from"),
];

/// Words of AMBROSIA's coordinator, which is not started here.
const COORDINATOR: &str = "the node is the coordinator: one port serves all its instances";

/// What was said, in our words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) words: Vec<OsString>,
    /// What was left out, and why.
    pub(crate) notes: Vec<String>,
}

/// The arguments with AMBROSIA's words in ours. AMBROSIA takes each with one dash or two, and its
/// value after `=` or as the next word; its scripts write it in all of these ways.
///
/// # Errors
/// When a word can mean nothing here: which, and why.
pub(crate) fn translated(arguments: impl Iterator<Item = OsString>) -> Result<Translated, String> {
    let mut left = arguments.collect::<VecDeque<_>>();
    let mut all = Translated { words: Vec::new(), notes: Vec::new() };
    while let Some(argument) = left.pop_front() {
        let is_begin = argument == "immortal";
        all.words.push(argument);
        if is_begin {
            break;
        }
    }
    while let Some(argument) = left.pop_front() {
        let Some(text) = argument.to_str().filter(|text| text.starts_with('-')) else {
            all.words.push(argument);
            continue;
        };
        if text == "--" {
            all.words.push(argument);
            all.words.extend(left);
            break;
        }
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (text, None),
        };
        let bare = word.trim_start_matches('-');
        let is_it = |(short, long, _): &&(&str, &str, &str)| bare == *short || bare == *long;
        if let Some((.., why)) = NEEDLESS.iter().find(is_it) {
            if value.is_none() && left.front().is_some_and(|next| is_value(next)) {
                left.pop_front();
            }
            all.notes.push(format!("'{word}' is left out, it changes nothing here: {why}"));
            continue;
        }
        match (WORDS.iter().find(is_it), value) {
            (Some((.., "-p")), _) => {
                return Err(format!("'{word}' is not needed here, leave it away: {COORDINATOR}"));
            }
            (Some((.., ours)), None) => all.words.push(ours.into()),
            (Some((.., ours)), Some(value)) => all.words.push(format!("{ours}={value}").into()),
            (None, _) => all.words.push(argument),
        }
    }
    Ok(all)
}

/// Whether it can be the value of the word before it.
fn is_value(next: &OsString) -> bool {
    !next.to_string_lossy().starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<String, String> {
        let translated = translated(line.split(' ').map(OsString::from))?;
        let words: Vec<_> = translated.words.iter().map(|word| word.to_string_lossy()).collect();
        let notes = translated.notes.iter().map(|note| format!(" ({note})"));
        Ok(words.join(" ") + &notes.collect::<String>())
    }

    #[test]
    fn ambrosias_words_become_ours_however_they_are_written() {
        let ours = "amrita immortal register --instance-name=server --receive-port=2000 \
                    --send-port 2001 --active-active";
        for line in [
            "amrita immortal register -i=server -rp=2000 -sp 2001 -aa",
            "amrita immortal register --i=server --rp=2000 --sp 2001 --aa",
            "amrita immortal register -instanceName=server -receivePort=2000 -sendPort 2001 \
             -activeActive",
            "amrita immortal register --instanceName=server --receivePort=2000 --sendPort 2001 \
             --activeActive",
        ] {
            assert_eq!(of(line).unwrap(), ours, "{line}");
        }
        assert_eq!(of("amrita get -rp").unwrap(), "amrita get -rp", "only among immortals");
        let kept = "amrita immortal send server -1 [] -- -rp";
        assert_eq!(of(kept).unwrap(), kept);
    }

    #[test]
    fn what_changes_nothing_is_left_out_and_said() {
        for line in
            ["-l=C:\\logs\\", "-l /tmp/logs", "--log=/tmp/logs", "--log /tmp/logs", "-log x"]
        {
            let found = of(&format!("amrita immortal register server {line} -rp=1")).unwrap();
            assert!(
                found.starts_with("amrita immortal register server --receive-port=1 ("),
                "{found}"
            );
            assert!(found.contains("own disk"), "{found}");
        }
        let last = of("amrita immortal register server -cs").unwrap();
        assert!(last.starts_with("amrita immortal register server ('-cs'"), "{last}");
        let why = of("amrita immortal register server -p=2500").unwrap_err();
        assert!(why.contains("'-p'") && why.contains("coordinator"), "{why}");
    }
}
