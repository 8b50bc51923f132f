//! Which call goes where, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::service::{Answer, Call, FromNode, Has, Serve, VERSION};
use protocol::{Code, GroupId, Problem, ReplicaId, links};
use services::{Catalogue, PartitionEvent, Said};

use super::copies::{Copies, FRAME_BYTES_MAX, Heard, LetGo};
use super::lines::{Line, Lines, Wanted};
use super::words::{CallOutcome, KindPrograms, ServiceFrame, ServiceWork};
use crate::frame::Frame;
use crate::io::{Level, Output};
use crate::work::{Effects, Work};

/// How long a call may take in all, in microseconds: less than a client's patience, so that it
/// hears what it was that took so long.
const CALL_MICROS_MAX: u64 = 8_000_000;

/// How much of that a copy has for it at least, in microseconds: what waits longer for a copy with
/// room is given up.
const GIVEN_MICROS_MIN: u64 = 2_000_000;

/// How long calls wait for a copy after the last one has gone, in microseconds.
const GONE_MICROS: u64 = 3_000_000;

/// How often the other nodes are told which kinds are served here, though nothing has changed, in
/// microseconds: what was sent over one link may be lost with it, or overtaken over another one.
const ANNOUNCE_MICROS: u64 = 1_000_000;

/// How many calls a node may have that are not answered; more are told that it is busy.
const CALLS_MAX: usize = 10_000;

/// The same for their bytes.
pub(super) const CALLS_BYTES_MAX: usize = 64 << 20;

/// How many calls one other node is given at a time. It may have to let them wait as well.
pub(super) const CALLS_PER_NODE_MAX: usize = 64;

/// How many copies may die of a call, or answer it with nonsense.
const TRIES_MAX: u8 = 3;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// The leader of a partition here, about one of its invocations.
    Leader { group: GroupId, opening: u64, invocation: u64 },
    /// Another node.
    Node { replica: ReplicaId, boot: u64, number: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Waiting,
    Copy(u64),
    Node(ReplicaId),
}

struct Pending {
    asker: Asker,
    wanted: Wanted,
    call: Call,
    until: u64,
    /// How many copies have failed at it.
    tries: u8,
    at: At,
}

#[derive(Default)]
struct Elsewhere {
    /// What its copies have, by the factories of their kinds.
    kinds: BTreeMap<String, Has>,
    /// The last call that it was given: of those that have as few, the one that waits longest is
    /// next.
    given: u64,
}

#[derive(Default)]
pub(crate) struct Serving {
    copies: Copies,
    calls: BTreeMap<u64, Pending>,
    /// The calls that are nowhere.
    waiting: Lines,
    bytes: usize,
    /// The number that was given out last. Each try of a call has its own, so that the answer to an
    /// earlier one is known.
    last: u64,
    /// The other nodes that have copies.
    elsewhere: BTreeMap<ReplicaId, Elsewhere>,
    /// When the last copy of a kind has gone, or the last one that had some handler of it.
    gone: BTreeMap<String, u64>,
    /// What the other nodes were told last, and when they are told again.
    announced: BTreeMap<String, Has>,
    announce_at: u64,
}

impl Elsewhere {
    fn has(&self, wanted: &Wanted) -> bool {
        self.kinds.get(&wanted.factory).is_some_and(|has| wanted.is_in(has))
    }
}

/// Which of a copy's calls may have been too much for it.
#[derive(Clone, Copy, Debug)]
enum Blame {
    /// Any, unless it is known which.
    All,
    None,
}

impl Pending {
    fn new(asker: Asker, call: Call, until: u64, tries: u8) -> Self {
        let factory = links::split(&call.link).map_or("", |(factory, _)| factory);
        let wanted = Wanted::of(factory, &call);
        Self { asker, wanted, call, until, tries, at: At::Waiting }
    }

    fn factory(&self) -> &str {
        &self.wanted.factory
    }

    fn line(&self) -> Line {
        Line { wanted: self.wanted.clone(), is_suspect: self.tries > 0 }
    }

    fn bytes(&self) -> usize {
        self.call.before.len() + self.call.after.len() + self.call.body.len()
    }
}

