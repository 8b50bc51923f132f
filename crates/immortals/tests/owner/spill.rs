//! What is kept for a destination that is away, and is too much for memory.

use std::ops::ControlFlow;

use storage::Reader;

use super::*;

/// A message has about 40 bytes, so a block has three.
const LIMITS: KeptLimits =
    KeptLimits { block: 100, memory: 300, memory_max: 2_000, all_max: 1 << 20 };

impl Owner {
    fn bounded_owner(limits: KeptLimits) -> Self {
        let mut owner = Self::bounded(1, &[1, 2], limits);
        owner.leads(TERM);
        owner.attach(0, 0);
        owner
    }

    /// Sends messages with these numbers to the other instance.
    fn says_many(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        self.says_many_and(numbers, 0);
    }

    /// The same, with `more` added to the number in each message.
    fn says_many_and(&mut self, numbers: std::ops::RangeInclusive<u64>, more: u64) {
        for number in numbers {
            let mut bytes = Vec::new();
            let payload = Bytes::from(format!("{:036}", number + more));
            put_message(&mut bytes, &Message::Fork { method: 1, payload });
            let (destination, messages) = ("theirs".into(), bytes.into());
            self.says(&ToNode::Send { destination, count: 1, messages });
        }
    }

    /// How many blocks there are in the store.
    fn blocks(&self) -> usize {
        let (from, to) = self.space.range(5);
        let mut count = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        self.store.scan(&from, &to, false, visit).expect(GOOD);
        count
    }

    /// The other instance is there, and takes all that is sent. The result is what it got.
    fn is_heard(&mut self, mut logged: u64) -> Vec<u64> {
        let lane = Lane::Stream;
        let mut got = Vec::new();
        let mut again = Some(logged + 1);
        loop {
            let message = Between::Ack { lane, logged, resend_from: again.take() };
            let sent = self.step(Input::Between { from: THEIRS, message });
            let before = got.len();
            for message in sent {
                let Between::Send { first, count, messages: bytes, .. } = message else { continue };
                let payloads = messages(bytes).map(|message| match message.expect(GOOD) {
                    Message::Fork { payload, .. } => payload,
                    other => panic!("{other:?}"),
                });
                let numbers: Vec<u64> = payloads
                    .map(|payload| std::str::from_utf8(&payload).expect(GOOD).parse().expect(GOOD))
                    .collect();
                assert_eq!(numbers, (first..first + count).collect::<Vec<_>>());
                got.extend(numbers);
                logged = first + count - 1;
            }
            if got.len() == before {
                return got;
            }
        }
    }

    /// The same replica after a kill: its store is as it was, and so is its log.
    fn again(self, limits: KeptLimits) -> Self {
        let mut owner =
            Self { store: self.store, log: self.log, ..Self::bounded(1, &[1, 2], limits) };
        owner.space = Space::open(&owner.store, OURS).expect(GOOD).0;
        let settings = owner.instance.settings().clone();
        let (name, node, me) = ("ours".to_owned(), "n1".to_owned(), ReplicaId(1));
        let options = Options { name, group: OURS, me, node, settings, limits };
        owner.instance = Instance::open(options, &owner.store, &owner.space).expect(GOOD);
        let base = usize::try_from(owner.instance.base().0.0).expect(GOOD);
        for entry in owner.log.entries.split_off(base) {
            owner.commit_in(entry.1, entry.2);
        }
        owner
    }
}

#[test]
fn what_is_too_much_for_memory_goes_to_the_store_and_is_sent_in_order() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.says_many(1..=500);
    assert!(owner.instance.memory() <= LIMITS.memory + LIMITS.block, "{}", owner.instance.memory());
    assert!(owner.blocks() > 100);
    assert_eq!(owner.instance.waits_for(), Vec::<String>::new());
    assert_eq!(owner.is_heard(0), (1..=500).collect::<Vec<_>>());
    assert_eq!((owner.blocks(), owner.instance.memory()), (0, 0));
}

#[test]
fn a_destination_that_has_a_part_gets_the_rest() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.says_many(1..=100);
    assert_eq!(owner.is_heard(49), (50..=100).collect::<Vec<_>>());
    owner.says_many(101..=103);
    assert_eq!(owner.is_heard(103), Vec::<u64>::new());
    assert_eq!((owner.blocks(), owner.instance.memory()), (0, 0));
}

#[test]
fn when_so_much_is_kept_in_all_nothing_more_is_told() {
    let mut owner = Owner::bounded_owner(KeptLimits { all_max: 1_000, ..LIMITS });
    owner.says_many(1..=50);
    assert_eq!(owner.instance.waits_for(), ["theirs"]);
    owner.comes(1, 1);
    assert_eq!(owner.handled(), Vec::<u64>::new());
    owner.is_heard(0);
    owner.step(Input::Tick);
    assert_eq!(owner.handled(), [1]);
}

#[test]
fn a_checkpoint_names_the_blocks_and_they_stay_until_the_next_one() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.comes(1, 1);
    owner.says_many(1..=100);
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    assert_eq!(owner.instance.status().base_input, 2);
    let blocks = owner.blocks();
    assert_eq!(owner.is_heard(0), (1..=100).collect::<Vec<_>>());
    assert_eq!(owner.blocks(), blocks);
    let mut owner = owner.again(LIMITS);
    owner.leads(Term(2));
    owner.attach(0, 0);
    assert_eq!(owner.blocks(), blocks);
    // The program has sent again what it had sent before. What is confirmed is not in its log.
    assert_eq!(owner.is_heard(30), (31..=100).collect::<Vec<_>>());
    owner.comes(2, 1);
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    assert_eq!(owner.instance.status().base_input, 3);
    assert_eq!(owner.blocks(), 0);
}

