//! What the log on disk makes of its records: the rules of `storage`, in the plainest form.

use protocol::{Position, Term};
use storage::{LogRecord, RecoveredGroup};

pub fn write(log: &mut RecoveredGroup, record: LogRecord) {
    match record {
        LogRecord::Entry { entry, .. } => {
            assert!(entry.position > log.base, "the state has this already");
            log.entries.retain(|old| old.position < entry.position);
            assert_eq!(entry.position, last(log).next(), "a gap in the log");
            log.entries.push(entry);
        }
        LogRecord::Vote { term, voted_for, commit, .. } => {
            assert!(term >= log.term, "a term does not go back");
            assert!(
                term > log.term || log.voted_for.0 == 0 || voted_for == log.voted_for,
                "two votes in term {term}"
            );
            (log.term, log.voted_for, log.commit) = (term, voted_for, commit);
        }
        LogRecord::Base { position, term, .. } if position > log.base => {
            let known = log.entries.iter().find(|entry| entry.position == position);
            if known.is_some_and(|entry| entry.term == term) {
                log.entries.retain(|entry| entry.position > position);
            } else {
                log.entries.clear();
            }
            (log.base, log.base_term) = (position, term);
        }
        LogRecord::Base { .. } => {}
    }
}

fn last(log: &RecoveredGroup) -> Position {
    log.entries.last().map_or(log.base, |entry| entry.position)
}

/// The term of an entry after the base, 0 if it is not there.
pub fn term_at(log: &RecoveredGroup, position: Position) -> Term {
    let place = usize::try_from(position.0 - log.base.0 - 1).expect("a short log");
    log.entries.get(place).map_or(Term(0), |entry| entry.term)
}
