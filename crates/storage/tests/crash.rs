//! Random histories of the log with crashes, full and failing disks, torn sectors and flipped
//! bits, against a naive model. A failure names its seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use random::Random;
use storage::{
    DataKey, Disk, Entry, EntryKind, Fate, Log, LogError, LogOptions, LogRecord, MemoryDisk,
    ReadLimits, Recovered, SALT_BYTES, Sealer,
};

/// Small, so that segments roll often.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 24 * 512 };
const HISTORIES: u64 = 300;
const STEPS: u64 = 120;

/// Opens a log that is encrypted or is not.
fn open<D: Disk>(disk: D, sealed: bool) -> Result<(Log<D>, Recovered), LogError> {
    static SALTS: AtomicU64 = AtomicU64::new(0);
    let mut salt = [0; SALT_BYTES];
    salt[..8].copy_from_slice(&SALTS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let sealer = sealed.then(|| Sealer::new(DataKey::new(&[3; 32]), salt));
    Log::open_with(disk, OPTIONS, sealer)
}

/// Every second history is that of an encrypted log.
fn is_sealed(seed: u64) -> bool {
    !seed.is_multiple_of(2)
}

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.draw().to_le_bytes()[0]).collect()
}

fn fate(random: &mut Random) -> Fate {
    match random.below(5) {
        0 | 1 => Fate::Kept,
        2 => Fate::Lost,
        3 => Fate::Front(random.index(512)),
        _ => Fate::Back(random.index(512)),
    }
}

/// A group, with its entries.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    term: Term,
    voted_for: ReplicaId,
    commit: Position,
    base: Position,
    base_term: Term,
    entries: Vec<Entry>,
}

/// What the log must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<GroupId, Held>);

impl Model {
    /// What a log holds: what was found at the start, and the entries as they are read back.
    fn of<D: Disk>(log: &mut Log<D>, recovered: Recovered, disk: MemoryDisk) -> Self {
        let reader = log.reader(disk);
        let held = |(group, known): (GroupId, storage::RecoveredGroup)| {
            let (from, end) = (known.base.next(), known.last.next());
            let entries = if from == end {
                Vec::new()
            } else {
                let read = reader.entries(group, from, end, ReadLimits::NONE);
                read.expect("what was found can be read").entries
            };
            let terms = entries.iter().map(|entry| entry.term);
            let runs: Vec<(Position, Term)> = (from.0..).map(Position).zip(terms).collect();
            let runs = runs.chunk_by(|one, other| one.1 == other.1).map(|run| run[0]);
            assert_eq!(runs.collect::<Vec<_>>(), known.terms);
            let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
            assert!(changes.map(|entry| entry.position).eq(known.memberships.iter().copied()));
            let held = Held {
                term: known.term,
                voted_for: known.voted_for,
                commit: known.commit,
                base: known.base,
                base_term: known.base_term,
                entries,
            };
            (group, held)
        };
        Self(recovered.groups.into_iter().map(held).collect())
    }

    fn apply(&mut self, record: &LogRecord) {
        match record {
            LogRecord::Entry { group, entry } => {
                let group = self.0.entry(*group).or_default();
                group.entries.retain(|known| known.position < entry.position);
                group.entries.push(entry.clone());
            }
            LogRecord::Vote { group, term, voted_for, commit } => {
                let group = self.0.entry(*group).or_default();
                (group.term, group.voted_for, group.commit) = (*term, *voted_for, *commit);
            }
            LogRecord::Base { group, position, term } => {
                let group = self.0.entry(*group).or_default();
                if *position <= group.base {
                    return;
                }
                let there = group.entries.iter().find(|known| known.position == *position);
                if there.is_some_and(|there| there.term == *term) {
                    group.entries.retain(|known| known.position > *position);
                } else {
                    group.entries.clear();
                }
                (group.base, group.base_term) = (*position, *term);
            }
            LogRecord::Owner(_) | LogRecord::Witness { .. } => {}
        }
    }

