//! The encrypted log: what is on the disk shows nothing, no key stream is used twice, and a key
//! that is missing or another one is told from damage.

use bytes::Bytes;
use protocol::{GroupId, Position, Term};
use storage::{
    DataKey, Disk, Entry, EntryKind, Fate, Log, LogError, LogOptions, LogRecord, MemoryDisk,
    ReadLimits, SALT_BYTES, Sealer,
};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 * 512 };
const GROUP: GroupId = GroupId(1);

fn key(byte: u8) -> DataKey {
    DataKey::new(&[byte; 32])
}

fn sealer(salt: u8) -> Option<Sealer> {
    Some(Sealer::new(key(1), [salt; SALT_BYTES]))
}

fn entry(position: u64, data: &[u8]) -> LogRecord {
    let (position, data) = (Position(position), Bytes::copy_from_slice(data));
    let entry = Entry { position, term: Term(1), kind: EntryKind::Normal, data };
    LogRecord::Entry { group: GROUP, entry }
}

fn all_bytes(disk: &MemoryDisk) -> Vec<u8> {
    disk.files()
        .iter()
        .flat_map(|(name, _)| disk.content(name).expect("it is there").to_vec())
        .collect()
}

#[test]
fn what_is_on_the_disk_shows_nothing_of_what_was_written() {
    let secret = b"a secret that nobody shall read";
    for (sealed, shown) in [(false, true), (true, false)] {
        let sealer = sealer(1).filter(|_| sealed);
        let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer).unwrap();
        for position in 1..=200 {
            log.append(&[entry(position, secret)]).unwrap();
            log.sync().unwrap();
        }
        let bytes = all_bytes(&log.into_disk());
        let is_shown = bytes.windows(16).any(|part| part == &secret[..16]);
        assert_eq!(is_shown, shown);
    }
}

/// Whoever has a copy of the disk from before the torn write was cut, and one from after another
/// frame was written at its place, must not get the difference of the two texts from them.
#[test]
fn what_is_written_over_a_torn_frame_has_another_key() {
    let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer(1)).unwrap();
    log.append(&[entry(1, b"first")]).unwrap();
    log.sync().unwrap();
    // What is torn is the first thing that its process wrote, as what is written over it will be.
    let (mut log, _) = Log::open_with(log.into_disk(), OPTIONS, sealer(3)).unwrap();
    log.append(&[entry(2, &[0; 3000])]).unwrap();
    let mut disk = log.into_disk();
    // All of it arrived but the last sector.
    let sectors = disk.unsynced_sectors();
    let mut index = 0;
    disk.crash(|_, _| {
        index += 1;
        if index < sectors { Fate::Kept } else { Fate::Lost }
    });
    let torn = disk.content("wal-00000001.log").unwrap().to_vec();
    let (mut log, recovered) = Log::open_with(disk, OPTIONS, sealer(2)).unwrap();
    assert!(recovered.torn_bytes > 0);
    log.append(&[entry(2, &[0xff; 3000])]).unwrap();
    log.sync().unwrap();
    let after = log.into_disk().content("wal-00000001.log").unwrap().to_vec();
    let mut compared = 0;
    for (one, other) in torn.chunks(512).zip(after.chunks(512)).skip(3) {
        // A part of both frames in which every byte of the one text is 0 and of the other 255.
        let (one, other) = (&one[100..400], &other[100..400]);
        if one.iter().all(|byte| *byte == 0) || other.iter().all(|byte| *byte == 0) {
            continue;
        }
        compared += 1;
        let differences = one.iter().zip(other).filter(|(one, other)| **one ^ **other == 0xff);
        assert!(differences.count() < 20, "the same key stream was used for both");
    }
    assert!(compared > 3, "only {compared} sectors had both");
}

#[test]
fn two_frames_of_one_process_have_different_nonces() {
    let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer(1)).unwrap();
    for position in 1..=3 {
        // Several sectors each, and alike but for the position.
        log.append(&[entry(position, &[0; 1500])]).unwrap();
        log.sync().unwrap();
    }
    let content = log.into_disk().content("wal-00000001.log").unwrap().to_vec();
    let sectors = content[512..].chunks(512).filter(|sector| sector[0] != 0);
    let bodies: Vec<&[u8]> = sectors.map(|sector| &sector[200..400]).collect();
    assert_eq!(bodies.len(), 12);
    for (number, body) in bodies.iter().enumerate() {
        assert!(!bodies[..number].contains(body), "the same key stream twice");
    }
}

#[test]
fn a_write_of_the_next_process_has_another_key() {
    let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer(1)).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        log.disk_mut().full(false);
        log.append(&[entry(1, &[0; 400])]).unwrap();
        let content = log.disk_mut().content("wal-00000001.log").unwrap().to_vec();
        assert!(seen.insert(content[512 + 60..512 + 400].to_vec()), "the same frame twice");
        // The process ends, and the next one has a salt of its own.
        let salt = u8::try_from(seen.len() + 1).unwrap();
        let mut disk = log.into_disk();
        disk.crash(|_, _| Fate::Lost);
        log = Log::open_with(disk, OPTIONS, sealer(salt)).unwrap().0;
    }
}

