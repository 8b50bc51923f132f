//! The log, told step by step: what is written is there after a start, and old segments go.

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{
    Disk, Entry, EntryKind, Fate, Log, LogError, LogOptions, LogOwner, LogRecord, MemoryDisk,
    ReadLimits, Recovered, Witness,
};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 16 * 512 };
const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

fn entry(group: GroupId, position: u64, term: u64) -> LogRecord {
    sized_entry(group, position, term, 10)
}

fn sized_entry(group: GroupId, position: u64, term: u64, bytes: usize) -> LogRecord {
    let byte = u8::try_from(position % 251).expect("less than 251");
    let entry = Entry {
        position: Position(position),
        term: Term(term),
        kind: if position.is_multiple_of(7) { EntryKind::Membership } else { EntryKind::Normal },
        data: Bytes::from(vec![byte; bytes]),
    };
    LogRecord::Entry { group, entry }
}

fn base(group: GroupId, position: u64, term: u64) -> LogRecord {
    LogRecord::Base { group, position: Position(position), term: Term(term) }
}

fn vote(group: GroupId, term: u64) -> LogRecord {
    LogRecord::Vote {
        group,
        term: Term(term),
        voted_for: ReplicaId(u64::MAX - term),
        commit: Position(term),
    }
}

fn write(log: &mut Log<MemoryDisk>, records: &[LogRecord]) {
    log.append(records).expect("the disk takes it");
    log.sync().expect("the disk takes it");
}

fn open(disk: MemoryDisk) -> (Log<MemoryDisk>, Recovered) {
    let (mut log, recovered) = Log::open(disk, OPTIONS).expect("the log is sound");
    for (group, known) in &recovered.groups {
        let entries = entries(&mut log, *group, known.base.0 + 1, known.last.0 + 1);
        let terms: Vec<u64> = entries.iter().map(|entry| entry.term.0).collect();
        assert_eq!(terms, shape(&recovered, *group).1, "what is read is what was found");
        let memberships = entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
        let memberships: Vec<Position> = memberships.map(|entry| entry.position).collect();
        assert_eq!(memberships, known.memberships);
    }
    (log, recovered)
}

/// The entries of a group from one position to before another, as they are read back.
fn entries(log: &mut Log<MemoryDisk>, group: GroupId, from: u64, end: u64) -> Vec<Entry> {
    if from == end {
        return Vec::new();
    }
    let disk = log.disk_mut().clone();
    let (from, end) = (Position(from), Position(end));
    let read = log.reader(disk).entries(group, from, end, ReadLimits::NONE);
    let entries = read.expect("the log is sound").entries;
    for (entry, position) in entries.iter().zip(from.0..) {
        assert_eq!(entry.position.0, position, "positions without gaps");
        let byte = u8::try_from(position % 251).expect("less than 251");
        assert!(entry.data.iter().all(|other| *other == byte), "the data of {position}");
    }
    assert_eq!(entries.len(), usize::try_from(end.0 - from.0).expect("few entries"));
    entries
}

fn reopen(log: Log<MemoryDisk>) -> (Log<MemoryDisk>, Recovered) {
    let mut disk = log.into_disk();
    disk.crash(|_, _| Fate::Lost);
    open(disk)
}

/// The base and the terms of the entries after it.
fn shape(recovered: &Recovered, group: GroupId) -> (u64, Vec<u64>) {
    let group = &recovered.groups[&group];
    let term = |position: u64| {
        let runs = group.terms.iter().rev();
        let run = runs.clone().find(|(from, _)| from.0 <= position);
        run.expect("the first run begins after the base").1.0
    };
    (group.base.0, (group.base.0 + 1..=group.last.0).map(term).collect())
}

fn files(log: &mut Log<MemoryDisk>) -> Vec<String> {
    log.disk_mut().list().expect("a disk in memory can be listed")
}

#[test]
fn what_was_synced_is_there_after_a_crash() {
    let (mut log, recovered) = open(MemoryDisk::new());
    assert_eq!(recovered, Recovered::default());
    write(&mut log, &[vote(A, 3), entry(A, 1, 2), sized_entry(A, 2, 3, 2000), entry(B, 1, 1)]);
    write(&mut log, &[entry(A, 3, 3)]);
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![2, 3, 3]));
    assert_eq!(shape(&recovered, B), (0, vec![1]));
    let group = &recovered.groups[&A];
    assert_eq!((group.term, group.commit), (Term(3), Position(3)));
    assert_eq!(group.voted_for, ReplicaId(u64::MAX - 3));
    assert_eq!(entries(&mut log, A, 2, 3)[0].data, vec![2; 2000]);
    assert_eq!(recovered.torn_bytes, 0);
}

