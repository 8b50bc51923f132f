//! Programs that have connected. They wait here until it is known which instance they are.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use cluster::{InstanceEntry, unknown_instance};
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use immortals::{Adapter, Input, NativeAdapter};
use protocol::immortal::{
    Garbled, HELLO_BYTES_MAX, Hello, ToNode, ToProgram, VERSION, split_frame,
};
use protocol::service::{FromProgram, SERVE, Serve};
use protocol::{GroupId, ReplicaId};

use crate::frame::Frame;
use crate::io::{Level, Output, ProgramDoor};
use crate::serving::words::{KindPrograms, ServiceFrame, ServiceWork};
use crate::serving::{LetGo, Serving};
use crate::view::View;
use crate::work::{Effects, Work};

/// The most programs that may be connected to a node. One more is turned away.
pub const PROGRAMS_MAX: usize = 1_024;

/// What is known of a connection.
enum Program {
    /// Its first frame has not come as a whole.
    Nameless(BytesMut),
    /// A replica of this instance on this node has it.
    Attached(GroupId),
    /// It has the handlers of a kind.
    Serving,
}

#[derive(Default)]
pub(crate) struct Programs {
    connected: BTreeMap<u64, Program>,
    serving: Serving,
}

/// Why a program is not let in: the code of the protocol, and a text.
struct TurnedAway(&'static str, String);

impl Programs {
    /// The group of the instance that a program is attached to.
    pub(crate) fn group_of(&self, program: u64) -> Option<GroupId> {
        match self.connected.get(&program)? {
            Program::Attached(group) => Some(*group),
            Program::Nameless(_) | Program::Serving => None,
        }
    }

    pub(crate) fn opened(
        &mut self,
        program: u64,
        door: ProgramDoor,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        if self.connected.len() >= PROGRAMS_MAX || view.is_stopping {
            let text = format!("this node is stopping, or has {PROGRAMS_MAX} programs already");
            turn_away(program, nameless(door), TurnedAway("STOPPING", text), effects);
            return;
        }
        match door {
            ProgramDoor::Native => {
                self.connected.insert(program, Program::Nameless(BytesMut::new()));
            }
            // Such a program does not say who it is: its ports do.
            ProgramDoor::Ambrosia { group } => match ambrosia_hello(group, view) {
                Some((adapter, hello)) => {
                    self.introduce(program, adapter, hello, view, effects);
                }
                None => effects.outputs.push(Output::ProgramClose { program }),
            },
        }
    }

    pub(crate) fn said(
        &mut self,
        program: u64,
        bytes: Bytes,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let buffer = match self.connected.get_mut(&program) {
            None => return,
            Some(Program::Attached(group)) => {
                return effects.instance(*group, Input::Read { program, bytes });
            }
            Some(Program::Serving) => return effects.service(ServiceWork::Said(program, bytes)),
            Some(Program::Nameless(buffer)) => buffer,
        };
        buffer.extend_from_slice(&bytes);
        let why = match split_frame(buffer, HELLO_BYTES_MAX).map(|frame| frame.map(first)) {
            Ok(None) => return,
            Ok(Some(Ok(First::Serve(serve)))) => {
                let rest = buffer.split().freeze();
                self.connected.insert(program, Program::Serving);
                return effects.service(ServiceWork::Serve(program, serve, rest));
            }
            Ok(Some(Ok(First::Hello(hello)))) => {
                let rest = buffer.split().freeze();
                let adapter = Adapter::Native(NativeAdapter::default());
                self.introduce(program, adapter, hello, view, effects);
                if !rest.is_empty() {
                    self.said(program, rest, view, effects);
                }
                return;
            }
            Ok(Some(Err(why))) | Err(why) => why.0,
        };
        self.connected.remove(&program);
        let adapter = nameless(ProgramDoor::Native);
        turn_away(program, adapter, TurnedAway("BAD_FRAME", why), effects);
    }

    pub(crate) fn drained(&mut self, program: u64, bytes: u64, effects: &mut Effects) {
        if let Some(group) = self.group_of(program) {
            effects.instance(group, Input::Written { program, bytes });
        }
    }

    pub(crate) fn closed(&mut self, program: u64, effects: &mut Effects) {
        match self.connected.remove(&program) {
            Some(Program::Attached(group)) => {
                effects.instance(group, Input::Detached { program });
            }
            Some(Program::Serving) => effects.service(ServiceWork::Closed(program)),
            Some(Program::Nameless(_)) | None => {}
        }
    }

    /// The instance has let the program go.
    pub(crate) fn gone(&mut self, program: u64) {
        self.connected.remove(&program);
    }

    /// Lets the programs go whose instance has no replica here any more.
    pub(crate) fn close_orphans(
        &mut self,
        is_here: impl Fn(GroupId) -> bool,
        effects: &mut Effects,
    ) {
        self.connected.retain(|program, known| {
            let is_kept = match known {
                Program::Attached(group) => is_here(*group),
                Program::Nameless(_) | Program::Serving => true,
            };
            if !is_kept {
                effects.outputs.push(Output::ProgramClose { program: *program });
            }
            is_kept
        });
    }

    // Programs that have the handlers of kinds.

    pub(crate) fn service(&mut self, work: ServiceWork, view: &View<'_>, effects: &mut Effects) {
        let now = view.now.steady_micros;
        match work {
            ServiceWork::Serve(program, serve, rest) => {
                self.serve((program, serve, &rest), view, effects);
            }
            ServiceWork::Said(program, bytes) => self.serving.said(program, &bytes, now, effects),
            ServiceWork::Closed(program) => self.serving.closed(program, now, effects),
            ServiceWork::Ask { group, opening, number, call } => {
                self.serving.ask((group, opening, number), call, now, effects);
            }
            ServiceWork::PassOn { replica, number, call } => {
                let boot = view.config.sandbox.boot;
                let (left_micros, tries) = self.serving.passed_on(number, now);
                let call = Box::new(call);
                let frame = ServiceFrame::Call { boot, number, left_micros, tries, call };
                effects.outbox.send(replica, Frame::Service(Box::new(frame)));
            }
            ServiceWork::Tell(kinds) => {
                // By the replica, as all else is sent to it: what a node says later it hears later.
                for replica in view.links.replicas() {
                    let frame = ServiceFrame::Serves(kinds.clone());
                    effects.outbox.send(replica, Frame::Service(Box::new(frame)));
                }
            }
            ServiceWork::Reached(replica) => self.serving.reached(replica, effects),
        }
    }

    /// Another node says something about them.
    pub(crate) fn service_frame(
        &mut self,
        from: ReplicaId,
        frame: ServiceFrame,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let now = view.now.steady_micros;
        match frame {
            ServiceFrame::Serves(kinds) => self.serving.serves(from, kinds, now, effects),
            ServiceFrame::Call { boot, number, left_micros, tries, call } => {
                let passed_on = (left_micros, tries, now);
                self.serving.ask_for((from, boot, number), *call, passed_on, effects);
            }
            ServiceFrame::Called { boot, number, outcome } if boot == view.config.sandbox.boot => {
                self.serving.called(from, number, outcome, now, effects);
            }
            // For an earlier start of this node.
            ServiceFrame::Called { .. } => {}
        }
    }

    /// No link leads to a node any more.
    pub(crate) fn node_lost(&mut self, replica: ReplicaId, view: &View<'_>, effects: &mut Effects) {
        self.serving.lost(replica, view.now.steady_micros, effects);
    }

    /// Called some times in a second.
    pub(crate) fn tick(&mut self, view: &View<'_>, effects: &mut Effects) {
        self.serving.tick(view.catalogue(), view.now.steady_micros, effects);
    }

    /// Of each kind that has any, for people.
    pub(crate) fn of_kinds(&self) -> BTreeMap<String, KindPrograms> {
        self.serving.programs()
    }

    /// `rest`: what it has said behind its first frame.
    fn serve(
        &mut self,
        (program, serve, rest): (u64, Serve, &Bytes),
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let now = view.now.steady_micros;
        let known = (view.config.node_id.as_str(), view.catalogue(), now);
        match self.serving.attach(program, serve, known, effects) {
            Ok(()) if rest.is_empty() => {}
            Ok(()) => self.serving.said(program, rest, now, effects),
            Err(LetGo(code, text)) => {
                self.connected.remove(&program);
                let adapter = nameless(ProgramDoor::Native);
                turn_away(program, adapter, TurnedAway(code, text), effects);
            }
        }
    }

    /// The program has said who it is.
    fn introduce(
        &mut self,
        program: u64,
        adapter: Adapter,
        hello: Hello,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        match admit(&hello, view) {
            Ok(group) => {
                self.connected.insert(program, Program::Attached(group));
                effects.push(Work::Attach(group, program, Box::new((adapter, hello))));
            }
            Err(why) => {
                self.connected.remove(&program);
                turn_away(program, adapter, why, effects);
            }
        }
    }
}

/// The first frame of a program. By its type it is known which protocol it speaks.
enum First {
    Hello(Hello),
    Serve(Serve),
}

fn first(frame: Bytes) -> Result<First, Garbled> {
    if frame.first() == Some(&SERVE) {
        return match FromProgram::read(frame)? {
            FromProgram::Serve(serve) => Ok(First::Serve(serve)),
            _ => Err(Garbled("SERVE comes first".into())),
        };
    }
    match ToNode::read(frame)? {
        ToNode::Hello(hello) => Ok(First::Hello(hello)),
        _ => Err(Garbled("HELLO comes first".into())),
    }
}

/// The group of the instance that a program is a copy of.
fn admit(hello: &Hello, view: &View<'_>) -> Result<GroupId, TurnedAway> {
    if hello.version_min > VERSION || hello.version_max < VERSION {
        let text = format!(
            "this node speaks version {VERSION} of the immortal protocol, the program versions {} \
             to {}",
            hello.version_min, hello.version_max
        );
        return Err(TurnedAway("VERSION", text));
    }
    let node = &view.config.node_id;
    let Some(entry) = view.topology().instance(&hello.instance) else {
        if view.knows_the_directory() {
            return Err(TurnedAway("UNKNOWN_INSTANCE", unknown_instance(&hello.instance)));
        }
        let text =
            format!("node '{node}' does not know yet which instances there are: connect again");
        return Err(TurnedAway("RELOAD", text));
    };
    let is_here = entry.replicas.iter().any(|replica| replica.node == *node);
    if is_here && view.shard.has(entry.group) {
        return Ok(entry.group);
    }
    let nodes: Vec<&str> = entry.replicas.iter().map(|r| r.node.as_str()).collect();
    let text = format!(
        "node '{node}' has no replica of '{}'; these have: {}",
        hello.instance,
        nodes.join(", ")
    );
    Err(TurnedAway("NOT_HERE", text))
}

/// The adapter for a program at AMBROSIA's ports of an instance, and the HELLO that the adapter
/// says for the program.
fn ambrosia_hello(group: GroupId, view: &View<'_>) -> Option<(Adapter, Hello)> {
    let entry: &InstanceEntry = view.topology().instance_of(group)?;
    let at_base = view.instance(group).and_then(immortals::Instance::program_version_at_base);
    let version = at_base.unwrap_or(entry.options.current_version);
    let here = entry.replicas.iter().find(|replica| replica.node == view.config.node_id);
    let upgrade_to = here
        .and_then(|replica| replica.upgrade_version)
        .or(entry.options.upgrade_version)
        .unwrap_or(version);
    let mut adapter = AmbrosiaAdapter::new(AmbrosiaOptions {
        instance: entry.name.clone(),
        active_active: entry.options.active_active,
        committer_id: i32::try_from(group.0).unwrap_or(1),
        program_version: version,
        upgrade_to,
    });
    let mut said = Vec::new();
    adapter.hear(Bytes::new(), &mut said).ok()?;
    match said.into_iter().next()? {
        ToNode::Hello(hello) => Some((Adapter::Ambrosia(Box::new(adapter)), hello)),
        _ => None,
    }
}

/// A program has said something to a node that belongs to no cluster so far.
pub(crate) fn turn_away_early(program: u64, door: ProgramDoor, effects: &mut Effects) {
    let text = "this node is not part of a cluster yet: connect again".to_owned();
    turn_away(program, nameless(door), TurnedAway("RELOAD", text), effects);
}

fn turn_away(program: u64, mut adapter: Adapter, why: TurnedAway, effects: &mut Effects) {
    let TurnedAway(code, text) = why;
    if !adapter.confirms() {
        // AMBROSIA's protocol has no way to tell the program why.
        effects.note(Level::Warn, format!("a program of AMBROSIA's is turned away: {text}"));
    }
    let mut bytes = Vec::new();
    adapter.tell(&ToProgram::Error { code: code.into(), text }, &mut bytes);
    effects.outputs.push(Output::ProgramTell { program, bytes });
    effects.outputs.push(Output::ProgramClose { program });
}

/// An adapter for a program that is told nothing but why it is turned away.
fn nameless(door: ProgramDoor) -> Adapter {
    match door {
        ProgramDoor::Native => Adapter::Native(NativeAdapter::default()),
        ProgramDoor::Ambrosia { group } => {
            Adapter::Ambrosia(Box::new(AmbrosiaAdapter::new(AmbrosiaOptions {
                instance: String::new(),
                active_active: true,
                committer_id: i32::try_from(group.0).unwrap_or(1),
                program_version: 0,
                upgrade_to: 0,
            })))
        }
    }
}