    /// Some records that may come next; applies them.
    fn extend(&mut self, random: &mut Random) -> Vec<LogRecord> {
        let count = 1 + random.below(6);
        let mut records = Vec::new();
        for _ in 0..count {
            // One of the groups is idle nearly always, and hardly ever raises its base.
            let idle = random.one_in(60);
            let group = if idle { 3 } else { u32::try_from(random.below(3)).expect("fits") };
            let group = GroupId(group);
            let known = self.0.get(&group).cloned().unwrap_or_default();
            let first = known.base.0 + 1;
            let last = known.entries.last().map_or(known.base, |entry| entry.position).0;
            let term = Term(1 + random.below(4));
            let record = match if idle { 3 + random.below(7) } else { random.below(10) } {
                0 => LogRecord::Vote {
                    group,
                    term,
                    voted_for: ReplicaId(random.draw()),
                    commit: known.base,
                },
                1 => LogRecord::Base { group, position: Position(random.below(last + 3)), term },
                2 | 3 if !idle || random.one_in(9) => {
                    match known.entries.get(random.index(known.entries.len() + 1)) {
                        Some(Entry { position, term, .. }) => {
                            LogRecord::Base { group, position: *position, term: *term }
                        }
                        None => LogRecord::Base { group, position: known.base, term },
                    }
                }
                kind => {
                    let replaced = kind == 4 && last >= first;
                    let next =
                        if replaced { first + random.below(last + 1 - first) } else { last + 1 };
                    let length =
                        if random.one_in(8) { random.index(4000) } else { random.index(60) };
                    let data = match random.below(3) {
                        0 => vec![0; length],
                        _ => bytes(random, length),
                    };
                    let change = random.one_in(9);
                    let kind = if change { EntryKind::Membership } else { EntryKind::Normal };
                    let entry =
                        Entry { position: Position(next), term, kind, data: Bytes::from(data) };
                    LogRecord::Entry { group, entry }
                }
            };
            self.apply(&record);
            records.push(record);
        }
        records
    }
}

