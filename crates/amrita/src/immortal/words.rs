//! AMBROSIA's short words. Its tools take `-rp=2000` and `-aa`, which are no flags as ours are:
//! they are turned into our words before anything else is looked at.

use std::ffi::OsString;

const SHORT: [(&str, &str); 9] = [
    ("-rp", "--receive-port"),
    ("-sp", "--send-port"),
    ("-aa", "--active-active"),
    ("-cv", "--current-version"),
    ("-uv", "--upgrade-version"),
    ("-lts", "--log-trigger-size"),
    ("-ps", "--pause-at-start"),
    ("-npl", "--no-persist-logs"),
    ("-tu", "--test-upgrade"),
];

/// Words of AMBROSIA's that have no counterpart, and why.
const NEEDLESS: [(&[&str], &str); 4] = [
    (&["-l", "--log"], "each node keeps the log on its own disk"),
    (&["-lst", "--logStorageType"], "each node keeps the log on its own disk"),
    (
        &["-cs", "--createService"],
        "an instance recovers whenever there is something to recover from",
    ),
    (&["-p", "--port"], "the node is the coordinator: one port serves all its instances"),
];

/// The arguments with AMBROSIA's short words in ours.
///
/// # Errors
/// When a word is not needed here: which, and why.
pub(crate) fn translated(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Vec<OsString>, String> {
    let mut all: Vec<OsString> = arguments.collect();
    let Some(begin) = all.iter().position(|argument| argument == "immortal") else {
        return Ok(all);
    };
    for argument in &mut all[begin + 1..] {
        let Some(text) = argument.to_str() else { continue };
        if text == "--" {
            break;
        }
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (text, None),
        };
        if let Some((_, why)) = NEEDLESS.iter().find(|(words, _)| words.contains(&word)) {
            return Err(format!("'{word}' is not needed here, leave it away: {why}"));
        }
        let ours = SHORT.iter().find(|(short, _)| *short == word).map(|(_, ours)| ours);
        *argument = match (ours, value) {
            (None, _) => continue,
            (Some(ours), None) => ours.into(),
            (Some(ours), Some(value)) => format!("{ours}={value}").into(),
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<String, String> {
        let words = translated(line.split(' ').map(OsString::from))?;
        Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ambrosias_short_words_become_ours() {
        assert_eq!(
            of("amrita immortal register -i=server -rp=2000 -sp 2001 -aa").unwrap(),
            "amrita immortal register -i=server --receive-port=2000 --send-port 2001 \
             --active-active"
        );
        assert_eq!(of("amrita get -rp").unwrap(), "amrita get -rp", "only among immortals");
        let why = of("amrita immortal register server -l=C:\\logs\\").unwrap_err();
        assert!(why.contains("'-l'") && why.contains("own disk"), "{why}");
    }
}
