//! Programs that have connected. They wait here until it is known which instance they are.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use cluster::{InstanceEntry, unknown_instance};
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use immortals::{Adapter, Input, NativeAdapter};
use protocol::GroupId;
use protocol::immortal::{HELLO_BYTES_MAX, Hello, ToNode, ToProgram, VERSION, split_frame};

use crate::io::{Level, Output, ProgramDoor};
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
}

#[derive(Default)]
pub(crate) struct Programs(BTreeMap<u64, Program>);

/// Why a program is not let in: the code of the protocol, and a text.
struct TurnedAway(&'static str, String);

impl Programs {
    /// The group of the instance that a program is attached to.
    pub(crate) fn group_of(&self, program: u64) -> Option<GroupId> {
        match self.0.get(&program)? {
            Program::Attached(group) => Some(*group),
            Program::Nameless(_) => None,
        }
    }

    pub(crate) fn opened(
        &mut self,
        program: u64,
        door: ProgramDoor,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        if self.0.len() >= PROGRAMS_MAX || view.is_stopping {
            let text = format!("this node is stopping, or has {PROGRAMS_MAX} programs already");
            turn_away(program, nameless(door), TurnedAway("STOPPING", text), effects);
            return;
        }
        match door {
            ProgramDoor::Native => {
                self.0.insert(program, Program::Nameless(BytesMut::new()));
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
        let buffer = match self.0.get_mut(&program) {
            None => return,
            Some(Program::Attached(group)) => {
                return effects.instance(*group, Input::Read { program, bytes });
            }
            Some(Program::Nameless(buffer)) => buffer,
        };
        buffer.extend_from_slice(&bytes);
        let why = match split_frame(buffer, HELLO_BYTES_MAX).map(|frame| frame.map(ToNode::read)) {
            Ok(None) => return,
            Ok(Some(Ok(ToNode::Hello(hello)))) => {
                let rest = buffer.split().freeze();
                let adapter = Adapter::Native(NativeAdapter::default());
                self.introduce(program, adapter, hello, view, effects);
                if !rest.is_empty() {
                    self.said(program, rest, view, effects);
                }
                return;
            }
            Ok(Some(Ok(_))) => "HELLO comes first".into(),
            Ok(Some(Err(why))) | Err(why) => why.0,
        };
        self.0.remove(&program);
        let adapter = nameless(ProgramDoor::Native);
        turn_away(program, adapter, TurnedAway("BAD_FRAME", why), effects);
    }

    pub(crate) fn drained(&mut self, program: u64, bytes: u64, effects: &mut Effects) {
        if let Some(group) = self.group_of(program) {
            effects.instance(group, Input::Written { program, bytes });
        }
    }

    pub(crate) fn closed(&mut self, program: u64, effects: &mut Effects) {
        if let Some(Program::Attached(group)) = self.0.remove(&program) {
            effects.instance(group, Input::Detached { program });
        }
    }

    /// The instance has let the program go.
    pub(crate) fn gone(&mut self, program: u64) {
        self.0.remove(&program);
    }

    /// Lets the programs go whose instance has no replica here any more.
    pub(crate) fn close_orphans(
        &mut self,
        is_here: impl Fn(GroupId) -> bool,
        effects: &mut Effects,
    ) {
        self.0.retain(|program, known| {
            let is_kept = match known {
                Program::Attached(group) => is_here(*group),
                Program::Nameless(_) => true,
            };
            if !is_kept {
                effects.outputs.push(Output::ProgramClose { program: *program });
            }
            is_kept
        });
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
                self.0.insert(program, Program::Attached(group));
                effects.push(Work::Attach(group, program, Box::new((adapter, hello))));
            }
            Err(why) => {
                self.0.remove(&program);
                turn_away(program, adapter, why, effects);
            }
        }
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
