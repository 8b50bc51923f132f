//! Documents in groups, and what is to be said of each group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::partial::Partial;
use crate::scalar::Scalar;

/// How many bytes the groups of a partition may have, with all that is kept for their aggregates;
/// the same for those of all partitions together.
pub const GROUPS_BYTES_MAX: usize = 8 << 20;

/// What a group takes beside its key and its aggregates, in bytes.
const GROUP_BYTES: usize = 96;

/// The values that a group's documents have in common; `None` where they have none.
pub(crate) type GroupKey = Vec<Option<Scalar>>;

/// What was found so far, in order of the groups' keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    groups: BTreeMap<GroupKey, Vec<Partial>>,
    bytes: usize,
    /// There was more than may be kept.
    is_over: bool,
}

impl Groups {
    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// There is more than may be kept, so nothing is right: the query is to be refused.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn give_up(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }

    /// Changes a group, which is made if it is not there; `change` says how many bytes that takes.
    pub(crate) fn change(
        &mut self,
        key: GroupKey,
        empty: impl FnOnce() -> Vec<Partial>,
        change: impl FnOnce(&mut Vec<Partial>) -> usize,
    ) {
        if self.is_over {
            return;
        }
        let group = match self.groups.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let partials = empty();
                self.bytes += group_bytes(place.key(), &partials);
                place.insert(partials)
            }
        };
        self.bytes += change(group);
        if self.bytes > GROUPS_BYTES_MAX {
            self.give_up();
        }
    }

    /// Takes the groups of another partition.
    pub fn merge(&mut self, other: Self) {
        if other.is_over {
            self.give_up();
        }
        for (key, partials) in other.groups {
            if self.is_over {
                return;
            }
            self.bytes += match self.groups.entry(key) {
                Entry::Occupied(mut known) => {
                    let both = known.get_mut().iter_mut().zip(partials);
                    both.map(|(known, more)| known.merge(more)).sum()
                }
                Entry::Vacant(place) => {
                    let bytes = group_bytes(place.key(), &partials);
                    let kept: usize = partials.iter().map(Partial::kept_bytes).sum();
                    place.insert(partials);
                    bytes + kept
                }
            };
            if self.bytes > GROUPS_BYTES_MAX {
                self.give_up();
            }
        }
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (GroupKey, Vec<Partial>)> {
        self.groups.into_iter()
    }
}

/// What a group takes that has seen nothing.
fn group_bytes(key: &GroupKey, partials: &[Partial]) -> usize {
    let key: usize = key.iter().map(|it| it.as_ref().map_or(8, Scalar::bytes)).sum();
    GROUP_BYTES + key + size_of_val(partials)
}
