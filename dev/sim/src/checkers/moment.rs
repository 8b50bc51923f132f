//! A backup is what the cluster was at one moment.

use std::collections::BTreeMap;

use protocol::{GroupId, Position};

use super::Broken;
use crate::agenda::Time;

/// When somebody had applied how much of each group.
#[derive(Debug, Default)]
pub struct Moments {
    /// In order of time and of positions.
    reached: BTreeMap<GroupId, Vec<(Time, Position)>>,
    /// The same for what somebody has appended, of instances: when they are applied is not seen.
    appended: BTreeMap<GroupId, Vec<(Time, Position)>>,
}

fn note(list: &mut Vec<(Time, Position)>, now: Time, position: Position) {
    if list.last().is_none_or(|(_, last)| *last < position) {
        list.push((now, position));
    }
}

impl Moments {
    /// A machine has applied a group up to there, or an owner says that it is committed so far.
    pub fn saw(&mut self, now: Time, group: GroupId, position: Position) {
        note(self.reached.entry(group).or_default(), now, position);
    }

    /// A machine appends the entry of an instance at that position.
    pub fn appends(&mut self, now: Time, group: GroupId, position: Position) {
        note(self.appended.entry(group).or_default(), now, position);
    }

    /// A backup has these groups at these positions. There must be a moment at which each of them
    /// was applied so far by somebody, and none of them further by anybody.
    ///
    /// It must not be before the backup was asked for, or what was acknowledged by then would be
    /// missing.
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self, cut: &BTreeMap<GroupId, Position>, asked_at: Time) -> Result<(), Broken> {
        let broken = |what: String| Err(Broken::new("a backup is of one moment", what));
        let (mut from, mut to) = ((0, GroupId(0)), (Time::MAX, GroupId(0)));
        for (group, position) in cut.iter().filter(|(_, position)| position.0 > 0) {
            let none = Vec::new();
            let reached = self.reached.get(group).unwrap_or(&none);
            let begun = if group.is_instance() { self.appended.get(group) } else { Some(reached) };
            let begun = begun.unwrap_or(&none);
            let Some((since, _)) = begun.iter().find(|(_, at)| at >= position) else {
                return broken(format!("group {group} was never at position {position}"));
            };
            from = from.max((*since, *group));
            if let Some((until, _)) = reached.iter().find(|(_, at)| at > position) {
                to = to.min((*until, *group));
            }
        }
        if to.0 < asked_at {
            let (until, group) = to;
            return broken(format!(
                "group {group} is as it was until {until}, and it was asked for at {asked_at}"
            ));
        }
        if from.0 <= to.0 {
            return Ok(());
        }
        let ((since, late), (until, early)) = (from, to);
        broken(format!(
            "group {late} was there since {since}, and group {early} no longer from {until} on"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_never_were_at_one_time_are_found() {
        let mut moments = Moments::default();
        let (one, two) = (GroupId(1), GroupId(2));
        for (now, group, position) in [(10, one, 1), (20, two, 1), (30, one, 2), (40, two, 2)] {
            moments.saw(now, group, Position(position));
        }
        let check = |first, second| {
            let cut = BTreeMap::from([(one, Position(first)), (two, Position(second))]);
            moments.check(&cut, 0)
        };
        assert!(check(1, 1).is_ok() && check(2, 1).is_ok() && check(2, 2).is_ok());
        assert!(check(1, 2).is_err(), "when two came to 2, one was there already");
        assert!(check(1, 3).is_err());
        let three = GroupId::INSTANCES;
        moments.appends(35, three, Position(9));
        moments.saw(50, three, Position(10));
        let check = |moments: &Moments, second, third| {
            let cut = BTreeMap::from([(two, Position(second)), (three, Position(third))]);
            moments.check(&cut, 0)
        };
        assert!(check(&moments, 1, 9).is_ok() && check(&moments, 2, 9).is_ok());
        assert!(check(&moments, 0, 8).is_ok());
        moments.saw(60, two, Position(3));
        let past = BTreeMap::from([(one, Position(1))]);
        assert!(moments.check(&past, 30).is_ok() && moments.check(&past, 31).is_err());
        assert!(check(&moments, 3, 9).is_err(), "the instance was further by then");
    }
}
