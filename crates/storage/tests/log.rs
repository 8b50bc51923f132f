//! The log, told step by step: what is written is there after a start, and old segments go.

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{
    Disk, Entry, EntryKind, Fate, Log, LogError, LogOptions, LogRecord, MemoryDisk, Recovered,
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
    Log::open(disk, OPTIONS).expect("the log is sound")
}

fn reopen(log: Log<MemoryDisk>) -> (Log<MemoryDisk>, Recovered) {
    let mut disk = log.into_disk();
    disk.crash(|_, _| Fate::Lost);
    open(disk)
}

/// First position, last position and the terms of a group's entries.
fn shape(recovered: &Recovered, group: GroupId) -> (u64, Vec<u64>) {
    let group = &recovered.groups[&group];
    let terms = group.entries.iter().map(|entry| entry.term.0).collect();
    for (entry, position) in group.entries.iter().zip(group.base.0 + 1..) {
        assert_eq!(entry.position.0, position, "positions without gaps");
    }
    (group.base.0, terms)
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
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![2, 3, 3]));
    assert_eq!(shape(&recovered, B), (0, vec![1]));
    let group = &recovered.groups[&A];
    assert_eq!((group.term, group.commit), (Term(3), Position(3)));
    assert_eq!(group.voted_for, ReplicaId(u64::MAX - 3));
    assert_eq!(group.entries[1].data, vec![2; 2000]);
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
    let (_, recovered) = reopen(log);
    assert_eq!(shape(&recovered, A), (0, vec![1, 1]));
    assert_eq!(recovered.groups[&A].entries[0].data.len(), 100_000);
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
