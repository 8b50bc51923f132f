//! What a simulated machine writes on: a disk for the log and a store for the state, both of which
//! outlive the process and know what a loss of power would take away.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use protocol::GroupId;
use random::Random;
use storage::{
    Batch, Disk, DiskError, Fate, Files, MemoryDisk, MemoryStore, Reader, Space, StateStore,
    StoreError,
};

/// The unit that a disk keeps or loses, in bytes.
const SECTOR_BYTES: u64 = 512;

/// A handle to a machine's disk. Its process has one, the world has one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Clone, Debug, Default)]
struct Platter {
    disk: MemoryDisk,
    /// When each file was made, as a number that no other file has.
    births: BTreeMap<String, u64>,
    last_birth: u64,
    /// Where frames were written that have been synced since: file, offset, bytes.
    settled: Vec<Extent>,
    unsettled: Vec<Extent>,
}

#[derive(Clone, Debug)]
struct Extent {
    file: String,
    offset: u64,
    bytes: usize,
}

impl SimDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("the simulator has one thread")
    }

    /// The power goes: what was not synced is kept, lost or torn, sector by sector.
    pub fn lose_power(&self, random: &mut Random) {
        // Disks mostly write in order: in half of all cases everything is kept, or everything lost.
        let mood = random.below(4);
        self.platter().disk.crash(|_, _| match mood {
            0 => Fate::Kept,
            1 => Fate::Lost,
            _ => fate(random),
        });
    }

    pub fn fill(&self, full: bool) {
        self.platter().disk.full(full);
    }

    /// After `operations` more operations everything fails, the last of them half done.
    pub fn fail_after(&self, operations: u64) {
        self.platter().disk.fail_after(Some(operations));
    }

    pub fn mend(&self) {
        self.platter().disk.fail_after(None);
    }

    pub fn unsynced_sectors(&self) -> usize {
        self.platter().disk.unsynced_sectors()
    }

    /// All files gone: somebody removed the sandbox.
    pub fn wipe(&self) {
        *self.platter() = Platter::default();
    }

    /// The files as they are.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.platter().clone())))
    }

    /// Files that are copies of those of another disk, in place of all that is here.
    pub fn put_back(&self, copy: &Self) {
        let mut platter = self.platter();
        let mut last_birth = platter.last_birth.max(copy.platter().last_birth);
        *platter = copy.platter().clone();
        for birth in platter.births.values_mut() {
            last_birth += 1;
            *birth = last_birth;
        }
        platter.last_birth = last_birth;
    }

    /// One bit decays in something that was durable, and is not the end of the log: damage there
    /// cannot be told from a write that was under way. False when there is no such thing.
    pub fn decay(&self, random: &mut Random) -> bool {
        let mut platter = self.platter();
        let old = platter.settled.len().saturating_sub(3);
        let inner: Vec<Extent> =
            platter.settled[..old].iter().filter(|extent| extent.bytes > 0).cloned().collect();
        if inner.is_empty() {
            return false;
        }
        let Extent { file, offset, bytes } = random.pick(&inner);
        let within = u64::try_from(random.index(*bytes)).expect("a length fits");
        let bit = u8::try_from(random.below(8)).expect("it is below 8");
        platter.disk.flip(file, offset + within, bit)
    }
}

fn fate(random: &mut Random) -> Fate {
    let bytes = usize::try_from(random.below(SECTOR_BYTES)).expect("a sector is small");
    match random.below(5) {
        0 | 1 => Fate::Kept,
        2 => Fate::Lost,
        3 => Fate::Front(bytes),
        _ => Fate::Back(bytes),
    }
}

impl Files for SimDisk {
    fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        Files::read(&self.platter().disk, name, offset, bytes)
    }
}

impl Disk for SimDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.platter().disk.list()
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let mut platter = self.platter();
        platter.last_birth += 1;
        let birth = platter.last_birth;
        platter.births.insert(name.to_owned(), birth);
        platter.disk.create(name, bytes)
    }

    fn birth(&mut self, name: &str) -> Option<u64> {
        self.platter().births.get(name).copied()
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.platter().disk.size(name)
    }

    fn read(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        Files::read(self, name, offset, bytes)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut platter = self.platter();
        platter.disk.write(name, offset, bytes)?;
        platter.unsettled.push(Extent { file: name.to_owned(), offset, bytes: bytes.len() });
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let mut platter = self.platter();
        platter.disk.sync(name)?;
        let (synced, left) =
            std::mem::take(&mut platter.unsettled).into_iter().partition(|e| e.file == name);
        platter.unsettled = left;
        let mut synced: Vec<Extent> = synced;
        platter.settled.append(&mut synced);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let mut platter = self.platter();
        platter.settled.retain(|extent| extent.file != name);
        platter.disk.remove(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut platter = self.platter();
        platter.settled.retain(|extent| extent.file != to);
        for extent in platter.settled.iter_mut().filter(|extent| extent.file == from) {
            to.clone_into(&mut extent.file);
        }
        platter.disk.rename(from, to)?;
        if let Some(birth) = platter.births.remove(from) {
            platter.births.insert(to.to_owned(), birth);
        }
        Ok(())
    }
}

