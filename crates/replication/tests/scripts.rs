//! Histories of a group told step by step (see the crate `script`). Each input is repeated above
//! what came out of it.
//!
//! | line | meaning |
//! |---|---|
//! | `replicas 1 2 3` | they are the first members, and start |
//! | `group 1 2 3` | the same, and the first owns the group; nothing is told of that |
//! | `spare 4` | starts without members, waits to be admitted |
//! | `tick 1 5` | five ticks for replica 1 (`all`: each in turn) |
//! | `idle 110` | 110 ticks for all, and all is delivered; nothing is told of that |
//! | `run` | delivers and syncs everything until it is quiet |
//! | `deliver`, `deliver 2` | delivers what is on its way now (to replica 2) |
//! | `lose`, `lose 2` | the same messages are lost |
//! | `hold Snapshot`, `release` | messages of that kind stay on their way; no longer |
//! | `sync 1`, `sync 1 2` | what replica 1 wrote becomes durable (the first two readys of it) |
//! | `cut 1`, `heal 1` | `run` loses what goes to or comes from replica 1, no more |
//! | `propose 1 word`, `confirm 1 9`, `hand-over 1 2` | |
//! | `change 1 +4 ^4 -2` | add as learner, promote, remove |
//! | `lost 2 1 0`, `back 2 1` | replica 2 lost its connection to 1, and campaigns after 0 ticks |
//! | `crash 1`, `crash 1 2 3`, `start 1` | keeping two unsynced writes and three batches of state |
//! | `shrink 1` | all that may go from memory goes |
//! | `decay 1` | the log of replica 1 cannot be read back any more |
//! | `compact 1` | the state is durable, the entries are forgotten |
//! | `late`, `report 1 3` | the sender of a snapshot hears only now that it has arrived |
//! | `refill 2` | replica 2 asks the owner for its state, and the owner knows that it means it |
//! | `campaign 1` | it campaigns if there is no owner |
//! | `pace 1 20 3` | owners may be silent for 20 ticks, and a round trip takes 3 |
//! | `lazy`, `work 1` | the state machine works only when told |
//! | `forge 1 2 t1 heartbeat 9` | replica 1 gets a false message from 2 |
//! | `show 1` | the status |
//! | `level 1` | whether it has caught up |

#![expect(clippy::unwrap_used, reason = "a mistake in a script ends the test")]

mod world;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use protocol::{Position, ReplicaId, Term};
use replication::{MembershipChange, Message, MessageKind, TailLimits};
use script::Player;
use world::{World, describe_members};

#[test]
fn a_group_does_what_the_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    script::check_all(&folder, Scripted::default);
}

#[derive(Default)]
struct Scripted {
    world: World,
    cut: BTreeSet<u64>,
    held: Vec<String>,
}

impl Player for Scripted {
    fn play(&mut self, line: &str) -> Vec<String> {
        self.line(line);
        let told = std::mem::take(&mut self.world.told);
        std::iter::once(line).chain(told.lines()).map(str::to_owned).collect()
    }
}

fn refill(world: &mut World, id: u64) {
    let owner = world.owner().unwrap();
    world.group(owner).expect_refill(ReplicaId(id));
    world.group(id).ask_for_state();
}

fn tell_level(world: &mut World, id: u64) {
    let group = world.group(id);
    let known = group.known_committed();
    let level = known.is_some_and(|known| group.applied_position() >= known);
    world.tell(id, if level { "has caught up" } else { "has not caught up" });
}

