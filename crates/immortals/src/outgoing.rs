//! What the program says to other instances, on its way: one line to each destination, with a window
//! of its own, so that one that is away holds up nobody else.

use std::collections::VecDeque;

use protocol::GroupId;
use storage::StoreError;

use crate::instance::Instance;
use crate::io::{Between, Context, Lane, Output};

/// So many bytes may be on their way to a destination without being confirmed.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;

/// A destination that does not answer is asked again after so long, in microseconds.
const ASK_AGAIN_MICROS: u64 = 300_000;

/// Messages are sent again from the same number at most so often, in microseconds.
const BEGIN_AGAIN_MICROS: u64 = 50_000;

/// How a destination stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// To be asked how far it is.
    Unknown,
    Asked {
        at: u64,
    },
    /// Messages go out from this number on.
    Open {
        next: u64,
    },
}

/// The way to one destination.
#[derive(Debug)]
pub(crate) struct Line {
    course: Course,
    /// On their way: last number and bytes.
    sent: VecDeque<(u64, usize)>,
    sent_bytes: usize,
    heard: u64,
    /// From where it was begun again last, and when.
    begun_again: (u64, u64),
}

impl Default for Line {
    fn default() -> Self {
        Self {
            course: Course::Unknown,
            sent: VecDeque::new(),
            sent_bytes: 0,
            heard: 0,
            begun_again: (0, 0),
        }
    }
}

impl Line {
    fn confirm(&mut self, up_to: u64) {
        while self.sent.front().is_some_and(|(last, _)| *last <= up_to) {
            let (_, bytes) = self.sent.pop_front().expect("there is a front");
            self.sent_bytes -= bytes;
        }
    }

    /// The destination wants all from there on. It says so for each message that came too early: once
    /// is enough, and if that is lost, too, it is asked when it is silent.
    fn begin_again(&mut self, next: u64, now: u64) {
        let (former, at) = self.begun_again;
        let is_open = matches!(self.course, Course::Open { .. });
        if is_open && former == next && now.saturating_sub(at) < BEGIN_AGAIN_MICROS {
            return;
        }
        self.begun_again = (next, now);
        self.begin_anew(Course::Open { next });
        // What the destination has and has not logged is on its way, too: it must say so some day.
        self.sent.push_back((next.saturating_sub(1), 0));
    }

    fn begin_anew(&mut self, course: Course) {
        self.course = course;
        self.sent.clear();
        self.sent_bytes = 0;
    }
}

