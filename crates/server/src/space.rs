//! Room on the disk. The node is told that the disk is full before it is: the state store does not
//! survive a write for which there is no room, and the log wants its next segment.

use std::path::PathBuf;

use node::Input;

/// How much more than the least must be free before writes are taken again, in per cent: so that
/// a disk at the edge does not make the node change its mind all the time.
const AGAIN_PERCENT: u64 = 125;

/// There is little room while less than this many times the least is free: the node gives up what
/// it keeps for others.
const LOW_TIMES: u64 = 4;

/// What is known about the disk that the sandbox is on.
#[derive(Default)]
pub(crate) struct Space {
    folder: PathBuf,
    bytes_min: u64,
    /// What was free at the last look.
    free: u64,
    scarce: bool,
    is_low: bool,
    log_is_full: bool,
    store_is_full: bool,
}

impl Space {
    pub(crate) fn new(folder: PathBuf, bytes_min: u64) -> Self {
        Self { folder, bytes_min, free: 0, ..Self::default() }
    }

    /// Looks at the disk; says what the node has to be told. `memory_bytes`: what is in memory and
    /// has to get there still. Merging writes it twice.
    pub(crate) fn look(&mut self, memory_bytes: u64) -> impl Iterator<Item = Input> + use<> {
        // A disk that does not even answer this will be noticed by the log.
        let disk = rustix::fs::statvfs(&self.folder).ok();
        let said = disk.map(|disk| {
            self.free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let free = self.free.saturating_sub(memory_bytes.saturating_mul(2));
            [self.is_enough(free), self.found(free)]
        });
        said.into_iter().flatten().flatten()
    }

    /// Whether there is little room, when that has changed.
    fn is_enough(&mut self, bytes: u64) -> Option<Input> {
        let low = self.bytes_min.saturating_mul(LOW_TIMES);
        let needed = if self.is_low { low.saturating_mul(AGAIN_PERCENT) / 100 } else { low };
        let is_low = bytes < needed;
        let was_low = std::mem::replace(&mut self.is_low, is_low);
        (was_low != is_low).then_some(Input::Room { is_low })
    }

    fn found(&mut self, bytes: u64) -> Option<Input> {
        let needed = if self.scarce {
            self.bytes_min.saturating_mul(AGAIN_PERCENT) / 100
        } else {
            self.bytes_min
        };
        let was_scarce = std::mem::replace(&mut self.scarce, bytes < needed);
        match (was_scarce, self.scarce) {
            (false, true) => {
                let why = format!(
                    "{} MiB are free on the disk of {}, and {} MiB are to stay free",
                    bytes >> 20,
                    self.folder.display(),
                    self.bytes_min >> 20
                );
                Some(Input::StorageFailed { why, full: true })
            }
            (true, false) => self.recovered(),
            _ => None,
        }
    }

    /// How many bytes were free on the disk at the last look.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// There is room for other things.
    pub(crate) fn is_roomy(&self) -> bool {
        !self.scarce && !self.log_is_full && !self.store_is_full
    }

    /// Whether the state store finds no room, when that has changed.
    pub(crate) fn store_is(&mut self, full: bool) -> Option<Input> {
        let was_full = std::mem::replace(&mut self.store_is_full, full);
        match (was_full, full) {
            (false, true) => {
                let why = "there is no room for the state store".to_owned();
                Some(Input::StorageFailed { why, full: true })
            }
            (true, false) => self.recovered(),
            _ => None,
        }
    }

    pub(crate) fn log_failed(&mut self, why: String, full: bool) -> Input {
        self.log_is_full |= full;
        Input::StorageFailed { why, full }
    }

    pub(crate) fn log_recovered(&mut self) -> Option<Input> {
        self.log_is_full = false;
        self.recovered()
    }

    /// All reasons must be gone.
    fn recovered(&self) -> Option<Input> {
        self.is_roomy().then_some(Input::StorageRecovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        Space::new(PathBuf::from("/"), 100 << 20)
    }

    #[test]
    fn the_node_is_told_once_when_room_is_scarce_and_once_when_there_is_enough() {
        let mut space = space();
        assert!(space.found(100 << 20).is_none());
        match space.found(99 << 20) {
            Some(Input::StorageFailed { why, full: true }) => {
                assert!(why.contains("99 MiB"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert!(space.found(1).is_none());
        assert!(space.found(110 << 20).is_none(), "a little more is not enough");
        assert!(matches!(space.found(125 << 20), Some(Input::StorageRecovered)));
        assert!(space.found(125 << 20).is_none());
    }

    #[test]
    fn the_node_is_told_before_room_is_scarce() {
        let mut space = space();
        assert!(space.is_enough(400 << 20).is_none());
        assert!(matches!(space.is_enough(399 << 20), Some(Input::Room { is_low: true })));
        assert!(space.is_enough(450 << 20).is_none() && space.is_roomy());
        assert!(matches!(space.is_enough(500 << 20), Some(Input::Room { is_low: false })));
        // Where no room is to stay free, there is always enough.
        assert!(Space::new(PathBuf::from("/"), 0).is_enough(0).is_none());
    }

    #[test]
    fn writes_are_taken_again_only_when_the_log_has_room_too() {
        let mut space = space();
        space.found(0);
        space.log_failed("full".into(), true);
        assert!(space.found(u64::MAX).is_none());
        assert!(matches!(space.log_recovered(), Some(Input::StorageRecovered)));
    }

    #[test]
    fn the_store_finds_room_on_its_own() {
        let mut space = space();
        assert!(matches!(space.store_is(true), Some(Input::StorageFailed { full: true, .. })));
        assert!(space.store_is(true).is_none() && !space.is_roomy());
        assert!(matches!(space.store_is(false), Some(Input::StorageRecovered)));
    }
}