#[test]
fn an_entry_in_conflict_replaces_the_tail() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), entry(A, 2, 1), entry(A, 3, 1)]);
    write(&mut log, &[entry(A, 2, 2)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1, 2]));
}

#[test]
fn a_base_drops_what_is_below_it() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), entry(A, 2, 1), entry(A, 3, 2), base(A, 2, 1)]);
    write(&mut log, &[base(A, 1, 1)]);
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (2, vec![2]));
    assert_eq!(recovered.groups[&A].base_term, Term(1));
    write(&mut log, &[base(A, 3, 2), entry(A, 4, 2)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (3, vec![2]));
}

#[test]
fn a_base_beyond_the_end_begins_anew_there() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), base(A, 100, 5), entry(A, 101, 6)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (100, vec![6]));
}

#[test]
fn a_base_of_another_term_than_the_entry_there_forgets_all_entries() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), entry(A, 2, 1), entry(A, 3, 1)]);
    write(&mut log, &[base(A, 2, 7)]);
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (2, vec![]));
    write(&mut log, &[entry(A, 3, 7)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (2, vec![7]));
}

#[test]
fn segments_roll_and_go_when_the_bases_have_passed_them() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[vote(A, 1), vote(B, 9), entry(B, 1, 9)]);
    for position in 1..=45 {
        write(&mut log, &[entry(A, position, 1)]);
    }
    assert_eq!(files(&mut log).len(), 4);
    assert_eq!(log.pinning(), vec![A, B]);
    write(&mut log, &[base(A, 43, 1)]);
    write(&mut log, &[vote(A, 2)]);
    assert_eq!(files(&mut log).len(), 4, "B still needs the first");
    assert_eq!(log.pinning(), vec![B]);
    write(&mut log, &[base(B, 1, 9)]);
    write(&mut log, &[vote(A, 3)]);
    assert_eq!(files(&mut log), ["wal-00000004.log"]);
    assert_eq!(log.pinning(), vec![]);
    assert_eq!(log.size(), (1, 16 * 512));
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (43, vec![1, 1]));
    assert_eq!(shape(&recovered, B), (1, vec![]));
    assert_eq!(recovered.groups[&B].term, Term(9), "a quiet group's vote was restated");
    write(&mut log, &[entry(A, 46, 3), entry(B, 2, 9)]);
}

#[test]
fn replaced_entries_do_not_keep_a_segment() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), entry(A, 2, 1), entry(A, 3, 1)]);
    while files(&mut log).len() < 2 {
        write(&mut log, &[vote(B, 1)]);
    }
    write(&mut log, &[entry(A, 2, 2), base(A, 1, 1)]);
    write(&mut log, &[vote(B, 1)]);
    assert_eq!(files(&mut log), ["wal-00000002.log"]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (1, vec![2]));
}

#[test]
fn forgotten_entries_do_not_keep_a_segment() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), entry(A, 2, 1), entry(A, 3, 1)]);
    while files(&mut log).len() < 2 {
        write(&mut log, &[vote(B, 1)]);
    }
    write(&mut log, &[base(A, 2, 7)]);
    write(&mut log, &[vote(B, 1)]);
    assert_eq!(files(&mut log), ["wal-00000002.log"]);
}

#[test]
fn only_the_first_frame_of_a_segment_restates() {
    let (mut log, _) = open(MemoryDisk::new());
    let votes: Vec<LogRecord> = (0..100).map(|group| vote(GroupId(group), 1)).collect();
    write(&mut log, &votes);
    for _ in 0..5 {
        write(&mut log, &[vote(A, 2)]);
    }
    assert_eq!(files(&mut log), ["wal-00000001.log"]);
}

#[test]
fn an_append_longer_than_a_segment_gets_a_longer_segment() {
    let (mut log, _) = open(MemoryDisk::new());
    log.prepare().unwrap();
    write(&mut log, &[sized_entry(A, 1, 1, 100_000)]);
    write(&mut log, &[entry(A, 2, 1)]);
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1, 1]));
    assert_eq!(entries(&mut log, A, 1, 2)[0].data.len(), 100_000);
}

