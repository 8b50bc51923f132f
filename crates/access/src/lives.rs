//! The lives of a name. A user may be deleted, and another one be made of the same name later: what
//! the first one had is not the second one's. So what belongs to a user says when that user was
//! made: a token, a password, the ownership of an instance, a task, a subscription.

use protocol::Moment;

/// The mark of a password that was set when there was no user of that name: it is the next one's.
pub const NOBODY_SO_FAR: u64 = 0;

/// What was written before such marks were has none. It is of the user that was there by then; the
/// clocks of nodes may differ by an hour, in microseconds.
const SLACK_MICROS: u64 = 3_600_000_000;

/// Whether what was written at that time and has that mark belongs to the user who was made at
/// `made`, in microseconds since 1970 (`None`: a user from before users said it).
pub fn is_one_of(mark: Option<u64>, written: Moment, made: Option<u64>) -> bool {
    match (mark, made) {
        (Some(NOBODY_SO_FAR), _) => true,
        (Some(mark), made) => made == Some(mark),
        (None, None) => true,
        (None, Some(made)) => made <= written.0.saturating_add(SLACK_MICROS),
    }
}

/// How the owners of an instance say when one of them was made.
pub fn owner_made(link: &str, made: u64) -> String {
    format!("{link} {made}")
}

/// The same, read.
pub(crate) fn read_owner_made(mark: &str) -> Option<(&str, u64)> {
    let (link, made) = mark.rsplit_once(' ')?;
    Some((link, made.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_life_and_without_one_the_time_says_it() {
        let hour = SLACK_MICROS;
        for (mark, written, made, is_one) in [
            (Some(5), 9, Some(5), true),
            (Some(5), 9, Some(6), false),
            (Some(5), 9, None, false),
            (Some(NOBODY_SO_FAR), 9, Some(6), true),
            (None, 9, None, true),
            (None, 9, Some(9 + hour), true),
            (None, 9, Some(10 + hour), false),
        ] {
            assert_eq!(is_one_of(mark, Moment(written), made), is_one, "{mark:?} {made:?}");
        }
    }

    #[test]
    fn the_mark_of_an_owner_is_read_as_it_was_written() {
        let link = "/core/authz/users/a b";
        assert_eq!(read_owner_made(&owner_made(link, 7)), Some((link, 7)));
        assert_eq!(read_owner_made(link), None);
    }
}
