//! Programs that have connected: until it is known which instance they are, they wait here.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use immortals::ambrosia::{AmbrosiaDoor, AmbrosiaOptions};
use immortals::{Door, NativeDoor};
use protocol::GroupId;
use protocol::immortal::{HELLO_BYTES_MAX, Hello, ToNode, ToProgram, VERSION, split_frame};
use storage::StoreError;

use crate::io::{Level, Output, ProgramDoor};
use crate::node::{Agenda, Node};
use crate::registry;

/// The most programs that may be connected to a node. One more is turned away.
pub const PROGRAMS_MAX: usize = 1_024;

/// What is known of a connection.
pub(crate) enum Program {
    /// Its first frame has not come as a whole.
    Nameless(BytesMut),
    /// A replica of this instance on this node has it.
    Attached(GroupId),
}

pub(crate) type Programs = BTreeMap<u64, Program>;

impl Node {
    pub(crate) fn program_opened(&mut self, program: u64, door: ProgramDoor) {
        if self.programs.len() >= PROGRAMS_MAX || self.is_stopping() {
            let text = format!("this node is stopping, or has {PROGRAMS_MAX} programs already");
            return self.turn_away(program, nameless(door), "STOPPING", text);
        }
        match door {
            ProgramDoor::Native => {
                self.programs.insert(program, Program::Nameless(BytesMut::new()));
            }
            ProgramDoor::Ambrosia { group } => self.ambrosia_opened(program, group),
        }
    }

    /// It does not say who it is: the ports do.
    fn ambrosia_opened(&mut self, program: u64, group: GroupId) {
        let Some((name, entry)) = self.map.registry.of_group(group) else {
            return self.outputs.push(Output::ProgramClose { program });
        };
        let version = match self.instance(group) {
            Some(instance) => {
                instance.program_version_at_base().unwrap_or(entry.options.current_version)
            }
            None => entry.options.current_version,
        };
        let here = entry.replicas.iter().find(|replica| replica.node == self.config.node_id);
        let upgrade_to = here
            .and_then(|replica| replica.upgrade_version)
            .or(entry.options.upgrade_version)
            .unwrap_or(version);
        let mut door = AmbrosiaDoor::new(AmbrosiaOptions {
            instance: name.clone(),
            active_active: entry.options.active_active,
            committer_id: i32::try_from(group.0).unwrap_or(1),
            program_version: version,
            upgrade_to,
        });
        let mut said = Vec::new();
        if door.hear(Bytes::new(), &mut said).is_err() {
            return self.outputs.push(Output::ProgramClose { program });
        }
        let Some(ToNode::Hello(hello)) = said.into_iter().next() else {
            return self.outputs.push(Output::ProgramClose { program });
        };
        self.introduce(program, Door::Ambrosia(Box::new(door)), hello);
    }

    /// The group of the instance that a program is attached to.
    pub fn group_of_program(&self, program: u64) -> Option<GroupId> {
        match self.programs.get(&program)? {
            Program::Attached(group) => Some(*group),
            Program::Nameless(_) => None,
        }
    }

    pub(crate) fn program_said(&mut self, program: u64, bytes: Bytes) {
        match self.programs.get_mut(&program) {
            None => {}
            Some(Program::Attached(group)) => {
                let input = immortals::Input::Heard { program, bytes };
                self.agenda.push_back(Agenda::Instance(*group, input));
            }
            Some(Program::Nameless(buffer)) => {
                buffer.extend_from_slice(&bytes);
                match split_frame(buffer, HELLO_BYTES_MAX).map(|frame| frame.map(ToNode::read)) {
                    Ok(None) => {}
                    Ok(Some(Ok(ToNode::Hello(hello)))) => {
                        let rest = buffer.split().freeze();
                        self.introduce(program, Door::Native(NativeDoor::default()), hello);
                        if !rest.is_empty() {
                            self.program_said(program, rest);
                        }
                    }
                    Ok(Some(Ok(_))) => {
                        let door = nameless(ProgramDoor::Native);
                        self.turn_away(program, door, "BAD_FRAME", "HELLO comes first".into());
                    }
                    Ok(Some(Err(why))) | Err(why) => {
                        let door = nameless(ProgramDoor::Native);
                        self.turn_away(program, door, "BAD_FRAME", why.0);
                    }
                }
            }
        }
    }