#[test]
fn a_segment_made_ahead_is_used_here_and_after_a_start() {
    let (mut log, _) = open(MemoryDisk::new());
    log.prepare().unwrap();
    log.prepare().unwrap();
    assert_eq!(files(&mut log), ["wal-00000001.log", "wal-00000002.log"]);
    assert_eq!(log.wanted(), None);
    let (mut log, _) = reopen(log);
    assert_eq!(log.wanted(), None);
    for position in 1..=20 {
        write(&mut log, &[entry(A, position, 1)]);
    }
    assert_eq!(files(&mut log), ["wal-00000001.log", "wal-00000002.log"]);
    let next = log.wanted().unwrap();
    next.make(log.disk_mut(), false).unwrap();
    log.adopt(next).unwrap();
    next.make(log.disk_mut(), true).unwrap();
    log.adopt(next).unwrap();
    assert_eq!(files(&mut log), ["wal-00000001.log", "wal-00000002.log", "wal-00000003.log"]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A).1.len(), 20);
}

#[test]
fn zeros_are_not_worth_their_while_when_appends_are_long() {
    let (mut log, _) = open(MemoryDisk::new());
    let mut position = 0;
    let mut write_some = |log: &mut _, bytes| {
        for _ in 0..100 {
            position += 1;
            write(log, &[sized_entry(A, position, 1, bytes)]);
        }
    };
    write_some(&mut log, 4 << 10);
    assert!(!log.appends_are_long());
    write_some(&mut log, 400 << 10);
    assert!(log.appends_are_long());
    write_some(&mut log, 4 << 10);
    assert!(!log.appends_are_long(), "what was long ago does not count");
}

#[test]
fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1)]);
    log.disk_mut().full(true);
    assert!(log.append(&[sized_entry(A, 2, 1, 3000), vote(B, 1)]).unwrap_err().is_full());
    assert!(log.append(&[entry(A, 2, 1)]).unwrap_err().is_full());
    log.disk_mut().full(false);
    write(&mut log, &[entry(A, 2, 3)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1, 3]));
    assert!(!recovered.groups.contains_key(&B), "the refused records are forgotten");
    assert_eq!(recovered.torn_bytes, 0);
}

/// The system may have forgotten what it could not write, and a second sync then says that all is
/// well.
#[test]
fn a_frame_whose_sync_was_refused_is_written_again() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1)]);
    log.append(&[entry(A, 2, 1)]).unwrap();
    log.disk_mut().full(true);
    assert!(log.sync().unwrap_err().is_full());
    log.disk_mut().full(false);
    log.sync().unwrap();
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1, 1]));
}

#[test]
fn a_disk_that_is_full_at_a_roll_refuses_and_goes_on_later() {
    let (mut log, _) = open(MemoryDisk::new());
    let mut position = 0;
    while files(&mut log).len() < 2 {
        log.disk_mut().full(position >= 14);
        let written = log.append(&[entry(A, position + 1, 1)]);
        if written.is_ok() {
            log.sync().unwrap();
            position += 1;
        } else {
            assert_eq!(position, 14);
            log.disk_mut().full(false);
            write(&mut log, &[entry(A, position + 1, 1)]);
            position += 1;
        }
    }
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1; 15]));
}

#[test]
fn after_a_failure_the_log_says_so_until_it_is_opened_anew() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1)]);
    log.append(&[entry(A, 2, 1)]).unwrap();
    log.disk_mut().fail(true);
    assert!(log.sync().is_err());
    log.disk_mut().fail(false);
    assert!(log.sync().is_err());
    assert!(log.append(&[vote(A, 1)]).is_err());
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1]));
    write(&mut log, &[entry(A, 2, 1)]);
}

#[test]
fn a_missing_segment_is_noticed() {
    for missing in 1..=3 {
        let (mut log, _) = open(MemoryDisk::new());
        for position in 1..=30 {
            write(&mut log, &[entry(A, position, 1)]);
        }
        let mut disk = log.into_disk();
        assert_eq!(disk.list().unwrap().len(), 3);
        let name = format!("wal-{missing:08}.log");
        disk.remove(&name).unwrap();
        let Err(LogError::Corrupt { segment, .. }) = Log::open(disk, OPTIONS) else {
            panic!("{name} is missing, and nobody noticed");
        };
        assert_eq!(segment, name);
    }
}

