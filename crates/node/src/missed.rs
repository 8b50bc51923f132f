//! What a reader of changes has missed that is not in memory any more: after a restart of all
//! nodes, or after a long time away. It is found in the versions that the store keeps, if all of it
//! is there. If something is not, the reader is told that, and nothing else.

use documents::{Change, Missed, Place, Since};
use protocol::hash::hash;
use protocol::{Code, GroupId, Position, Problem};
use storage::StoreError;

use crate::change_token::{Catching, Reading};
use crate::view::View;

/// About how many bytes of changes one look at the store brings.
const MISSED_BYTES: usize = 256 << 10;

/// What a look at the store has brought.
pub(crate) enum Brought {
    /// These, which belong to the partition in which the reader is catching up, and where the
    /// reader is behind them.
    Changes(Vec<(Change, Reading)>, Reading),
    /// This replica has not applied as much as the reader was promised elsewhere.
    NotHere,
}

/// Looks at the store once for a reader that has missed something in that partition.
///
/// # Errors
/// [`Code::ChangesGone`] when something of it is not kept, or what the store says.
pub(crate) fn look(
    reading: &Reading,
    group: GroupId,
    prefix: &str,
    view: &View<'_>,
) -> Result<Brought, Problem> {
    let replica = view.shard.partitions.get(&group).expect("the caller has seen it");
    let (partition, store) = (replica.machine().partition(), &*view.shard.store);
    let applied = replica.consensus.applied_position();
    let from = all_before(reading.places[&group]);
    let Some(mut catching) = goes_on(reading, group, prefix, applied) else {
        return Ok(Brought::NotHere);
    };
    // Another node may have it whole.
    let failed = |error: StoreError| Problem::new(Code::Storage, error.to_string());
    // Asked each time: what goes while the reader is catching up is missed as well.
    if partition.some_have_gone(store, &|it| is_within(it, prefix), from).map_err(failed)? {
        return Err(gone());
    }
    let asked = Since {
        prefix,
        is_one: false,
        from,
        until: catching.until,
        latest_at: None,
        after: catching.after.take(),
        bytes_max: MISSED_BYTES,
    };
    let caught = partition.since(store, &asked).map_err(failed)?;
    if caught.is_broken {
        return Err(gone());
    }
    let mut changes = Vec::with_capacity(caught.changes.len());
    for Missed { change, is_after_gap } in caught.changes {
        if is_after_gap {
            return Err(gone());
        }
        let after = change.after.as_ref().map(|it| (it.link.clone(), it.version));
        let after = after.map(|(link, version)| documents::Cursor { link, version });
        let catching = Some(Catching { after, ..catching.clone() });
        changes.push((change, Reading { places: reading.places.clone(), catching }));
    }
    let mut behind = reading.clone();
    if caught.next.is_some() {
        behind.catching = Some(Catching { after: caught.next, ..catching });
    } else {
        behind.catching = None;
        behind.places.insert(group, Place::after(catching.until));
    }
    Ok(Brought::Changes(changes, behind))
}

/// Where a reader goes on in a partition, or begins; `None`: it was promised more than this replica
/// has applied.
fn goes_on(reading: &Reading, group: GroupId, prefix: &str, applied: Position) -> Option<Catching> {
    let mark = mark_of(prefix);
    // What was begun for another prefix says nothing of these documents.
    let is_begun = |it: &Catching| it.group == group && it.prefix == mark;
    let begun = reading.catching.clone().filter(is_begun);
    let anew = Catching { group, until: applied, prefix: mark, after: None };
    let catching = begun.unwrap_or(anew);
    (catching.until <= applied).then_some(catching)
}

/// By what a token knows the prefix with which it was made.
pub(crate) fn mark_of(prefix: &str) -> u64 {
    hash(prefix.as_bytes())
}

/// Whether a factory may have documents whose links begin like that.
pub(crate) fn is_within(factory: &str, prefix: &str) -> bool {
    let folder = format!("{factory}/");
    folder.starts_with(prefix) || prefix.starts_with(&folder)
}

/// The last entry of which all changes come before a place.
pub(crate) fn all_before(place: Place) -> Position {
    match place.taken {
        u32::MAX => place.position,
        _ => Position(place.position.0.saturating_sub(1)),
    }
}

pub(crate) fn gone() -> Problem {
    let text = "the changes after this token are not kept here any more, so some would be missed. \
                Watch without 'after' for a new token, then read the documents, then go on with \
                that token";
    Problem::new(Code::ChangesGone, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use documents::Cursor;

    use super::*;

    #[test]
    fn a_reader_goes_on_where_it_was_and_begins_anew_elsewhere() {
        let group = GroupId(3);
        let cursor = || Some(Cursor { link: "/a/m".into(), version: 4 });
        let at = |group, prefix| {
            let (until, prefix) = (Position(9), mark_of(prefix));
            let catching = Some(Catching { group, until, prefix, after: cursor() });
            Reading { places: BTreeMap::new(), catching }
        };
        let goes_on = |reading: &Reading, applied| {
            let catching = goes_on(reading, group, "/a/", Position(applied))?;
            assert_eq!((catching.group, catching.prefix), (group, mark_of("/a/")));
            Some((catching.until.0, catching.after))
        };
        let same = at(group, "/a/");
        assert_eq!(goes_on(&same, 12), Some((9, cursor())));
        assert_eq!(goes_on(&same, 9), Some((9, cursor())));
        assert_eq!(goes_on(&same, 8), None, "this replica is behind what was promised");
        for other in [at(group, "/a/b/"), at(GroupId(4), "/a/"), Reading::default()] {
            assert_eq!(goes_on(&other, 12), Some((12, None)), "{other:?}");
            assert_eq!(goes_on(&other, 8), Some((8, None)), "{other:?}");
        }
    }

    #[test]
    fn only_what_could_have_been_told_counts_as_gone() {
        for (factory, prefix, is_meant) in [
            ("/core/examples", "/", true),
            ("/core/examples", "/core/examples/", true),
            ("/core/examples", "/core/examples/one", true),
            ("/core/examples", "/core/exam", true),
            ("/core/examples", "/core/examples-two/", false),
            ("/core/examples-two", "/core/examples/", false),
            ("/core/query-tasks", "/core/examples/", false),
        ] {
            assert_eq!(is_within(factory, prefix), is_meant, "{factory} {prefix}");
        }
    }
}