    pub(crate) fn program_drained(&mut self, program: u64, bytes: u64) {
        if let Some(Program::Attached(group)) = self.programs.get(&program) {
            let input = immortals::Input::Drained { program, bytes };
            self.agenda.push_back(Agenda::Instance(*group, input));
        }
    }

    pub(crate) fn program_closed(&mut self, program: u64) {
        if let Some(Program::Attached(group)) = self.programs.remove(&program) {
            let input = immortals::Input::Detached { program };
            self.agenda.push_back(Agenda::Instance(group, input));
        }
    }

    /// It has said who it is.
    fn introduce(&mut self, program: u64, door: Door, hello: Hello) {
        if hello.version_min > VERSION || hello.version_max < VERSION {
            let text = format!(
                "this node speaks version {VERSION} of the immortal protocol, the program versions {} \
                 to {}",
                hello.version_min, hello.version_max
            );
            return self.turn_away(program, door, "VERSION", text);
        }
        let Some(entry) = self.map.registry.instances.get(&hello.instance) else {
            if !self.knows_the_directory() {
                let text = format!(
                    "node '{}' does not know yet which instances there are: connect again",
                    self.config.node_id
                );
                return self.turn_away(program, door, "RELOAD", text);
            }
            let text = registry::unknown(&hello.instance);
            return self.turn_away(program, door, "UNKNOWN_INSTANCE", text);
        };
        let group = entry.group;
        let here = entry.replicas.iter().any(|replica| replica.node == self.config.node_id);
        if !here || !self.replicas.contains_key(&group) {
            let nodes: Vec<&str> = entry.replicas.iter().map(|r| r.node.as_str()).collect();
            let text = format!(
                "node '{}' has no replica of '{}'; these have: {}",
                self.config.node_id,
                hello.instance,
                nodes.join(", ")
            );
            return self.turn_away(program, door, "NOT_HERE", text);
        }
        self.programs.insert(program, Program::Attached(group));
        self.agenda.push_back(Agenda::Attach(group, program, Box::new((door, hello))));
    }

    fn turn_away(&mut self, program: u64, mut door: Door, code: &str, text: String) {
        self.programs.remove(&program);
        if !door.confirms() {
            // It cannot be told why.
            let text = format!("a program of AMBROSIA's is turned away: {text}");
            self.outputs.push(Output::Note { level: Level::Warn, text });
        }
        let mut bytes = Vec::new();
        door.tell(&ToProgram::Error { code: code.into(), text }, &mut bytes);
        self.outputs.push(Output::ProgramTell { program, bytes });
        self.outputs.push(Output::ProgramClose { program });
    }

    pub(crate) fn attach(
        &mut self,
        group: GroupId,
        program: u64,
        door: Door,
        hello: Hello,
    ) -> Result<(), StoreError> {
        let mut outputs = Vec::new();
        self.with_instance(group, |instance, ground| {
            instance.attach(ground, program, door, hello, &mut outputs)
        })?;
        self.instance_outputs(group, outputs);
        Ok(())
    }
}

/// A door for a program that is told one thing only.
fn nameless(door: ProgramDoor) -> Door {
    match door {
        ProgramDoor::Native => Door::Native(NativeDoor::default()),
        ProgramDoor::Ambrosia { group } => {
            Door::Ambrosia(Box::new(AmbrosiaDoor::new(AmbrosiaOptions {
                instance: String::new(),
                active_active: true,
                committer_id: i32::try_from(group.0).unwrap_or(1),
                program_version: 0,
                upgrade_to: 0,
            })))
        }
    }
}