impl Serving {
    // Copies.

    /// A program has said that it serves a kind. `node`: the name of this node.
    pub(crate) fn attach(
        &mut self,
        program: u64,
        serve: Serve,
        (node, catalogue, now): (&str, &Catalogue, u64),
        effects: &mut Effects,
    ) -> Result<(), LetGo> {
        check(&serve, catalogue)?;
        let (factory, version) = (serve.factory.clone(), serve.program_version.clone());
        self.copies.attach(program, serve, now)?;
        let frame_bytes_max = FRAME_BYTES_MAX as u64;
        let node = node.to_owned();
        tell(program, &FromNode::Welcome { version: VERSION, node, frame_bytes_max }, effects);
        let text = format!("a program serves {factory} (version '{version}')");
        effects.note(Level::Info, text);
        self.announce(now, effects);
        self.dispatch(&factory, effects);
        Ok(())
    }

    /// Bytes of such a program.
    pub(crate) fn said(&mut self, program: u64, bytes: &Bytes, now: u64, effects: &mut Effects) {
        let mut heard = Vec::new();
        let well = self.copies.said(program, bytes, &mut heard);
        for heard in heard {
            match heard {
                Heard::Answer { call, answer } => self.answered(call, answer, effects),
                Heard::Leaves => self.announce(now, effects),
            }
        }
        match well {
            Ok(()) => self.dispatch_all(effects),
            Err(why) => self.let_go(program, why, now, effects),
        }
    }

    /// Its connection has ended.
    pub(crate) fn closed(&mut self, program: u64, now: u64, effects: &mut Effects) {
        self.end(program, Blame::All, now, effects);
    }

    /// A copy is gone, and its calls are made again.
    fn end(&mut self, program: u64, blame: Blame, now: u64, effects: &mut Effects) {
        let Some((copy, calls)) = self.copies.remove(program) else { return };
        if !calls.is_empty() {
            let text = format!(
                "a program of {} (version '{}') has gone with {} calls: they are made again",
                copy.factory,
                copy.version,
                calls.len()
            );
            effects.note(Level::Warn, text);
        }
        self.announce(now, effects);
        for call in calls.into_iter().rev() {
            let is_blamed = match blame {
                Blame::All => copy.blamed.is_none_or(|blamed| blamed == call),
                Blame::None => false,
            };
            self.again(call, u8::from(is_blamed), effects);
        }
        self.dispatch_all(effects);
    }

    /// It does not keep to the protocol, or is not wanted any more.
    fn let_go(&mut self, program: u64, why: LetGo, now: u64, effects: &mut Effects) {
        let LetGo(code, text) = why;
        effects.note(Level::Warn, format!("a program of a service is let go: {code}: {text}"));
        tell(program, &FromNode::Error { code: code.into(), text }, effects);
        effects.outputs.push(Output::ProgramClose { program });
        effects.push(Work::ProgramGone(program));
        let blame = match code {
            // What was late has ended, and the others cannot help it.
            "LATE" | "UNKNOWN_KIND" | "BUSY" => Blame::None,
            _ => Blame::All,
        };
        self.end(program, blame, now, effects);
    }

    /// Tells the other nodes if what is served here has changed.
    fn announce(&mut self, now: u64, effects: &mut Effects) {
        let kinds = self.copies.kinds();
        if kinds == self.announced {
            return;
        }
        for gone in less(&self.announced, &kinds) {
            self.gone.insert(gone, now);
        }
        self.announced = kinds;
        self.announce_again(now, effects);
    }

    fn announce_again(&mut self, now: u64, effects: &mut Effects) {
        self.announce_at = now + ANNOUNCE_MICROS;
        effects.service(ServiceWork::Tell(self.announced.clone()));
    }

    // Other nodes.

    /// There is a (new) link to a node. What was sent on the one before may be lost.
    pub(crate) fn reached(&mut self, replica: ReplicaId, effects: &mut Effects) {
        let frame = ServiceFrame::Serves(self.announced.clone());
        effects.outbox.send(replica, Frame::Service(Box::new(frame)));
        self.take_back(replica, effects);
    }