/// A log, what it must hold, and what it may hold instead after a crash.
struct History {
    sealed: bool,
    random: Random,
    log: Option<Log<MemoryDisk>>,
    durable: Model,
    /// After an append that was not synced, or refused.
    doubtful: Vec<Model>,
    crashes: u64,
    /// How many entries were moved.
    moved: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let sealed = is_sealed(seed);
        let (log, _) = open(MemoryDisk::new(), sealed).expect("an empty disk is fine");
        Self {
            sealed,
            random: Random::of_seed(seed),
            log: Some(log),
            durable: Model::default(),
            doubtful: Vec::new(),
            crashes: 0,
            moved: 0,
        }
    }

    fn log(&mut self) -> &mut Log<MemoryDisk> {
        self.log.as_mut().expect("it is only away during a crash")
    }

    fn step(&mut self) {
        let outcome = match self.random.below(40) {
            0 => self.log().prepare(),
            1 => self.make_ahead(),
            2 => {
                let operations = 1 + self.random.below(8);
                self.log().disk_mut().fail_after(Some(operations));
                Ok(())
            }
            3 => {
                let full = self.random.one_in(2);
                self.log().disk_mut().full(full);
                Ok(())
            }
            4 => {
                self.crash();
                Ok(())
            }
            5 => {
                self.restart();
                Ok(())
            }
            6 => {
                self.read_some();
                Ok(())
            }
            7 => self.log().tidy().map(drop),
            _ => self.append(),
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_full() => self.log().disk_mut().full(false),
            Err(_) => self.crash(),
        }
    }

    fn append(&mut self) -> Result<(), LogError> {
        let mut next = self.durable.clone();
        let records = next.extend(&mut self.random);
        self.doubtful.push(next.clone());
        self.log().append(&records)?;
        if self.random.one_in(20) {
            self.crash();
            return Ok(());
        }
        if self.random.one_in(20) {
            self.restart();
            return Ok(());
        }
        if self.random.one_in(10) {
            self.log().disk_mut().full(true);
        }
        match self.log().sync() {
            Err(error) if error.is_full() => {
                self.log().disk_mut().full(false);
                if self.random.one_in(3) {
                    self.restart();
                    return Ok(());
                }
                self.log().sync()?;
            }
            synced => synced?,
        }
        self.durable = next;
        self.doubtful.clear();
        self.check_size();
        Ok(())
    }

    /// The files take at most twice what is needed, and a few segments.
    fn check_size(&mut self) {
        let (live, (_, bytes)) = (self.log().live_bytes(), self.log().size());
        let most = 2 * live + 7 * OPTIONS.segment_bytes;
        assert!(bytes <= most, "{bytes} bytes for {live} that are needed");
    }

    /// Any part of what is durable can be read back.
    fn read_some(&mut self) {
        let group = GroupId(u32::try_from(self.random.below(4)).expect("fits"));
        let held = self.durable.0.get(&group).cloned().unwrap_or_default();
        if held.entries.is_empty() {
            return;
        }
        let first = self.random.index(held.entries.len());
        let count = 1 + self.random.index(held.entries.len() - first);
        let expected = &held.entries[first..first + count];
        let (from, end) = (expected[0].position, expected[count - 1].position.next());
        let limits = if self.random.one_in(2) {
            ReadLimits::NONE
        } else {
            let bytes = self.random.index(2000);
            ReadLimits { data_bytes: bytes, file_bytes: 1 << 20 }
        };
        let disk = self.log().disk_mut().clone();
        let read = self.log().reader(disk).entries(group, from, end, limits);
        let entries = read.expect("it is durable").entries;
        assert!(!entries.is_empty() && entries[..] == expected[..entries.len()]);
        let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
        assert!(entries.len() == count || bytes >= limits.data_bytes, "it stopped for no reason");
    }

    fn make_ahead(&mut self) -> Result<(), LogError> {
        let Some(next) = self.log().wanted() else { return Ok(()) };
        next.make(self.log().disk_mut(), false)?;
        self.log().adopt(next)
    }

    /// The process ends, and the machine does not: what was written is there, durable or not.
    fn restart(&mut self) {
        let log = self.log.take().expect("it is only away here");
        self.moved += log.moved_entries();
        let mut disk = log.into_disk();
        disk.full(false);
        disk.fail_after(None);
        let (mut log, recovered) = open(disk, self.sealed).expect("nothing was lost");
        let disk = log.disk_mut().clone();
        let found = Model::of(&mut log, recovered, disk);
        assert!(found == self.durable || self.doubtful.contains(&found), "after a restart");
        // Whoever opened it may act on what he saw: from now on it must stay.
        self.durable = found;
        self.doubtful.clear();
        self.log = Some(log);
    }

    /// The power goes, perhaps again while the log is being opened.
    fn crash(&mut self) {
        let log = self.log.take().expect("it is only away here");
        self.moved += log.moved_entries();
        let mut disk = log.into_disk();
        disk.full(false);
        self.crashes += 1;
        loop {
            disk.crash(|_, _| fate(&mut self.random));
            let dies = self.random.one_in(3);
            disk.fail_after(dies.then(|| 1 + self.random.below(3)));
            match open(&mut disk, self.sealed) {
                Err(LogError::Disk(_)) if dies => {}
                Err(error) => panic!("after crash {}: {error}", self.crashes),
                Ok((mut log, recovered)) => {
                    let copy = MemoryDisk::clone(log.disk_mut());
                    let found = Model::of(&mut log, recovered, copy);
                    assert!(
                        found == self.durable || self.doubtful.contains(&found),
                        "after crash {}: {found:?} is neither {:?} nor one of {:?}",
                        self.crashes,
                        self.durable,
                        self.doubtful
                    );
                    self.durable = found;
                    self.doubtful.clear();
                    break;
                }
            }
        }
        disk.fail_after(None);
        let (mut log, recovered) = open(disk, self.sealed).expect("it was sound a moment ago");
        assert_eq!(recovered.torn_bytes, 0, "what was cut stays cut");
        let disk = log.disk_mut().clone();
        assert_eq!(Model::of(&mut log, recovered, disk), self.durable, "the same again");
        self.log = Some(log);
    }

    /// A history without crashes; its disk holds `durable`, all synced.
    fn written(seed: u64, appends: u64) -> (MemoryDisk, Model, Random) {
        let mut history = Self::new(seed);
        for _ in 0..appends {
            let mut next = history.durable.clone();
            let records = next.extend(&mut history.random);
            history.log().append(&records).expect("the disk takes it");
            history.log().sync().expect("the disk takes it");
            history.durable = next;
        }
        if history.random.one_in(2) {
            history.log().prepare().expect("the disk takes it");
        }
        let log = history.log.take().expect("it was made at the start");
        (log.into_disk(), history.durable, history.random)
    }
}

