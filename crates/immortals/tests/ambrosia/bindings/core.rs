//! A core of a few lines: a log, a checkpoint, and who is attached.

use std::collections::VecDeque;

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use protocol::Term;
use protocol::immortal::{Message, SourceKind, ToNode, ToProgram, messages};

use super::binding::Binding;
use crate::wire::{a_fork, block, crc32, deliver, forks};

/// A program behind its door.
pub(crate) struct Attached {
    door: AmbrosiaAdapter,
    pub(crate) binding: Binding,
    /// All forks it has sent in this connection.
    pub(crate) sent: Vec<(String, i64, Vec<u8>)>,
    pub(crate) done: u64,
}

#[derive(Default)]
pub(crate) struct Core {
    log: Vec<(SourceKind, String, Message)>,
    checkpoint: Option<(u64, Vec<u8>)>,
    /// The checkpoint that is coming.
    coming: Vec<u8>,
    pub(crate) impulses: u64,
}

impl Core {
    /// Connects a program and brings it to the end of the log.
    pub(crate) fn start(&mut self, options: AmbrosiaOptions, binding: Binding) -> Attached {
        self.attach(AmbrosiaAdapter::new(options), binding)
    }

    pub(crate) fn start_tested(&mut self, options: AmbrosiaOptions, binding: Binding) -> Attached {
        self.attach(AmbrosiaAdapter::new(options).test_upgrade(), binding)
    }

    fn attach(&mut self, door: AmbrosiaAdapter, binding: Binding) -> Attached {
        let mut program = Attached { door, binding, sent: Vec::new(), done: 0 };
        self.hear(&mut program, b"");
        let Some((input, state)) = self.checkpoint.clone() else {
            self.tell(&mut program, &ToProgram::Genesis);
            assert!(self.checkpoint.is_some(), "GENESIS gives a checkpoint");
            self.deliver_from(&mut [&mut program], 0);
            return program;
        };
        let crc = crc32(&state);
        self.tell(&mut program, &ToProgram::Load { input, bytes: state.len() as u64 });
        let (front, back) = state.split_at(state.len() / 2);
        self.tell(&mut program, &ToProgram::Chunk(Bytes::copy_from_slice(front)));
        self.tell(&mut program, &ToProgram::Chunk(Bytes::copy_from_slice(back)));
        self.tell(&mut program, &ToProgram::LoadEnd { crc });
        self.deliver_from(&mut [&mut program], usize::try_from(input).unwrap());
        let input = self.log.len() as u64;
        self.tell(&mut program, &ToProgram::EndOfReplay { input });
        program
    }

    pub(crate) fn become_primary(&mut self, program: &mut Attached) {
        self.tell(program, &ToProgram::Primary { term: Term(1) });
        self.and_then_impulses(program, b"");
    }

    pub(crate) fn take_checkpoint(&mut self, program: &mut Attached) {
        self.tell(program, &ToProgram::TakeCheckpoint { request: 1 });
        assert_eq!(self.checkpoint.as_ref().unwrap().0, self.log.len() as u64);
    }

    /// A message from the client.
    pub(crate) fn message(&mut self, programs: &mut [&mut Attached], text: &'static str) {
        let message = a_fork(1, text.as_bytes());
        self.log.push((SourceKind::Instance, "client".to_owned(), message));
        self.deliver_from(programs, self.log.len() - 1);
    }

    pub(crate) fn upgrade(&mut self, programs: &mut [&mut Attached], version: u64) {
        self.log.push((SourceKind::Node, String::new(), Message::Upgrade { version }));
        self.deliver_from(programs, self.log.len() - 1);
    }

    /// A key is pressed at a program.
    pub(crate) fn impulse(&mut self, program: &mut Attached, text: &str) {
        let bytes = program.binding.press(text);
        self.and_then_impulses(program, &bytes);
    }

    /// Hears bytes; the impulses among them are logged and delivered.
    fn and_then_impulses(&mut self, program: &mut Attached, bytes: &[u8]) {
        let before = self.log.len();
        self.hear(program, bytes);
        self.deliver_from(&mut [program], before);
    }

    fn deliver_from(&mut self, programs: &mut [&mut Attached], from: usize) {
        let end = self.log.len();
        for place in from..end {
            let (kind, name, message) = self.log[place].clone();
            let blocks = block(kind, &name, &[message]);
            for program in &mut *programs {
                self.tell(program, &deliver(place as u64 + 1, blocks.clone()));
            }
        }
    }

    fn tell(&mut self, program: &mut Attached, frame: &ToProgram) {
        let mut out = Vec::new();
        program.door.tell(frame, &mut out);
        assert_eq!(program.door.trouble(), None);
        for bytes in out {
            let answer = program.binding.read(&bytes);
            self.hear(program, &answer);
        }
    }

    fn hear(&mut self, program: &mut Attached, bytes: &[u8]) {
        let mut said = Vec::new();
        program.door.hear(Bytes::copy_from_slice(bytes), &mut said).unwrap();
        program.sent.extend(forks(&said));
        let mut said = VecDeque::from(said);
        while let Some(frame) = said.pop_front() {
            match frame {
                ToNode::Hello(_) | ToNode::Send { .. } => {}
                ToNode::Done { input } => program.done = input,
                ToNode::Initial(payload) => {
                    self.log.push((SourceKind::Node, String::new(), Message::Start { payload }));
                }
                ToNode::Checkpoint { .. } => self.coming.clear(),
                ToNode::Chunk(bytes) => self.coming.extend_from_slice(&bytes),
                ToNode::CheckpointEnd { crc } => {
                    assert_eq!(crc, crc32(&self.coming));
                    self.checkpoint = Some((program.done, std::mem::take(&mut self.coming)));
                }
                ToNode::Impulse { destination, message, .. } => {
                    assert_eq!(destination, "", "to itself");
                    let message = messages(message).next().unwrap().unwrap();
                    self.log.push((SourceKind::Impulses, "client".to_owned(), message));
                    self.impulses += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