#[test]
fn what_a_program_put_there_goes_with_it() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.says_many(1..=100);
    let mut owner = owner.again(LIMITS);
    owner.step(Input::Tick);
    assert_eq!(owner.blocks(), 0);
    owner.leads(Term(2));
    owner.attach(0, 0);
    owner.says_many(1..=100);
    assert!(owner.blocks() > 10);
    owner.step(Input::Detached { program: owner.program });
    assert_eq!(owner.blocks(), 0);
}

#[test]
fn what_was_said_after_a_checkpoint_stays_whoever_else_has_let_go_of_blocks() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.comes(1, 1);
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    owner.says_many(1..=100);
    // Another replica's checkpoint begins to come, and never ends.
    let (position, number, bytes, last) = (Position(1_000), 0, Bytes::from_static(b"piece"), None);
    let message = Peer::Chunk { position, number, bytes, last };
    owner.step(Input::Peer { from: ReplicaId(2), message });
    owner.waits(6_000_000);
    assert_eq!(owner.is_heard(0), (1..=100).collect::<Vec<_>>());
}

#[test]
fn what_is_confirmed_while_a_checkpoint_is_given_is_still_in_it() {
    let mut owner = Owner::bounded_owner(LIMITS);
    owner.comes(1, 1);
    owner.says_many(1..=100);
    owner.is_slow_to_give = true;
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    let asked = owner.heard.iter().find_map(|frame| match frame {
        ToProgram::TakeCheckpoint { request } => Some(*request),
        _ => None,
    });
    owner.says(&ToNode::Checkpoint { request: asked.expect("it was asked for") });
    assert_eq!(owner.is_heard(0), (1..=100).collect::<Vec<_>>());
    owner.says(&ToNode::CheckpointEnd { crc: 0 });
    assert_eq!(owner.instance.status().base_input, 2);
    let mut owner = owner.again(LIMITS);
    owner.leads(Term(2));
    owner.attach(0, 0);
    assert_eq!(owner.is_heard(0), (1..=100).collect::<Vec<_>>());
}

/// Takes a checkpoint and gives it to another replica, whose program has sent `said_there` messages
/// and which is behind in its log until it has the whole checkpoint. The result is that replica,
/// and how many blocks it asked for.
fn handed_over(said_there: u64, more: u64, damage: impl Fn(&mut Peer)) -> (Owner, usize) {
    let mut owner = Owner::bounded_owner(LIMITS);
    let mut other = Owner::bounded(2, &[1, 2], LIMITS);
    let log = |owner: &Owner| owner.log.entries.iter().map(|(_, _, entry)| entry.clone()).collect();
    let first: Vec<Bytes> = log(&owner);
    first.into_iter().for_each(|entry| drop(other.commit(entry)));
    other.attach(0, 0);
    owner.comes(1, 1);
    owner.says_many(1..=100);
    other.says_many_and(1..=said_there, more);
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    let mut asked = 0;
    while let Some(mut message) = owner.handed.pop() {
        damage(&mut message);
        other.step(Input::Peer { from: ReplicaId(1), message });
        for message in std::mem::take(&mut other.handed) {
            asked += usize::from(matches!(message, Peer::WantBlock { .. }));
            owner.step(Input::Peer { from: ReplicaId(2), message });
        }
    }
    // The checkpoint counts when its program has come so far, or is gone.
    other.step(Input::Detached { program: other.program });
    let all: Vec<Bytes> = log(&owner);
    all.into_iter().skip(other.log.entries.len()).for_each(|entry| drop(other.commit(entry)));
    other.step(Input::Tick);
    (other, asked)
}

#[test]
fn a_replica_asks_only_for_the_blocks_that_it_lacks() {
    for said_there in [0, 40, 100] {
        let (mut other, asked) = handed_over(said_there, 0, |_| {});
        assert_eq!(other.instance.status().base_input, 2, "{said_there} messages");
        // It need not ask for blocks that are in its memory.
        assert_eq!(asked > 0, said_there < 100, "{asked} of {} blocks", other.blocks());
        assert!(said_there == 0 || asked < other.blocks());
        other.leads(Term(2));
        other.attach(0, 0);
        assert_eq!(other.is_heard(0), (1..=100).collect::<Vec<_>>(), "{said_there} messages");
    }
}

#[test]
fn what_a_program_has_said_otherwise_in_the_same_place_is_not_taken_for_the_same() {
    let (mut other, asked) = handed_over(100, 1_000, |_| {});
    assert_eq!((other.instance.status().base_input, asked), (2, other.blocks()));
    other.leads(Term(2));
    other.attach(0, 0);
    assert_eq!(other.is_heard(0), (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_block_of_which_the_beginning_is_missing_is_not_taken() {
    let (other, _) = handed_over(0, 0, |message| {
        if let Peer::SpillBlock { run: piece, .. } = message {
            piece.first += 1;
        }
    });
    assert_eq!(other.instance.status().base_input, 0);
}