#[test]
fn after_any_crash_there_is_what_was_synced() {
    let (mut crashes, mut moved, mut steps) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let result = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..STEPS {
                history.step();
            }
            history.crash();
            (history.crashes, history.moved)
        });
        match result {
            Ok((fell, more)) => (crashes, moved) = (crashes + fell, moved + more),
            Err(_) => panic!("seed {seed}"),
        }
        steps += STEPS;
    }
    assert!(moved > 500, "only {moved} entries moved in {steps} steps");
    assert!(crashes > steps / 20, "only {crashes} crashes in {steps} steps: this tests too little");
}

#[test]
fn any_part_of_the_last_frame_is_torn_and_never_corrupt() {
    let group = GroupId(1);
    let entry = |position: u64, byte: u8, bytes: usize| LogRecord::Entry {
        group,
        entry: Entry {
            position: Position(position),
            term: Term(1),
            kind: EntryKind::Normal,
            data: Bytes::from(vec![byte; bytes]),
        },
    };
    for (byte, sealed) in [(0, false), (7, false), (0, true), (7, true)] {
        let (mut log, _) = open(MemoryDisk::new(), sealed).unwrap();
        log.append(&[entry(1, byte, 600)]).unwrap();
        log.sync().unwrap();
        log.append(&[entry(2, byte, 4000)]).unwrap();
        let disk = log.into_disk();
        let sectors = disk.unsynced_sectors();
        assert_eq!(sectors, if sealed { 9 } else { 8 });
        for subset in 0..1_u32 << sectors {
            let mut disk = disk.clone();
            let mut index = 0;
            disk.crash(|_, _| {
                index += 1;
                if subset >> (index - 1) & 1 == 1 { Fate::Kept } else { Fate::Lost }
            });
            let (_, recovered) = open(&mut disk, sealed).unwrap();
            let whole = subset + 1 == 1 << sectors;
            assert_eq!(recovered.groups[&group].last, Position(if whole { 2 } else { 1 }));
            let torn = if whole { 0 } else { 512 * u64::from(u32::BITS - subset.leading_zeros()) };
            assert_eq!(recovered.torn_bytes, torn, "subset {subset:b}");
        }
    }
}

#[test]
fn a_flipped_bit_is_told_or_does_no_harm() {
    let (mut told, mut harmless) = (0, 0);
    for seed in 0..60 {
        let (disk, durable, mut random) = History::written(seed, 1 + seed % 30);
        let files = disk.files();
        for _ in 0..60 {
            let mut disk = disk.clone();
            let (name, bytes) = &files[random.index(files.len())];
            // Nearer to the beginning more often: most of a segment may be empty.
            let end = if random.one_in(2) { *bytes } else { (*bytes).min(4096) };
            let (offset, bit) = (random.below(end), u8::try_from(random.below(8)).unwrap());
            assert!(disk.flip(name, offset, bit));
            match open(disk, is_sealed(seed)) {
                Err(LogError::Corrupt { .. }) => told += 1,
                Err(other) => panic!("seed {seed} {name} {offset}.{bit}: {other}"),
                Ok((mut log, recovered)) => {
                    let disk = log.disk_mut().clone();
                    assert_eq!(
                        Model::of(&mut log, recovered, disk),
                        durable,
                        "seed {seed} {name} {offset}.{bit}"
                    );
                    harmless += 1;
                }
            }
        }
    }
    assert!(told > harmless, "{told} told, {harmless} harmless");
}