/// A handle to a machine's state store.
#[derive(Clone, Debug, Default)]
pub struct SimStore(Arc<Mutex<Cabinet>>);

#[derive(Clone, Debug, Default)]
struct Cabinet {
    store: MemoryStore,
    /// Nothing in it can be read any more.
    rotten: bool,
    /// Batches written since the last loss of power.
    written: usize,
    /// How many of them are durable.
    durable: usize,
    /// The groups written to since this was last asked.
    touched: Vec<u32>,
    /// The group whose state was altered.
    altered: Option<GroupId>,
}

/// A family of keys that nobody has: what is there is read by nobody, and belongs to the state.
const STRAY: u8 = 0x7e;

impl SimStore {
    fn cabinet(&self) -> MutexGuard<'_, Cabinet> {
        self.0.lock().expect("the simulator has one thread")
    }

    /// How many batches were written; what a persist that begins now will make durable.
    pub fn written(&self) -> usize {
        self.cabinet().written
    }

    /// Nothing that was written could be lost with the power.
    pub fn is_settled(&self) -> bool {
        let cabinet = self.cabinet();
        cabinet.written == cabinet.durable
    }

    /// A persist that began when `written` batches were written is done.
    pub fn persisted(&self, written: usize) {
        let mut cabinet = self.cabinet();
        cabinet.durable = cabinet.durable.max(written);
    }

    /// The power goes: the store is as it was after some batch at or after the last durable one.
    pub fn lose_power(&self, random: &mut Random) {
        let mut cabinet = self.cabinet();
        let loose = u64::try_from(cabinet.written - cabinet.durable).expect("a count fits");
        let kept = match random.below(3) {
            0 => 0,
            1 => loose,
            _ => random.between(0, loose),
        };
        let kept = cabinet.durable + usize::try_from(kept).expect("it came from a count");
        cabinet.store.crash(kept);
        cabinet.written = 0;
        cabinet.durable = 0;
    }

    pub fn wipe(&self) {
        *self.cabinet() = Cabinet::default();
    }

    /// From now on whoever reads finds damage.
    pub fn rot(&self) {
        self.cabinet().rotten = true;
    }

    /// Whoever reads it finds damage, or will.
    pub fn is_rotten(&self) -> bool {
        self.cabinet().rotten
    }

    /// The state of a group changes, and nothing says so.
    pub fn alter(&self, group: GroupId) -> Result<(), StoreError> {
        let (space, _) = Space::open(self, group)?;
        let mut batch = Batch::default();
        batch.put(space.key(STRAY, b""), b"?");
        let mut cabinet = self.cabinet();
        cabinet.altered = Some(group);
        cabinet.written += 1;
        cabinet.store.write(batch)
    }

    /// The group whose state is still altered.
    pub fn altered(&self) -> Option<GroupId> {
        let group = self.cabinet().altered?;
        let stray =
            Space::open(self, group).and_then(|(space, _)| self.get(&space.key(STRAY, b"")));
        let is_altered = stray.is_ok_and(|stray| stray.is_some());
        if !is_altered {
            self.cabinet().altered = None;
        }
        is_altered.then_some(group)
    }

    /// As it is.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.cabinet().clone())))
    }

    pub fn put_back(&self, copy: &Self) {
        *self.cabinet() = copy.cabinet().clone();
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.cabinet().rotten {
            return Err(StoreError::damaged("a block has a wrong checksum"));
        }
        Ok(())
    }

    /// The groups whose keys were written since this was last asked, in order.
    pub fn take_touched(&self) -> Vec<u32> {
        let mut touched = std::mem::take(&mut self.cabinet().touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

impl Reader for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        self.cabinet().store.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.check()?;
        // Through a view, so that the visitor may look into the store itself.
        let view = self.view();
        view.scan(from, to, reverse, visit)
    }
}

impl StateStore for SimStore {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut cabinet = self.cabinet();
        for (key, _) in &batch.writes {
            if let Some(group) = key.first_chunk::<4>() {
                let group = u32::from_be_bytes(*group);
                if cabinet.touched.last() != Some(&group) {
                    cabinet.touched.push(group);
                }
            }
        }
        cabinet.written += 1;
        cabinet.store.write(batch)
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        self.cabinet().store.view()
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        let mut cabinet = self.cabinet();
        cabinet.durable = cabinet.written;
        Ok(())
    }

    fn persister(&self) -> Box<dyn FnMut() -> Result<(), StoreError> + Send> {
        let mut handle = self.clone();
        Box::new(move || handle.persist())
    }
}
