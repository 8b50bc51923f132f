//! The programs that are attached here and have the handlers of a kind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use protocol::immortal::split_frame;
use protocol::service::{Answer, FromNode, FromProgram, Has, Serve};
use serde::de::IgnoredAny;

use super::lines::Wanted;

/// The longest frame of such a program, in bytes: the largest state that there may be, and its
/// head.
pub(crate) const FRAME_BYTES_MAX: usize = 9 << 20;

/// How many bytes of frames that have not come as a whole all programs may hold here together.
pub(super) const HALF_BYTES_MAX: usize = 64 << 20;

/// The most calls that a program may have at a time, however many it asks for.
const CALLS_PER_COPY_MAX: usize = 1_024;

/// The most bytes of calls that a program may have at a time; a larger call goes alone.
const CALL_BYTES_PER_COPY_MAX: usize = 16 << 20;

/// The most programs of services at a node.
const COPIES_MAX: usize = 256;

/// How often a program is asked for a sign of life, in microseconds.
const PING_MICROS: u64 = 1_000_000;

/// How long it may take to give one, in microseconds.
const PONG_MICROS_MAX: u64 = 3_000_000;

/// A state up to this length is looked through before it is taken, in bytes.
const LOOKED_THROUGH_BYTES: usize = 64 << 10;

/// One program that is attached.
pub(crate) struct Copy {
    pub(crate) factory: String,
    pub(crate) version: String,
    has: Has,
    calls_max: usize,
    /// The calls that it has, with their bytes.
    calls: BTreeMap<u64, usize>,
    /// Copies have failed at the call that it has: it gets no other one beside it.
    is_alone: bool,
    /// The call that it has answered with nonsense.
    pub(super) blamed: Option<u64>,
    /// The last call that it was given: of those that have as few, the one that waits longest is
    /// next.
    given: u64,
    /// What of a frame has come so far.
    half: BytesMut,
    /// It wants no more calls.
    is_leaving: bool,
    /// When it was asked for a sign of life, if that has not come.
    pinged: Option<u64>,
    ping_at: u64,
}

#[derive(Default)]
pub(crate) struct Copies {
    copies: BTreeMap<u64, Copy>,
    half_bytes: usize,
    pings: u64,
}

/// Why a program is let go: the code of the protocol, and a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LetGo(pub(crate) &'static str, pub(crate) String);

/// What a program has said.
pub(crate) enum Heard {
    Answer {
        call: u64,
        answer: Answer,
    },
    /// It wants no more calls.
    Leaves,
}

impl Copies {
    /// # Errors
    /// When there are too many.
    pub(crate) fn attach(&mut self, program: u64, serve: Serve, now: u64) -> Result<(), LetGo> {
        if self.copies.len() >= COPIES_MAX {
            let text = format!("this node has {COPIES_MAX} programs of services already");
            return Err(LetGo("BUSY", text));
        }
        let calls_max = usize::try_from(serve.calls_max).unwrap_or(CALLS_PER_COPY_MAX);
        let copy = Copy {
            factory: serve.factory,
            version: serve.program_version,
            has: serve.has,
            calls_max: calls_max.clamp(1, CALLS_PER_COPY_MAX),
            calls: BTreeMap::new(),
            is_alone: false,
            blamed: None,
            given: 0,
            half: BytesMut::new(),
            is_leaving: false,
            pinged: None,
            ping_at: now + PING_MICROS,
        };
        self.copies.insert(program, copy);
        Ok(())
    }

    /// Takes it away, and gives the calls that it has not answered.
    pub(crate) fn remove(&mut self, program: u64) -> Option<(Copy, Vec<u64>)> {
        let mut copy = self.copies.remove(&program)?;
        self.half_bytes -= copy.half.len();
        let calls = std::mem::take(&mut copy.calls).into_keys().collect();
        Some((copy, calls))
    }

    /// # Errors
    /// When it does not keep to the protocol. What it has said before that was heard.
    pub(crate) fn said(
        &mut self,
        program: u64,
        bytes: &Bytes,
        heard: &mut Vec<Heard>,
    ) -> Result<(), LetGo> {
        let Some(copy) = self.copies.get_mut(&program) else { return Ok(()) };
        self.half_bytes -= copy.half.len();
        copy.half.extend_from_slice(bytes);
        let read = copy.read(heard);
        self.half_bytes += copy.half.len();
        read?;
        if self.half_bytes > HALF_BYTES_MAX {
            let text = "the programs of this node have too much begun and not sent to its end";
            return Err(LetGo("BUSY", text.into()));
        }
        Ok(())
    }

    /// The copy that takes a call of that many bytes, but for those that are kept free: the one
    /// with the fewest calls.
    pub(super) fn with_room(
        &self,
        wanted: &Wanted,
        bytes: usize,
        kept_free: &BTreeSet<u64>,
    ) -> Option<u64> {
        let fits = |program: u64, copy: &Copy| {
            copy.serves(wanted) && copy.has_room(bytes) && !kept_free.contains(&program)
        };
        self.with_fewest(fits)
    }

