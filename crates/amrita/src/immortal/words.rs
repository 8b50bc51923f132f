//! AMBROSIA's words. Its tools take each option with one dash or two, and with its value behind `=`
//! or a blank: `-rp=2000`, `--rp 2000`, `-receivePort=2000`. They are turned into our words before
//! anything else is looked at: `-instanceName=server` would be an instance called
//! `nstanceName=server`.

use std::ffi::OsString;

/// AMBROSIA's short and long names, and ours.
const OPTIONS: [(&str, &str, &str); 13] = [
    ("i", "instanceName", "instance-name"),
    ("rp", "receivePort", "receive-port"),
    ("sp", "sendPort", "send-port"),
    ("r", "replicaNum", "replica-num"),
    ("aa", "activeActive", "active-active"),
    ("cv", "currentVersion", "current-version"),
    ("uv", "upgradeVersion", "upgrade-version"),
    ("lts", "logTriggerSize", "log-trigger-size"),
    ("ps", "pauseAtStart", "pause-at-start"),
    ("npl", "noPersistLogs", "no-persist-logs"),
    ("tu", "testingUpgrade", "test-upgrade"),
    ("c", "checkpoint", "from"),
    ("h", "help", "help"),
];

/// Options that say how AMBROSIA keeps its log, with a value each. They are left away, and that is
/// said.
const NEEDLESS: [(&str, &str, &str); 2] = [
    ("l", "log", "each node keeps the log on its own disk"),
    ("lst", "logStorageType", "each node keeps the log on its own disk"),
];

/// Options that have no counterpart, and why.
const REFUSED: [(&str, &str, &str); 2] = [
    ("cs", "createService", "an instance recovers whenever there is something to recover from"),
    ("p", "port", "the node is the coordinator: one port serves all its instances"),
];

/// The arguments in our words, and what is to be said about those that were left away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) notes: Vec<String>,
}

/// An argument that is an option: its name without dashes, and the value that is joined to it.
struct Word<'a> {
    dashes: &'a str,
    name: &'a str,
    value: Option<&'a str>,
}

impl<'a> Word<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let rest = text.trim_start_matches('-');
        let dashes = &text[..text.len() - rest.len()];
        let is_option = matches!(dashes.len(), 1 | 2) && rest.starts_with(char::is_alphabetic);
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (rest, None),
        };
        is_option.then_some(Self { dashes, name, value })
    }

    /// Whether it is that option of AMBROSIA's, which distinguishes no case in long names.
    fn is(&self, short: &str, long: &str) -> bool {
        self.name == short || self.name.eq_ignore_ascii_case(long)
    }
}

/// The arguments with AMBROSIA's words in ours.
///
/// # Errors
/// When a word is not needed here: which, and why.
pub(crate) fn translated(arguments: impl Iterator<Item = OsString>) -> Result<Translated, String> {
    let mut all = Translated::default();
    let mut arguments = arguments.peekable();
    let mut is_immortal = false;
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if text == "--" {
            all.arguments.push(argument);
            break;
        }
        let Some(word) = Word::of(text).filter(|_| is_immortal) else {
            is_immortal |= text == "immortal";
            all.arguments.push(argument);
            continue;
        };
        if let Some((.., why)) = REFUSED.iter().find(|(short, long, _)| word.is(short, long)) {
            let (dashes, name) = (word.dashes, word.name);
            return Err(format!("'{dashes}{name}' is not needed here, leave it away: {why}"));
        }
        if let Some((.., why)) = NEEDLESS.iter().find(|(short, long, _)| word.is(short, long)) {
            all.notes.push(format!("'{}{}' is left away: {why}", word.dashes, word.name));
            if word.value.is_none() {
                arguments.next_if(|next| next.to_str().is_none_or(|it| Word::of(it).is_none()));
            }
            continue;
        }
        match OPTIONS.iter().find(|(short, long, _)| word.is(short, long)) {
            None => all.arguments.push(argument),
            Some((_, _, ours)) => all.arguments.push(match word.value {
                None => format!("--{ours}").into(),
                Some(value) => format!("--{ours}={value}").into(),
            }),
        }
    }
    all.arguments.extend(arguments);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<String, String> {
        let words = translated(line.split(' ').map(OsString::from))?.arguments;
        Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ambrosias_words_become_ours_with_one_dash_or_two() {
        let ours = "amrita immortal register --instance-name=server --receive-port=2000 \
                    --send-port 2001 --active-active";
        for theirs in [
            "amrita immortal register -i=server -rp=2000 -sp 2001 -aa",
            "amrita immortal register --i=server --rp=2000 --sp 2001 --aa",
            "amrita immortal register -instanceName=server -receivePort=2000 -sendPort 2001 \
             -activeActive",
            "amrita immortal register --instanceName=server --receivePort=2000 --sendPort 2001 \
             --activeActive",
        ] {
            assert_eq!(of(theirs).unwrap(), ours, "{theirs}");
        }
        let other = "amrita immortal send server -1 x --from me";
        assert_eq!(of(other).unwrap(), other);
        let behind = "amrita immortal send server 1 -- -rp";
        assert_eq!(of(behind).unwrap(), behind);
        assert_eq!(of("amrita get -rp").unwrap(), "amrita get -rp", "only among immortals");
    }

    #[test]
    fn the_folder_of_the_log_is_left_away_and_that_is_said() {
        for words in ["-l=/logs/", "-l /logs/", "--log /logs/", "--l=/logs/", "-lst Files"] {
            let line = format!("amrita immortal register server {words} -rp=1");
            let all = translated(line.split(' ').map(OsString::from)).unwrap();
            assert_eq!(all.arguments.len(), 5, "{words}: {all:?}");
            assert!(all.notes[0].contains("own disk"), "{words}: {all:?}");
        }
        let why = of("amrita immortal register server -cs=N").unwrap_err();
        assert!(why.contains("'-cs'") && why.contains("recovers"), "{why}");
    }
}