#[test]
fn a_removed_segment_that_came_back_is_removed_again() {
    let (mut log, _) = open(MemoryDisk::new());
    let mut first = None;
    for position in 1..=45 {
        write(&mut log, &[entry(A, position, 1), base(A, position, 1)]);
        let kept = log.disk_mut().content("wal-00000001.log").map(<[u8]>::to_vec);
        first = kept.or(first);
    }
    let mut disk = log.into_disk();
    assert_eq!(disk.list().unwrap(), ["wal-00000004.log"]);
    disk.put("wal-00000001.log", first.unwrap());
    disk.put("wal-00000005.new", vec![0; 7]);
    disk.put("wal-00000005.tmp", vec![0; 7]);
    disk.put("something else", vec![0; 7]);
    let (mut log, recovered) = open(disk);
    assert_eq!(shape(&recovered, A), (45, vec![]));
    assert_eq!(files(&mut log), ["something else", "wal-00000004.log"]);
}

#[test]
#[should_panic(expected = "an entry of group 1 at 3")]
fn a_gap_is_a_mistake_of_the_caller() {
    let (mut log, _) = open(MemoryDisk::new());
    let _panics_before = log.append(&[entry(A, 1, 1), entry(A, 3, 1)]);
}

#[test]
fn an_idle_group_does_not_keep_the_segments_of_others() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(B, 1, 9), entry(B, 2, 9), sized_entry(B, 3, 9, 900)]);
    let mut most = 0;
    for position in 1..=500 {
        write(&mut log, &[entry(A, position, 1), base(A, position, 1)]);
        most = most.max(log.size().1);
    }
    let live = log.live_bytes();
    assert!(live < 3 * 512, "{live} bytes are needed");
    assert!(most <= 2 * live + 6 * OPTIONS.segment_bytes, "{most} bytes");
    assert_eq!(log.moved_entries() % 3, 0, "all three are moved at a time");
    assert!(log.moved_entries() > 3, "the copies are moved again");
    assert_eq!(entries(&mut log, B, 1, 4).len(), 3);
    let (mut log, recovered) = reopen(log);
    assert_eq!(shape(&recovered, B), (0, vec![9, 9, 9]));
    assert_eq!(shape(&recovered, A), (500, vec![]));
    write(&mut log, &[entry(B, 4, 10), base(B, 2, 9)]);
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, B), (2, vec![9, 10]));
}

#[test]
fn what_was_moved_can_be_replaced_and_forgotten() {
    let (mut log, _) = open(MemoryDisk::new());
    for position in 1..=6 {
        write(&mut log, &[entry(B, position, 9)]);
    }
    for position in 1..=200 {
        write(&mut log, &[entry(A, position, 1), base(A, position, 1)]);
    }
    assert!(log.moved_entries() > 0);
    write(&mut log, &[entry(B, 4, 10), base(B, 2, 9)]);
    for position in 201..=400 {
        write(&mut log, &[entry(A, position, 1), base(A, position, 1)]);
    }
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, B), (2, vec![9, 10]));
}

#[test]
fn a_log_at_rest_is_tidied_until_nothing_is_wasted() {
    let (mut log, _) = open(MemoryDisk::new());
    for group in 10..20 {
        write(&mut log, &[entry(GroupId(group), 1, 1)]);
        for position in 1..=10 {
            write(&mut log, &[entry(GroupId(group + 100), position, 1)]);
        }
    }
    let before = log.size().0;
    write(&mut log, &(110..120).map(|group| base(GroupId(group), 10, 1)).collect::<Vec<_>>());
    let mut rounds = 0;
    while log.tidy().expect("the disk takes it") {
        rounds += 1;
        assert!(rounds < 20, "it comes to an end");
    }
    assert!(before > 6 && log.size().0 <= 5, "{before} segments, then {}", log.size().0);
    let (_, recovered) = reopen(log);
    assert!((10..20).all(|group| shape(&recovered, GroupId(group)) == (0, vec![1])));
}

#[test]
fn damage_is_told_when_it_is_read_back_and_nothing_wrong_is_read() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(A, 1, 1), sized_entry(A, 2, 1, 1500), entry(B, 1, 1), entry(A, 3, 1)]);
    let expected = entries(&mut log, A, 1, 4);
    let disk = log.disk_mut().clone();
    let frame = 512..512 + 4 * 512;
    for offset in frame.clone() {
        let mut disk = disk.clone();
        assert!(disk.flip("wal-00000001.log", offset, 3));
        let reader = log.reader(disk);
        let read = reader.entries(A, Position(1), Position(4), ReadLimits::NONE);
        assert!(matches!(read, Err(LogError::Corrupt { .. })), "a flipped bit at {offset}");
        // What lies before the damage is good, and can be read alone.
        for (entry, position) in expected.iter().zip(1..) {
            let (from, end) = (Position(position), Position(position + 1));
            if let Ok(read) = reader.entries(A, from, end, ReadLimits::NONE) {
                assert_eq!(read.entries, std::slice::from_ref(entry));
            }
        }
    }
    // A sector of another place, and a file that is not there.
    let mut content = disk.content("wal-00000001.log").unwrap().to_vec();
    content.copy_within(512..1024, 1024);
    let mut other = disk.clone();
    other.put("wal-00000001.log", content);
    assert!(log.reader(other).entries(A, Position(1), Position(4), ReadLimits::NONE).is_err());
    let nothing = log.reader(MemoryDisk::new());
    assert!(nothing.entries(A, Position(1), Position(4), ReadLimits::NONE).is_err());
    assert!(
        nothing.entries(A, Position(4), Position(5), ReadLimits::NONE).is_err(),
        "no such entry"
    );
}

