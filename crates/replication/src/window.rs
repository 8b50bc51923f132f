//! How much memory the logs of all groups of a node may take together. Whoever owns the groups
//! tells it what each one holds, and lets it shrink them from time to time.

use std::collections::BTreeMap;

use protocol::GroupId;

/// An account of the bytes that the groups of a node hold of their logs
/// ([`crate::Group::log_bytes`]).
#[derive(Debug)]
pub struct WindowBudget {
    bytes_max: usize,
    total: usize,
    groups: BTreeMap<GroupId, Share>,
    /// By when they appended last.
    order: BTreeMap<u64, GroupId>,
    appends: u64,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    appended: u64,
    bytes: usize,
}

impl WindowBudget {
    pub fn new(bytes_max: usize) -> Self {
        let (groups, order) = (BTreeMap::new(), BTreeMap::new());
        Self { bytes_max, total: 0, groups, order, appends: 0 }
    }

    /// The group holds so much now. When that is more than before, it has appended something.
    pub fn note(&mut self, group: GroupId, bytes: usize) {
        let appended = match self.groups.get(&group) {
            Some(share) if bytes <= share.bytes => share.appended,
            _ => {
                self.appends += 1;
                self.appends
            }
        };
        self.set(group, Share { appended, bytes });
    }

    fn set(&mut self, group: GroupId, share: Share) {
        let before = if share.bytes > 0 {
            self.groups.insert(group, share)
        } else {
            self.groups.remove(&group)
        };
        let before = before.unwrap_or(Share { appended: 0, bytes: 0 });
        self.total = self.total + share.bytes - before.bytes;
        if before.appended != share.appended || share.bytes == 0 {
            self.order.remove(&before.appended);
        }
        if share.bytes > 0 && before.appended != share.appended {
            self.order.insert(share.appended, group);
        }
    }

    /// The group is not here any more.
    pub fn forget(&mut self, group: GroupId) {
        self.note(group, 0);
    }

    /// What all groups hold.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Lets groups shrink until all of them fit, in the order of their last appends. `shrink` is
    /// told how many bytes should go, and says what the group holds then: it may keep what must
    /// stay.
    pub fn shrink(&mut self, mut shrink: impl FnMut(GroupId, usize) -> usize) {
        let mut after = 0;
        while self.total > self.bytes_max {
            let Some((&appended, &group)) = self.order.range(after..).next() else { return };
            after = appended + 1;
            let bytes = shrink(group, self.total - self.bytes_max);
            self.set(group, Share { appended, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> WindowBudget {
        let mut budget = WindowBudget::new(100);
        for (group, bytes) in [(1, 40), (2, 30), (3, 30), (1, 50)] {
            budget.note(GroupId(group), bytes);
        }
        budget
    }

    #[test]
    fn the_group_that_appended_longest_ago_shrinks_first() {
        let mut budget = budget();
        let mut asked = Vec::new();
        budget.shrink(|group, bytes| {
            asked.push((group.0, bytes));
            20
        });
        assert_eq!(asked, [(2, 10)], "and no others when that is enough");
        assert_eq!(budget.total(), 100);
        budget.note(GroupId(3), 60);
        budget.shrink(|group, _| if group == GroupId(2) { 20 } else { 10 });
        assert_eq!(budget.total(), 20 + 10 + 60, "2 keeps what it must, so 1 is next");
    }

    #[test]
    fn when_nothing_can_go_each_group_is_asked_once() {
        let mut budget = budget();
        let mut asked = 0;
        let held = budget.groups.clone();
        budget.shrink(|group, _| {
            asked += 1;
            held[&group].bytes
        });
        assert_eq!((asked, budget.total()), (3, 110));
    }

    #[test]
    fn who_shrinks_by_itself_keeps_its_place_and_who_holds_nothing_is_forgotten() {
        let mut budget = budget();
        budget.note(GroupId(2), 29);
        let mut first = None;
        budget.shrink(|group, _| {
            first.get_or_insert(group);
            0
        });
        assert_eq!(first, Some(GroupId(2)));
        for group in 1..=3 {
            budget.forget(GroupId(group));
        }
        assert_eq!(budget.total(), 0);
        assert!(budget.groups.is_empty() && budget.order.is_empty());
    }
}