#[test]
fn a_flipped_bit_in_the_very_last_frame_is_corruption() {
    for seed in 0..30 {
        let (disk, _, _) = History::written(seed, 1 + seed % 30);
        let (name, content) = disk
            .files()
            .into_iter()
            .rev()
            .map(|(name, _)| (name.clone(), disk.content(&name).unwrap()))
            .find(|(_, content)| content[512..].iter().any(|byte| *byte != 0))
            .unwrap();
        let last = content.iter().rposition(|byte| *byte != 0).unwrap();
        for offset in last - 511..=last {
            let mut disk = disk.clone();
            assert!(disk.flip(&name, u64::try_from(offset).unwrap(), 5));
            let opened = open(disk, is_sealed(seed)).map(|(_, recovered)| recovered);
            assert!(
                matches!(opened, Err(LogError::Corrupt { .. })),
                "seed {seed}, {name} {offset}"
            );
        }
    }
}

#[test]
fn an_erased_sector_before_the_last_frame_is_corruption() {
    let mut told = 0;
    for seed in 0..40 {
        let appends = 1 + seed;
        let (disk, durable, _) = History::written(seed, appends);
        let (_, former, _) = History::written(seed, appends - 1);
        for (name, bytes) in disk.files() {
            for sector in 0..usize::try_from(bytes / 512).unwrap() {
                let mut content = disk.content(&name).unwrap().to_vec();
                content[sector * 512..][..512].fill(0);
                let mut disk = disk.clone();
                disk.put(&name, content);
                match open(disk, is_sealed(seed)) {
                    Err(LogError::Corrupt { .. }) => told += 1,
                    Err(other) => panic!("seed {seed} {name} {sector}: {other}"),
                    Ok((mut log, recovered)) => {
                        // The last frame may well be torn; anything else must be noticed.
                        let disk = log.disk_mut().clone();
                        let found = Model::of(&mut log, recovered, disk);
                        assert!(found == durable || found == former, "seed {seed} {name} {sector}");
                    }
                }
            }
        }
    }
    assert!(told > 500, "only {told} sectors");
}

#[test]
fn any_bytes_at_all_give_an_answer_and_never_a_panic() {
    let mut opened = 0;
    for seed in 0..400 {
        let (mut disk, _, mut random) = History::written(seed, 1 + seed % 40);
        let names: Vec<String> = disk.files().into_iter().map(|(name, _)| name).collect();
        for _ in 0..=random.below(3) {
            let name = &names[random.index(names.len())];
            let Some(content) = disk.content(name) else { continue };
            let mut content = content.to_vec();
            match random.below(6) {
                0 => content.truncate(random.index(content.len() + 1)),
                1 => {
                    let more = random.index(2000);
                    content.extend(bytes(&mut random, more));
                }
                2 => {
                    let length = random.index(3000);
                    content = bytes(&mut random, length);
                }
                kind => {
                    let at = random.index(content.len() + 1);
                    let length = random.index(2000).min(content.len() - at);
                    let bytes =
                        if kind == 3 { vec![0; length] } else { bytes(&mut random, length) };
                    content[at..at + length].copy_from_slice(&bytes);
                }
            }
            if random.one_in(6) {
                disk.remove(name).unwrap();
            } else if random.one_in(6) {
                disk.put("wal-18446744073709551615.log", content);
            } else {
                disk.put(name, content);
            }
        }
        opened += u64::from(open(disk, is_sealed(seed)).is_ok());
    }
    assert!(opened < 200, "{opened} of 400 logs were opened in spite of it");
}