#[test]
fn a_missing_key_and_one_too_many_are_told_from_damage_and_touch_nothing() {
    for sealed in [false, true] {
        let ours = sealer(1).filter(|_| sealed);
        let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, ours).unwrap();
        log.append(&[entry(1, b"data")]).unwrap();
        log.sync().unwrap();
        let mut disk = log.into_disk();
        let before = all_bytes(&disk);
        let theirs = sealer(2).filter(|_| !sealed);
        let error = Log::open_with(&mut disk, OPTIONS, theirs).err().expect("it is refused");
        assert!(matches!(error, LogError::Sealed { is_sealed, .. } if is_sealed == sealed));
        assert_eq!(all_bytes(&disk), before);
    }
}

#[test]
fn a_frame_under_another_key_is_not_taken() {
    let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer(1)).unwrap();
    log.append(&[entry(1, b"data")]).unwrap();
    log.sync().unwrap();
    let mut disk = log.into_disk();
    let before = all_bytes(&disk);
    let other = || Some(Sealer::new(key(2), [9; SALT_BYTES]));
    let error = Log::open_with(&mut disk, OPTIONS, other()).err().expect("it is refused");
    assert!(matches!(error, LogError::OtherKey { .. }), "no damage: {error}");
    assert_eq!(all_bytes(&disk), before);
    // A header that does not say which key it is, as they were at first.
    let name = disk.list().unwrap().remove(0);
    let mut content = disk.content(&name).unwrap().to_vec();
    content[44..52].fill(0);
    let sum = crc32fast::hash(&content[..508]);
    content[508..512].copy_from_slice(&sum.to_le_bytes());
    disk.put(&name, content);
    let error = Log::open_with(&mut disk, OPTIONS, other()).err().expect("it is refused");
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("does not know the key"), "{error}");
    assert!(Log::open_with(disk, OPTIONS, sealer(8)).is_ok(), "its own key still opens it");
}

#[test]
fn an_encrypted_log_is_copied_under_another_key_and_stays_the_same_log() {
    let data = |position: u64| vec![u8::try_from(position % 251).unwrap(); 300];
    for (from, to) in [(true, true), (false, true), (true, false)] {
        let ours = sealer(1).filter(|_| from);
        let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, ours).unwrap();
        for position in 1..=300 {
            log.append(&[entry(position, &data(position))]).unwrap();
            log.sync().unwrap();
        }
        log.append(&[LogRecord::Base { group: GROUP, position: Position(50), term: Term(1) }])
            .unwrap();
        log.sync().unwrap();
        let files = log.disk_mut().clone();
        let (mut log, recovered) =
            Log::open_with(files, OPTIONS, sealer(2).filter(|_| from)).unwrap();
        let theirs = || to.then(|| Sealer::new(key(7), [3; SALT_BYTES]));
        let copy = log.copy(&recovered, MemoryDisk::new(), theirs()).unwrap();
        assert_eq!(copy.frames(), log.frames(), "neither an older log nor one that has more");
        let theirs = to.then(|| Sealer::new(key(7), [4; SALT_BYTES]));
        let (mut copy, found) = Log::open_with(copy.into_disk(), OPTIONS, theirs).unwrap();
        assert_eq!(found.frames, recovered.frames);
        let (known, ours) = (&found.groups[&GROUP], &recovered.groups[&GROUP]);
        assert_eq!((known.base, known.last), (ours.base, ours.last));
        assert_eq!((known.term, &known.terms), (ours.term, &ours.terms));
        let disk = copy.disk_mut().clone();
        let read = copy.reader(disk).entries(GROUP, Position(51), Position(301), ReadLimits::NONE);
        let entries = read.unwrap().entries;
        assert_eq!(entries.len(), 250);
        assert!(entries.iter().all(|entry| entry.data == data(entry.position.0)));
        // And it goes on.
        copy.append(&[entry(301, b"more")]).unwrap();
        copy.sync().unwrap();
        assert!(!copy.disk_mut().list().unwrap().is_empty());
    }
}

/// A copy has no more frames than the log had, however many groups there are, and a log without a
/// frame stays one.
#[test]
fn the_copy_of_a_short_log_has_as_many_frames() {
    for groups in [0, 40] {
        let (mut log, _) = Log::open_with(MemoryDisk::new(), OPTIONS, sealer(1)).unwrap();
        let records: Vec<LogRecord> = (1..=groups)
            .map(|group| match entry(1, b"data") {
                LogRecord::Entry { entry, .. } => LogRecord::Entry { group: GroupId(group), entry },
                other => other,
            })
            .collect();
        log.append(&records).unwrap();
        log.sync().unwrap();
        let (mut log, recovered) = Log::open_with(log.into_disk(), OPTIONS, sealer(2)).unwrap();
        let copy = log.copy(&recovered, MemoryDisk::new(), sealer(3)).unwrap().into_disk();
        let (_, found) = Log::open_with(copy, OPTIONS, sealer(4)).unwrap();
        assert_eq!(found.frames, recovered.frames);
        assert_eq!(found.groups, recovered.groups);
    }
}
