//! Which writes of instances a partition has taken: for each instance the number of the last one.
//! The number is in the entry of the write, so it is noted exactly if the write is made. A write
//! that was refused for good has an entry of its own, which notes its number.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::GroupId;
use storage::{Batch, Reader, Space, StoreError};

use crate::command::Noted;
use crate::family;

/// How far each instance has come, by its group. A group is never given to a second instance.
#[derive(Debug, Default)]
pub struct Inbox {
    last: BTreeMap<GroupId, u64>,
}

impl Inbox {
    pub(crate) fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let mut last = Some(BTreeMap::new());
        let (from, to) = space.range(family::INBOX);
        store.scan(&from, &to, false, &mut |key, value| {
            let read = space.rest(key).try_into().ok().zip(value.try_into().ok());
            last = last.take().zip(read).map(|(mut last, (instance, number))| {
                last.insert(GroupId(u32::from_be_bytes(instance)), u64::from_be_bytes(number));
                last
            });
            ControlFlow::Continue(())
        })?;
        let broken = || StoreError::failed(format!("group {} has a broken inbox", space.group));
        Ok(Self { last: last.ok_or_else(broken)? })
    }

    /// The number of the last write of an instance that was taken; 0 if none was.
    pub fn last(&self, instance: GroupId) -> u64 {
        self.last.get(&instance).copied().unwrap_or_default()
    }

    /// How many instances have ever written something.
    pub fn count(&self) -> usize {
        self.last.len()
    }

    /// Whether a write is the next one of its instance.
    pub(crate) fn fits(&self, noted: &Noted) -> bool {
        self.last(noted.instance) == noted.after && noted.number > noted.after
    }

    /// **Invariant:** the numbers of an instance go up, and each is noted once. A write is done
    /// once because of this.
    pub(crate) fn note(&mut self, space: Space, batch: &mut Batch, noted: &Noted) {
        assert!(
            self.fits(noted),
            "group {}: write {} of instance {} does not follow {}",
            space.group,
            noted.number,
            noted.instance,
            self.last(noted.instance)
        );
        self.last.insert(noted.instance, noted.number);
        let key = space.key(family::INBOX, &noted.instance.0.to_be_bytes());
        batch.put(key, noted.number.to_be_bytes());
    }
}