impl Scripted {
    fn line(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |place: usize| words.get(place).map(|word| word.parse::<u64>().unwrap());
        let count = |place: usize| number(place).map(|number| usize::try_from(number).unwrap());
        let id = words.get(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        let other = || ReplicaId(number(2).unwrap());
        let world = &mut self.world;
        match words[0] {
            "replicas" => {
                let voters: Vec<u64> = words[1..].iter().map(|id| id.parse().unwrap()).collect();
                voters.iter().for_each(|id| world.add(*id, &voters, |_| {}));
            }
            "group" => {
                self.line(&line.replace("group", "replicas"));
                self.line(&format!("tick {id} 20"));
                self.line("run");
                self.world.told.clear();
                return;
            }
            "spare" => world.add(id, &[], |_| {}),
            "tick" => self.tick(words[1], number(2).unwrap_or(1)),
            "idle" => {
                for _ in 0..id {
                    self.tick("all", 1);
                    self.run();
                }
                self.world.told.clear();
                return;
            }
            "run" => self.run(),
            "deliver" => self.deliver(number(1), World::deliver),
            "lose" => self.deliver(number(1), |world, packet| world.lose(&packet)),
            "sync" => world.sync(id, count(2).unwrap_or(usize::MAX)),
            "cut" => assert!(self.cut.insert(id)),
            "heal" => assert!(self.cut.remove(&id)),
            "propose" => world.propose(id, words[2]),
            "confirm" => world.confirm(id, number(2).unwrap()),
            "hand-over" => world.group(id).hand_over(other()),
            "change" => self.change(id, &words[2..]),
            "lost" => world.group(id).peer_lost(other(), count(3).unwrap()),
            "pace" => world.group(id).set_pace(count(2).unwrap(), count(3).unwrap()),
            "back" => world.group(id).peer_back(other()),
            "crash" => world.crash(id, count(2).unwrap_or(0), count(3).unwrap_or(0)),
            "start" => world.start(id),
            "compact" => world.compact(id),
            "tail-nothing" => world.cut_tail(id, TailLimits::NOTHING),
            "shrink" => {
                let left = world.group(id).shrink_window(usize::MAX);
                world.tell(id, if left == 0 { "holds nothing" } else { "holds some entries" });
            }
            "decay" => world.replica(id).log.damage(),
            "hold" => self.held.push(words[1].to_owned()),
            "release" => self.held.clear(),
            "late" => world.late_reports = true,
            "report" => world.group(id).snapshot_sent(other(), true),
            "refill" => refill(world, id),
            "campaign" => world.group(id).campaign_if_free(),
            "lazy" => world.lazy = true,
            "work" => world.work(id, count(2).unwrap_or(usize::MAX)),
            "forge" => self.forge(id, &words[2..]),
            "show" => self.show(id),
            "level" => tell_level(world, id),
            _ => panic!("{line:?} means nothing"),
        }
        for id in self.world.up() {
            self.world.settle(id);
        }
    }

    fn tick(&mut self, who: &str, ticks: u64) {
        let all = self.world.up();
        let who = who.parse().map_or(all, |id| vec![id]);
        for _ in 0..ticks {
            for id in &who {
                self.world.group(*id).tick();
                self.world.settle(*id);
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..200 {
            self.deliver(None, World::deliver);
            for id in self.world.up() {
                self.world.sync(id, usize::MAX);
            }
            if !self.world.network.iter().any(|packet| self.is_free(packet))
                && self.world.up().iter().all(|id| self.world.replica(*id).unsynced() == 0)
            {
                return;
            }
        }
        panic!("it is never quiet");
    }

    fn deliver(&mut self, to: Option<u64>, mut how: impl FnMut(&mut World, world::Packet)) {
        let (packets, rest) = std::mem::take(&mut self.world.network).into_iter().partition(
            |packet: &world::Packet| {
                to.is_none_or(|to| packet.message.to.0 == to) && self.is_free(packet)
            },
        );
        self.world.network = rest;
        let packets: Vec<_> = packets;
        for packet in packets {
            let ends = [packet.message.from.0, packet.message.to.0];
            if ends.iter().any(|end| self.cut.contains(end)) {
                self.world.lose(&packet);
            } else {
                how(&mut self.world, packet);
            }
        }
    }

    fn is_free(&self, packet: &world::Packet) -> bool {
        !self.held.contains(&format!("{:?}", packet.message.kind))
    }

    fn change(&mut self, id: u64, words: &[&str]) {
        let list = |sign| {
            let ids = words.iter().filter_map(|word| word.strip_prefix(sign));
            ids.map(|id| ReplicaId(id.parse().unwrap())).collect()
        };
        let change =
            MembershipChange { add_learners: list('+'), promote: list('^'), remove: list('-') };
        let answer = match self.world.group(id).change(&change) {
            Ok(position) => format!("takes the change at {position}"),
            Err(error) => format!("does not take the change: {error}"),
        };
        self.world.tell(id, &answer);
    }

    fn show(&mut self, id: u64) {
        let status = self.world.group(id).status();
        let (commit, applied) = (status.commit, status.applied);
        let (persisted, last) = (status.persisted, status.last);
        let mut text = format!("commit {commit} applied {applied} durable {persisted} last {last}");
        write!(text, ", {}", describe_members(&status.members)).unwrap();
        write!(text, ", serves {}", status.ready_to_serve).unwrap();
        if let Some(to) = status.handing_over {
            write!(text, ", hands over to {to}").unwrap();
        }
        let group = self.world.group(id);
        write!(text, ", first {}, held by {}", group.first(), group.held_by(last)).unwrap();
        text.push_str(if group.is_resting() { ", at rest" } else { "" });
        let progress = group.progress();
        self.world.tell(id, &text);
        for (peer, progress) in progress {
            let mut text = format!("sees {peer} at {}", progress.matched);
            for (word, is) in [
                ("active", progress.active),
                ("snapshotting", progress.snapshotting),
                ("learner", progress.learner),
            ] {
                text.push_str(if is { " " } else { "" });
                text.push_str(if is { word } else { "" });
            }
            self.world.tell(id, &text);
        }
    }

    /// `2 t1 heartbeat 9` and the like: what each needs to be wrong is in the match below.
    fn forge(&mut self, to: u64, words: &[&str]) {
        let number = |place: usize| words.get(place).map_or(0, |word| word.parse().unwrap());
        let term = words[1].strip_prefix('t').unwrap().parse().unwrap();
        let from = ReplicaId(number(0));
        let mut message = Message::new(MessageKind::Heartbeat, from, ReplicaId(to), Term(term));
        let entry = |position, term, kind, data: &'static [u8]| storage::Entry {
            position: Position(position),
            term: Term(term),
            kind,
            data: Bytes::from_static(data),
        };
        let normal = storage::EntryKind::Normal;
        let membership = storage::EntryKind::Membership;
        match words[2] {
            "heartbeat" => message.commit = Position(number(3)),
            "for-another" => message.to = ReplicaId(to + 1),
            "high" => message.commit = Position(u64::MAX),
            "gap" => {
                message.kind = MessageKind::Append;
                message.entries = vec![entry(1, 1, normal, b""), entry(3, 1, normal, b"")];
            }
            "future-term" => {
                message.kind = MessageKind::Append;
                message.entries = vec![entry(1, 99, normal, b"")];
            }
            "odd-change" => {
                message.kind = MessageKind::Append;
                message.entries = vec![entry(1, 1, membership, b"?")];
            }
            "answer" => {
                message.kind = MessageKind::AppendAnswer;
                message.index = Position(number(3));
            }
            "refusal" => {
                message.kind = MessageKind::AppendAnswer;
                message.reject = true;
                message.index = Position(number(3));
                message.reject_hint = Position(number(4));
                message.log_term = Term(1);
            }
            "request" => {
                message.kind = MessageKind::AppendAnswer;
                message.reject = true;
                message.request_snapshot = Position(number(3));
            }
            "snapshot" => message.kind = MessageKind::Snapshot,
            "odd-snapshot" => {
                message.kind = MessageKind::Snapshot;
                let mut meta = replication::SnapshotMeta {
                    position: Position(number(3)),
                    term: message.term,
                    ..replication::SnapshotMeta::default()
                };
                meta.members.voters = vec![ReplicaId(to), ReplicaId(to)];
                message.snapshot = Some(meta);
            }
            "pre-vote" => message.kind = MessageKind::PreVoteAnswer,
            "vote" => message.kind = MessageKind::VoteAnswer,
            other => panic!("{other:?} means nothing"),
        }
        self.world.group(to).receive(message);
    }
}