    /// The copy that would be free first for a call that goes alone, and whether it is free.
    pub(super) fn free_first(
        &self,
        wanted: &Wanted,
        kept_free: &BTreeSet<u64>,
    ) -> Option<(u64, bool)> {
        let fits = |program: u64, copy: &Copy| copy.serves(wanted) && !kept_free.contains(&program);
        let program = self.with_fewest(fits)?;
        Some((program, self.copies[&program].calls.is_empty()))
    }

    fn with_fewest(&self, fits: impl Fn(u64, &Copy) -> bool) -> Option<u64> {
        let copies = self.copies.iter().filter(|(program, copy)| fits(**program, copy));
        copies.min_by_key(|(_, copy)| (copy.calls.len(), copy.given)).map(|(program, _)| *program)
    }

    pub(super) fn give(&mut self, program: u64, call: u64, bytes: usize, is_suspect: bool) {
        let copy = self.copies.get_mut(&program).expect("it has room, so it is there");
        assert!(!is_suspect || copy.calls.is_empty(), "a call that may be deadly goes alone");
        copy.calls.insert(call, bytes);
        copy.is_alone = is_suspect;
        copy.given = call;
    }

    /// What those that take calls have, by the factories of their kinds.
    pub(super) fn kinds(&self) -> BTreeMap<String, Has> {
        let mut kinds: BTreeMap<String, Has> = BTreeMap::new();
        for copy in self.copies.values().filter(|copy| !copy.is_leaving) {
            kinds.entry(copy.factory.clone()).or_default().add(&copy.has);
        }
        kinds
    }

    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        self.copies.values().any(|copy| copy.serves(wanted))
    }

    /// The versions of the programs that serve a kind, whatever they have.
    pub(super) fn versions(&self, factory: &str) -> BTreeSet<&str> {
        let here = self.copies.values().filter(|copy| copy.factory == factory);
        here.filter(|copy| !copy.is_leaving).map(|copy| copy.version.as_str()).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Copy> {
        self.copies.values()
    }

    /// Those whose kinds have no program any more.
    pub(crate) fn without_kind(&self, has: impl Fn(&str) -> bool) -> Vec<u64> {
        let gone = self.copies.iter().filter(|(_, copy)| !has(&copy.factory));
        gone.map(|(program, _)| *program).collect()
    }

    /// Asks for signs of life. Gives those that have given none for too long.
    pub(crate) fn ping(&mut self, now: u64, mut tell: impl FnMut(u64, &FromNode)) -> Vec<u64> {
        let mut silent = Vec::new();
        for (program, copy) in &mut self.copies {
            match copy.pinged {
                Some(at) if now.saturating_sub(at) > PONG_MICROS_MAX => silent.push(*program),
                None if now >= copy.ping_at => {
                    self.pings += 1;
                    copy.pinged = Some(now);
                    copy.ping_at = now + PING_MICROS;
                    tell(*program, &FromNode::Ping { number: self.pings });
                }
                Some(_) | None => {}
            }
        }
        silent
    }
}

impl Copy {
    fn has_room(&self, bytes: usize) -> bool {
        let held: usize = self.calls.values().sum();
        let fits = self.calls.is_empty() || held + bytes <= CALL_BYTES_PER_COPY_MAX;
        let is_kept = self.is_alone && !self.calls.is_empty();
        fits && self.calls.len() < self.calls_max && !is_kept
    }

    fn serves(&self, wanted: &Wanted) -> bool {
        self.factory == wanted.factory && wanted.is_in(&self.has) && !self.is_leaving
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    fn read(&mut self, heard: &mut Vec<Heard>) -> Result<(), LetGo> {
        let garbled = |why: protocol::immortal::Garbled| LetGo("BAD_FRAME", why.0);
        while let Some(frame) = split_frame(&mut self.half, FRAME_BYTES_MAX).map_err(garbled)? {
            match FromProgram::read(frame).map_err(garbled)? {
                FromProgram::Answer { call, answer } => {
                    if self.calls.remove(&call).is_none() {
                        let text = format!(
                            "call {call} was not made, or was answered already; each is answered \
                             once"
                        );
                        return Err(LetGo("BAD_ANSWER", text));
                    }
                    if !is_answer(&answer) {
                        // It goes to another copy.
                        self.calls.insert(call, 0);
                        self.blamed = Some(call);
                        let text = format!("the answer to call {call} is no JSON object");
                        return Err(LetGo("BAD_ANSWER", text));
                    }
                    heard.push(Heard::Answer { call, answer });
                }
                FromProgram::Leave => {
                    self.is_leaving = true;
                    heard.push(Heard::Leaves);
                }
                FromProgram::Pong { .. } => self.pinged = None,
                FromProgram::Serve(_) => {
                    let text = "SERVE comes once, as the first frame".to_owned();
                    return Err(LetGo("BAD_FRAME", text));
                }
            }
        }
        Ok(())
    }
}

/// Whether it could be one. A long state is judged elsewhere, as looking through it takes time.
fn is_answer(answer: &Answer) -> bool {
    let Some(state) = answer.state() else { return true };
    let text = state.trim_ascii();
    text.starts_with(b"{")
        && text.ends_with(b"}")
        && (text.len() > LOOKED_THROUGH_BYTES || serde_json::from_slice::<IgnoredAny>(text).is_ok())
}