    /// A node says what its copies have.
    pub(crate) fn serves(
        &mut self,
        replica: ReplicaId,
        kinds: BTreeMap<String, Has>,
        now: u64,
        effects: &mut Effects,
    ) {
        let known = self.elsewhere.entry(replica).or_default();
        for gone in less(&known.kinds, &kinds) {
            self.gone.insert(gone, now);
        }
        known.kinds = kinds;
        self.dispatch_all(effects);
    }

    /// No link leads to a node any more.
    pub(crate) fn lost(&mut self, replica: ReplicaId, now: u64, effects: &mut Effects) {
        for kind in self.elsewhere.remove(&replica).unwrap_or_default().kinds.into_keys() {
            self.gone.insert(kind, now);
        }
        // It asks again, whoever owns by then.
        let is_its = |call: &&Pending| {
            matches!(call.asker, Asker::Node { replica: asker, .. } if asker == replica)
                && call.at == At::Waiting
        };
        let its = self.calls.iter().filter(|(_, call)| is_its(call));
        for number in its.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.remove(number);
        }
        self.take_back(replica, effects);
    }

    fn take_back(&mut self, replica: ReplicaId, effects: &mut Effects) {
        let there = self.calls.iter().filter(|(_, call)| call.at == At::Node(replica));
        let there: Vec<u64> = there.map(|(number, _)| *number).collect();
        for number in there.into_iter().rev() {
            self.again(number, 0, effects);
        }
        self.dispatch_all(effects);
    }

    // Calls.

    /// The leader of a partition here wants a program to be asked.
    pub(crate) fn ask(
        &mut self,
        (group, opening, invocation): (GroupId, u64, u64),
        call: Call,
        now: u64,
        effects: &mut Effects,
    ) {
        let asker = Asker::Leader { group, opening, invocation };
        self.take(Pending::new(asker, call, now + CALL_MICROS_MAX, 0), now, effects);
    }

    /// The owner at another node does. `left_micros` and `tries`: see [`ServiceFrame::Call`].
    pub(crate) fn ask_for(
        &mut self,
        (replica, boot, number): (ReplicaId, u64, u64),
        call: Call,
        (left_micros, tries, now): (u64, u8, u64),
        effects: &mut Effects,
    ) {
        let asker = Asker::Node { replica, boot, number };
        let until = now + left_micros.min(CALL_MICROS_MAX);
        self.take(Pending::new(asker, call, until, tries), now, effects);
    }

    fn take(&mut self, pending: Pending, now: u64, effects: &mut Effects) {
        if self.calls.len() >= CALLS_MAX || self.bytes + pending.bytes() > CALLS_BYTES_MAX {
            let text = format!(
                "too many calls of programs wait at this node, and those of {} are slower than \
                 their callers: attach more copies",
                pending.factory()
            );
            let outcome = CallOutcome::Failed(Problem::new(Code::Busy, text));
            return finish(pending, outcome, effects);
        }
        if let Some(outcome) = self.nobody(&pending, now) {
            return finish(pending, outcome, effects);
        }
        let line = pending.line();
        self.bytes += pending.bytes();
        self.last += 1;
        self.calls.insert(self.last, pending);
        self.waiting.push_back(line.clone(), self.last);
        self.dispatch(&line.wanted.factory, effects);
    }

    /// Nobody is there to be asked, and nobody has been for a while.
    fn nobody(&self, pending: &Pending, now: u64) -> Option<CallOutcome> {
        let (wanted, factory) = (&pending.wanted, pending.factory());
        if self.copies.has(wanted) {
            return None;
        }
        if matches!(pending.asker, Asker::Node { .. }) {
            return Some(CallOutcome::NoCopy { tries: pending.tries });
        }
        let is_recent = |since: u64| now.saturating_sub(since) < GONE_MICROS;
        let is_elsewhere = self.elsewhere.values().any(|it| it.has(wanted));
        if is_elsewhere || self.gone.get(factory).is_some_and(|gone| is_recent(*gone)) {
            return None;
        }
        let text = if self.elsewhere.values().any(|it| it.kinds.contains_key(factory))
            || self.announced.contains_key(factory)
        {
            // The version that has it may be on its way.
            if is_recent(pending.until.saturating_sub(CALL_MICROS_MAX)) {
                return None;
            }
            let versions: Vec<&str> = self.copies.versions(factory).into_iter().collect();
            format!(
                "the programs of {factory} that are attached have not got {} (those at this node \
                 have the versions: '{}'): start one that has it beside a node",
                wanted.name(),
                versions.join("', '")
            )
        } else {
            format!(
                "the handlers of {factory} are in a program, and none is attached to any node: \
                 start one, such as 'python3 PROGRAM.py' with its Service(\"{factory}\", ...), \
                 beside a node"
            )
        };
        Some(CallOutcome::Failed(Problem::new(Code::NoProgram, text)))
    }

    /// Gives calls to copies as far as there is room.
    fn dispatch(&mut self, factory: &str, effects: &mut Effects) {
        loop {
            let mut lines = self.waiting.of_kind(factory);
            // Those that must go alone before all others, or they would never find a copy that is
            // free; then those that have least time.
            let order = |(line, first): &(Line, u64)| (!line.is_suspect, self.calls[first].until);
            lines.sort_by_key(order);
            let mut kept_free = BTreeSet::new();
            if !lines.iter().any(|(line, _)| self.dispatch_one(line, &mut kept_free, effects)) {
                return;
            }
        }
    }

    fn dispatch_all(&mut self, effects: &mut Effects) {
        for factory in self.waiting.factories() {
            self.dispatch(&factory, effects);
        }
    }

    /// `kept_free`: the copies that others wait for until they have nothing to do.
    fn dispatch_one(
        &mut self,
        line: &Line,
        kept_free: &mut BTreeSet<u64>,
        effects: &mut Effects,
    ) -> bool {
        let Some(first) = self.waiting.of(line).next() else { return false };
        let bytes = self.calls[&first].bytes();
        let (copy, free_soon) = match line.is_suspect {
            false => (self.copies.with_room(&line.wanted, bytes, kept_free), None),
            true => match self.copies.free_first(&line.wanted, kept_free) {
                Some((program, true)) => (Some(program), None),
                other => (None, other.map(|(program, _)| program)),
            },
        };
        if let Some(program) = copy {
            self.waiting.remove(line, first);
            self.copies.give(program, first, bytes, line.is_suspect);
            let pending = self.calls.get_mut(&first).expect("what waits is there");
            pending.at = At::Copy(program);
            let call = pending.call.clone();
            tell(program, &FromNode::Call { number: first, call }, effects);
            return true;
        }
        if self.pass_on(line, effects) {
            return true;
        }
        kept_free.extend(free_soon);
        false
    }

    fn pass_on(&mut self, line: &Line, effects: &mut Effects) -> bool {
        let Some(replica) = self.node_with_room(&line.wanted) else { return false };
        // What another node has passed on is passed on no further.
        let own = |number: &u64| matches!(self.calls[number].asker, Asker::Leader { .. });
        let Some(number) = self.waiting.of(line).find(own) else { return false };
        self.waiting.remove(line, number);
        let pending = self.calls.get_mut(&number).expect("what waits is there");
        pending.at = At::Node(replica);
        self.elsewhere.entry(replica).or_default().given = number;
        effects.service(ServiceWork::PassOn { replica, number, call: pending.call.clone() });
        true
    }

    /// The node that has copies and the fewest calls of this one's.
    fn node_with_room(&self, wanted: &Wanted) -> Option<ReplicaId> {
        let mut counts: BTreeMap<ReplicaId, (usize, u64)> = BTreeMap::new();
        for (replica, known) in &self.elsewhere {
            if known.has(wanted) {
                counts.insert(*replica, (0, known.given));
            }
        }
        if counts.is_empty() {
            return None;
        }
        for call in self.calls.values() {
            if let At::Node(replica) = call.at
                && let Some((count, _)) = counts.get_mut(&replica)
            {
                *count += 1;
            }
        }
        let fewest = counts.into_iter().min_by_key(|(_, rank)| *rank);
        fewest.filter(|(_, (count, _))| *count < CALLS_PER_NODE_MAX).map(|(replica, _)| replica)
    }

    /// How much longer a call may take, in microseconds, and how many copies have failed at it.
    pub(crate) fn passed_on(&self, number: u64, now: u64) -> (u64, u8) {
        let call = self.calls.get(&number);
        call.map_or((0, 0), |call| (call.until.saturating_sub(now), call.tries))
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.calls.remove(&number)?;
        self.bytes -= pending.bytes();
        if pending.at == At::Waiting {
            self.waiting.remove(&pending.line(), number);
        }
        Some(pending)
    }

    /// A copy here has answered.
    fn answered(&mut self, number: u64, answer: Answer, effects: &mut Effects) {
        if let Some(pending) = self.remove(number) {
            finish(pending, CallOutcome::Answer(answer), effects);
        }
    }

    /// Another node has answered.
    pub(crate) fn called(
        &mut self,
        from: ReplicaId,
        number: u64,
        outcome: CallOutcome,
        now: u64,
        effects: &mut Effects,
    ) {
        let Some(pending) = self.calls.get(&number).filter(|call| call.at == At::Node(from)) else {
            return;
        };
        if let CallOutcome::NoCopy { tries } = outcome {
            let failed = tries.saturating_sub(pending.tries);
            let factory = pending.factory().to_owned();
            if let Some(known) = self.elsewhere.get_mut(&from)
                && known.kinds.remove(&factory).is_some()
            {
                self.gone.insert(factory, now);
            }
            self.again(number, failed, effects);
        } else if let Some(pending) = self.remove(number) {
            finish(pending, outcome, effects);
        }
        self.dispatch_all(effects);
    }

    /// A call is to be made once more, before all others.
    fn again(&mut self, number: u64, failed: u8, effects: &mut Effects) {
        let Some(mut pending) = self.remove(number) else { return };
        pending.tries += failed;
        if pending.tries >= TRIES_MAX {
            let text = format!(
                "{TRIES_MAX} programs of {} have died of this, or have answered with nonsense: see \
                 what they have printed. Nothing was written",
                pending.factory()
            );
            let outcome = CallOutcome::Failed(Problem::new(Code::ProgramFailed, text));
            return finish(pending, outcome, effects);
        }
        if matches!(pending.asker, Asker::Node { .. }) && !self.copies.has(&pending.wanted) {
            let outcome = CallOutcome::NoCopy { tries: pending.tries };
            return finish(pending, outcome, effects);
        }
        pending.at = At::Waiting;
        self.bytes += pending.bytes();
        self.last += 1;
        let (line, tries) = (pending.line(), pending.tries);
        // Of those that copies may die of, the likeliest is last: the others are soon done.
        let is_behind = |other: u64| self.calls[&other].tries >= tries;
        self.waiting.insert(line, self.last, is_behind);
        self.calls.insert(self.last, pending);
    }

    // Time.

    /// Called some times in a second.
    pub(crate) fn tick(&mut self, catalogue: &Catalogue, now: u64, effects: &mut Effects) {
        for program in self.copies.without_kind(|factory| catalogue.outside(factory).is_some()) {
            let text = "the kind was removed, or no program has its handlers any more";
            self.let_go(program, LetGo("UNKNOWN_KIND", text.into()), now, effects);
        }
        let silent = self.copies.ping(now, |program, frame| tell(program, frame, effects));
        for program in silent {
            let text = "it has given no sign of life for three seconds";
            self.let_go(program, LetGo("SILENT", text.into()), now, effects);
        }
        // Who believes wrongly that there is a copy here learns it when it asks for it.
        if now >= self.announce_at && !self.announced.is_empty() {
            self.announce_again(now, effects);
        }
        self.end_late(now, effects);
        self.end_alone(now, effects);
        self.gone.retain(|_, at| now.saturating_sub(*at) < GONE_MICROS);
    }

    fn end_late(&mut self, now: u64, effects: &mut Effects) {
        // A copy is not to be blamed for what it was given at the last moment.
        let is_late = |call: &Pending| match call.at {
            At::Waiting => call.until <= now + GIVEN_MICROS_MIN,
            At::Copy(_) | At::Node(_) => call.until <= now,
        };
        let late = self.calls.iter().filter(|(_, call)| is_late(call));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            let Some(pending) = self.remove(number) else { continue };
            let seconds = CALL_MICROS_MAX / 1_000_000;
            let (factory, link) = (pending.factory(), &pending.call.link);
            let (at, text) = (
                pending.at,
                format!(
                    "the program of {factory} has not answered within {seconds} s for {link}. \
                     Nothing was written"
                ),
            );
            let late = format!("the call for {link} was not answered within {seconds} s");
            finish(pending, CallOutcome::Failed(Problem::new(Code::Timeout, text)), effects);
            if let At::Copy(program) = at {
                self.let_go(program, LetGo("LATE", late), now, effects);
            }
        }
    }

    /// Ends the calls that wait for nobody.
    fn end_alone(&mut self, now: u64, effects: &mut Effects) {
        let mut ended = Vec::new();
        for number in self.waiting.all() {
            if let Some(outcome) = self.nobody(&self.calls[&number], now) {
                ended.push((number, outcome));
            }
        }
        for (number, outcome) in ended {
            if let Some(pending) = self.remove(number) {
                finish(pending, outcome, effects);
            }
        }
    }

    // For people.

    /// The programs of each kind that has any.
    pub(crate) fn programs(&self) -> BTreeMap<String, KindPrograms> {
        let mut kinds: BTreeMap<String, KindPrograms> = BTreeMap::new();
        for copy in self.copies.all() {
            let kind = kinds.entry(copy.factory.clone()).or_default();
            kind.here.push((copy.version.clone(), copy.calls()));
        }
        for (replica, elsewhere) in &self.elsewhere {
            for factory in elsewhere.kinds.keys() {
                kinds.entry(factory.clone()).or_default().nodes.push(*replica);
            }
        }
        kinds
    }
}