#[test]
fn damage_that_is_met_when_entries_are_moved_stops_the_log() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[entry(B, 1, 9)]);
    assert!(log.disk_mut().flip("wal-00000001.log", 600, 3));
    let mut position = 0;
    let error = loop {
        position += 1;
        match log.append(&[entry(A, position, 1), base(A, position, 1)]).and_then(|()| log.sync()) {
            Ok(()) => assert!(position < 500, "B is moved before this"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    assert_eq!(log.sync(), Err(error));
}

#[test]
fn a_read_stops_at_its_limits() {
    let (mut log, _) = open(MemoryDisk::new());
    for position in 1..=20 {
        write(&mut log, &[sized_entry(A, position, 1, 100), sized_entry(B, position, 1, 100)]);
    }
    let disk = log.disk_mut().clone();
    let reader = log.reader(disk);
    let read = |from, data_bytes, file_bytes| {
        let limits = ReadLimits { data_bytes, file_bytes };
        reader.entries(A, Position(from), Position(21), limits).unwrap().entries.len()
    };
    assert_eq!(read(1, 0, 0), 1, "at least one");
    assert_eq!(read(1, 101, usize::MAX), 2);
    assert_eq!(read(5, 1_000, usize::MAX), 10);
    assert!(read(1, usize::MAX, 0) < 20, "the segments that follow are not read");
    assert_eq!(reader.term(A, Position(20)), Some(Term(1)));
    assert_eq!(reader.term(A, Position(21)), None);
}

#[test]
fn a_flipped_bit_in_a_segment_that_holds_nothing_is_no_damage() {
    let (mut log, _) = open(MemoryDisk::new());
    write(&mut log, &[vote(A, 1), entry(A, 1, 1), entry(A, 2, 1)]);
    log.prepare().expect("the disk takes it");
    let mut disk = log.into_disk();
    let spare = "wal-00000002.log";
    let bytes = disk.size(spare).expect("the next segment was made");
    for offset in 0..bytes {
        assert!(disk.flip(spare, offset, 4));
        let (mut log, recovered) = open(disk.clone());
        assert_eq!(shape(&recovered, A), (0, vec![1, 1]), "byte {offset}");
        // What has decayed is not written to.
        (3..60).for_each(|position| write(&mut log, &[sized_entry(A, position, 1, 400)]));
        let (_, recovered) = reopen(log);
        assert_eq!(shape(&recovered, A).1.len(), 59, "byte {offset}");
        assert!(disk.flip(spare, offset, 4));
    }
}

#[test]
fn the_owner_and_what_was_heard_of_others_outlive_segments() {
    let (mut log, recovered) = open(MemoryDisk::new());
    assert_eq!((recovered.owner, recovered.frames), (None, 0));
    let owner = LogOwner { sandbox_id: 7, boot: 2 };
    let said = |frames| Witness { boot: 3, start: 4, frames };
    let heard = |of: u64, frames| LogRecord::Witness { of: ReplicaId(of), said: said(frames) };
    write(&mut log, &[LogRecord::Owner(LogOwner { boot: 1, ..owner }), heard(2, 5), heard(3, 6)]);
    write(&mut log, &[LogRecord::Owner(owner), heard(2, 9)]);
    for position in 1..60 {
        write(&mut log, &[sized_entry(A, position, 1, 400), base(A, position, 1)]);
    }
    let frames = log.frames();
    assert!(!files(&mut log).contains(&"wal-00000001.log".to_owned()));
    let (_, recovered) = reopen(log);
    assert_eq!((recovered.owner, recovered.frames), (Some(owner), frames));
    let witnesses = [(ReplicaId(2), said(9)), (ReplicaId(3), said(6))];
    assert_eq!(recovered.witnesses.into_iter().collect::<Vec<_>>(), witnesses);
}
