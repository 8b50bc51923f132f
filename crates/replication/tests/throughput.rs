//! How fast entries go through groups in memory, with nothing else in the way. There is no clock in
//! it: the test harness says how long it took.
//!
//! `cargo test --release -p replication --test throughput -- --ignored` takes 3 x 512,000 entries
//! of 128 bytes through three groups of three replicas, in batches of 256.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{Group, GroupOptions, Members, Message, Restored};

const GROUPS: u32 = 3;
const REPLICAS: u64 = 3;
const BATCHES: u64 = 2_000;
const BATCH: u64 = 256;
const ENTRY_BYTES: usize = 128;

/// Nothing leaves memory here.
fn reader() -> Arc<dyn storage::LogReader> {
    storage::MemoryLog::default().reader()
}

struct Cluster {
    groups: Vec<Group>,
    messages: Vec<Message>,
    applied: Vec<Position>,
}

impl Cluster {
    fn new(group: u32) -> Self {
        let ids = (1..=REPLICAS).map(ReplicaId);
        let members = Members::of_voters(ids.clone());
        let start = |id| {
            let restored = Restored { members: members.clone(), ..Restored::default() };
            Group::new(GroupOptions::new(GroupId(group), id), restored, reader())
                .expect("a fresh start")
        };
        let groups: Vec<_> = ids.map(start).collect();
        let applied = vec![Position(0); groups.len()];
        let mut cluster = Self { groups, messages: Vec::new(), applied };
        cluster.groups[0].campaign_if_free();
        cluster.run();
        assert_eq!((cluster.groups[0].is_owner(), cluster.groups[0].term()), (true, Term(1)));
        cluster
    }

    fn run(&mut self) {
        loop {
            for (group, applied) in self.groups.iter_mut().zip(&mut self.applied) {
                while let Some(ready) = group.ready() {
                    self.messages.extend(ready.send_now);
                    group.persisted(ready.number);
                    self.messages.extend(ready.send_durable);
                    if let Some(last) = ready.committed.last() {
                        *applied = last.position;
                        group.applied(last.position);
                    }
                }
            }
            if self.messages.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.messages) {
                let place = usize::try_from(message.to.0 - 1).expect("a small number");
                self.groups[place].receive(message);
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn batches_of_256_through_three_groups() {
    let mut clusters: Vec<_> = (1..=GROUPS).map(Cluster::new).collect();
    let data = Bytes::from(vec![7; ENTRY_BYTES]);
    for _ in 0..BATCHES {
        for cluster in &mut clusters {
            for _ in 0..BATCH {
                cluster.groups[0].propose(data.clone()).expect("there is room");
            }
            cluster.run();
            for group in &mut cluster.groups {
                group.compact(Position(group.applied_position().0.saturating_sub(1_000)));
            }
        }
    }
    for cluster in clusters {
        assert!(cluster.applied.iter().all(|applied| applied.0 == 1 + BATCHES * BATCH));
    }
}