/// Whether a program may serve a kind.
fn check(serve: &Serve, catalogue: &Catalogue) -> Result<(), LetGo> {
    if serve.version_min > VERSION || serve.version_max < VERSION {
        let text = format!(
            "this node speaks version {VERSION} of the service protocol, the program versions {} \
             to {}",
            serve.version_min, serve.version_max
        );
        return Err(LetGo("VERSION", text));
    }
    let factory = &serve.factory;
    if catalogue.spec(factory).is_none() {
        let text = format!(
            "no kind is known here at '{factory}': define it (POST /core/factories), and connect \
             again"
        );
        return Err(LetGo("UNKNOWN_KIND", text));
    }
    if catalogue.outside(factory).is_none() {
        let text = format!(
            "no program has handlers of {factory}: its definition names neither 'handlers' nor \
             'actions'"
        );
        return Err(LetGo("NO_HANDLERS", text));
    }
    Ok(())
}

/// The kinds of which something is gone.
fn less(before: &BTreeMap<String, Has>, now: &BTreeMap<String, Has>) -> Vec<String> {
    let is_less =
        |(factory, had): &(&String, &Has)| now.get(*factory).is_none_or(|has| !has.has_all_of(had));
    before.iter().filter(is_less).map(|(factory, _)| factory.clone()).collect()
}

fn tell(program: u64, frame: &FromNode, effects: &mut Effects) {
    let mut bytes = Vec::new();
    frame.put(&mut bytes);
    effects.outputs.push(Output::ProgramTell { program, bytes: vec![bytes.into()] });
}

/// Brings what came of a call to whoever waits for it.
fn finish(pending: Pending, outcome: CallOutcome, effects: &mut Effects) {
    match pending.asker {
        Asker::Leader { group, opening, invocation } => {
            let said = match outcome {
                CallOutcome::Answer(answer) => Said::Answer(answer),
                CallOutcome::Failed(problem) => Said::Nothing(problem),
                CallOutcome::NoCopy { .. } => unreachable!("only another node is told that"),
            };
            let (number, link) = (invocation, pending.call.link);
            let event = PartitionEvent::Said { opening, number, link, said };
            effects.push(Work::Partition(group, event));
        }
        Asker::Node { replica, boot, number } => {
            let frame = ServiceFrame::Called { boot, number, outcome };
            effects.outbox.send(replica, Frame::Service(Box::new(frame)));
        }
    }
}