impl Instance {
    /// Sends whatever may go, to every destination for which something was said.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn pump_all(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(office) = self.office.as_mut().filter(|office| office.is_primary) else {
            return Ok(());
        };
        for (destination, impulses) in std::mem::take(&mut office.touched) {
            self.pump(ground, &destination, impulses, outputs)?;
        }
        self.pump_own(ground)
    }

    /// Sends what may go to one destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn pump(
        &mut self,
        ground: &mut Context<'_>,
        destination: &str,
        impulses: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let sends_nothing = self.sends_nothing();
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else {
            return Ok(());
        };
        if destination == self.name || !office.is_primary {
            return Ok(());
        }
        if sends_nothing && !impulses {
            // What the new version says leaves when it is logged that there is one.
            office.touched.insert((destination.to_owned(), false));
            return Ok(());
        }
        let Some(to) = ground.entries.resolve(destination) else { return Ok(()) };
        let (stream, lane) = if impulses {
            let Some((stream, _)) = office.impulses.get(destination) else { return Ok(()) };
            (stream, Lane::Impulses { session: office.impulse_session })
        } else {
            let Some(stream) = session.voice.streams.get(destination) else { return Ok(()) };
            (stream, Lane::Stream)
        };
        if stream.kept.is_empty() {
            return Ok(());
        }
        let (store, space, now) = (&*ground.store, ground.space, ground.now.steady_micros);
        let line = office.lines.entry((destination.to_owned(), impulses)).or_default();
        match line.course {
            Course::Unknown => {
                line.begin_anew(Course::Asked { at: now });
                outputs.push(Output::Between { to, message: Between::Probe { lane } });
            }
            Course::Asked { .. } => {}
            Course::Open { mut next } => {
                next = next.max(stream.floor());
                while line.sent_bytes < WINDOW_BYTES
                    && let Some(piece) =
                        self.shelf.piece(store, &space, (destination, stream), next)?
                {
                    next = piece.first + piece.count;
                    line.sent.push_back((next - 1, piece.messages.len()));
                    line.sent_bytes += piece.messages.len();
                    let message = Between::Send {
                        lane,
                        name: self.name.clone(),
                        floor: stream.floor(),
                        first: piece.first,
                        count: piece.count,
                        messages: piece.messages,
                    };
                    outputs.push(Output::Between { to, message });
                }
                line.course = Course::Open { next };
            }
        }
        Ok(())
    }

    /// A destination says how far it has come.
    pub(crate) fn confirmed_by(
        &mut self,
        ground: &mut Context<'_>,
        from: GroupId,
        lane: Lane,
        (logged, again): (u64, Option<u64>),
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let impulses = match (lane, &self.office) {
            (_, None) => return Ok(()),
            (Lane::Stream, _) => false,
            (Lane::Impulses { session }, Some(office)) if session == office.impulse_session => true,
            (Lane::Impulses { .. }, _) => return Ok(()),
        };
        let office = self.office.as_mut().expect("it was just looked at");
        let names: Vec<String> = office
            .lines
            .keys()
            .filter(|(name, of_impulses)| {
                *of_impulses == impulses && ground.entries.resolve(name) == Some(from)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let office = self.office.as_mut().expect("nothing closes it meanwhile");
            let line = office.lines.get_mut(&(name.clone(), impulses)).expect("it was listed");
            line.heard = ground.now.steady_micros;
            if let Some(next) = again {
                line.begin_again(next, line.heard);
            }
            line.confirm(logged);
            if impulses {
                self.impulses_confirmed(&name, logged);
                self.pump(ground, &name, true, outputs)?;
            } else if let Some(session) = &mut self.session {
                // Messages that were sent by us are ours, so they can be counted.
                if session.voice.confirmed(&name, logged).is_ok() {
                    self.note_trim(&name, logged);
                }
                if let Some(office) = &mut self.office {
                    office.touched.insert((name, false));
                }
            }
        }
        Ok(())
    }

    /// Another owner, or one that is reached again: it is asked how far it is.
    pub(crate) fn moved(
        &mut self,
        ground: &mut Context<'_>,
        group: GroupId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.ask_anew(ground, outputs, |_, name, entries| entries.resolve(name) == Some(group))
    }

    /// Asks again who does not answer.
    pub(crate) fn mind_lines(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        let silent = |since: u64| now.saturating_sub(since) > ASK_AGAIN_MICROS;
        self.ask_anew(ground, outputs, |line, _, _| match line.course {
            Course::Unknown => true,
            Course::Asked { at } => silent(at),
            Course::Open { .. } => !line.sent.is_empty() && silent(line.heard),
        })?;
        let Some(office) = &mut self.office else { return Ok(()) };
        // Those whose destination was not there are on no line yet.
        let impulses = office.impulses.iter().filter(|(_, (stream, _))| !stream.kept.is_empty());
        let impulses: Vec<String> = impulses.map(|(name, _)| name.clone()).collect();
        for name in impulses {
            self.pump(ground, &name, true, outputs)?;
        }
        let Some(office) = &mut self.office else { return Ok(()) };
        if let Some(session) = &self.session {
            let waiting =
                session.voice.streams.iter().filter(|(_, stream)| !stream.kept.is_empty());
            office.touched.extend(waiting.map(|(name, _)| (name.clone(), false)));
        }
        Ok(())
    }

    fn ask_anew(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
        which: impl Fn(&Line, &str, &dyn crate::io::Entries) -> bool,
    ) -> Result<(), StoreError> {
        let Some(office) = &mut self.office else { return Ok(()) };
        let mut asked = Vec::new();
        for ((name, impulses), line) in &mut office.lines {
            if which(line, name, ground.entries) {
                line.begin_anew(Course::Unknown);
                asked.push((name.clone(), *impulses));
            }
        }
        for (name, impulses) in asked {
            self.pump(ground, &name, impulses, outputs)?;
        }
        Ok(())
    }
}
