//! When two programs send different things: which message it was, and what each of them sent.
//!
//! A digest tells only that something differs. So the replica whose program was found to differ
//! shows the others what that program sent last. A replica that still knows what its own program
//! sent there answers with the first difference.

use protocol::ReplicaId;
use protocol::immortal::Message;

use crate::describe::describe;
use crate::history::entry::Mark;
use crate::io::Output;
use crate::machine::instance::Instance;
use crate::wire::{Diverged, Peer, RecentOutput};

impl Instance {
    /// The program here differs from what was recorded. It is fenced, unless it is the last copy:
    /// without it there would be nobody to go on.
    pub(crate) fn has_diverged(&mut self, mark: &Mark, outputs: &mut Vec<Output>) {
        // After the first difference all sums differ.
        if !self.settings.divergence_alarm || self.health.diverged.is_some() {
            return;
        }
        let Some(diverged) = self.difference(mark) else { return };
        let Some(running) = self.seat.running() else { return };
        let recent = running.checks.recent();
        outputs.push(Output::Note(format!(
            "DIVERGED: the program of '{}' on this node said something else than was recorded, in \
             handling inputs {} to {}: expected {}, found {}",
            self.identity.name,
            diverged.after + 1,
            diverged.input,
            diverged.expected,
            diverged.found
        )));
        outputs.push(self.repro(&diverged));
        self.health.diverged = Some(diverged);
        for to in self.settings.others(self.identity.me) {
            let message = Peer::Differs { outputs: recent.clone() };
            outputs.push(Output::Peer { to, message });
        }
        self.fence_if_another_lives(outputs);
        if self.health.is_good() {
            let name = &self.identity.name;
            outputs.push(Output::Note(format!(
                "no other copy of '{name}' has come as far, so this one goes on"
            )));
        }
    }

    /// Where the program differs from a mark of the log, and in what.
    fn difference(&self, mark: &Mark) -> Option<Diverged> {
        let running = self.seat.running()?;
        let (input, expected, found) = match mark {
            Mark::Input { input, digest } => {
                let here = running.output.digest_at(*input).unwrap_or_default();
                (*input, format!("digest {digest:016x}"), format!("digest {here:016x}"))
            }
            Mark::Stream { destination, count, outline } => (
                running.told,
                format!(
                    "outline {outline:08x} (kinds and methods) after {count} messages to {destination}"
                ),
                "another one".to_owned(),
            ),
        };
        let after = running.output.point_before(input);
        let found = match running.checks.last_in_words() {
            Some(last) => format!("{found}; it said last: {last}"),
            None => format!("{found}; it has said nothing"),
        };
        Some(Diverged { input, after, expected, found, is_last_copy: true })
    }

    /// Fences a program that differs, when another copy has done without a difference what this one
    /// did with one. A primary is not fenced any more: others have what it said.
    pub(crate) fn fence_if_another_lives(&mut self, outputs: &mut Vec<Output>) {
        let (settings, me) = (&self.settings, self.identity.me);
        let Some(diverged) = &mut self.health.diverged else { return };
        let is_settled = diverged.is_fenced() || self.seat.is_vacant() || self.seat.is_primary();
        if is_settled || !self.standbys.has_good_program_at(settings, me, diverged.input) {
            return;
        }
        diverged.is_last_copy = false;
        self.close_seat(
            "DIVERGED",
            "this program said something else than was recorded; see the document of the instance",
            outputs,
        );
    }

    /// A program wants to attach. The last copy is never locked out, whatever it did before; and a
    /// copy that went on as the last one is judged anew when it begins anew.
    pub(crate) fn unfence_the_last_copy(&mut self, outputs: &mut Vec<Output>) {
        let is_fenced = self.health.diverged.as_ref().is_some_and(Diverged::is_fenced);
        let has_others = self.standbys.has_good_program(&self.settings, self.identity.me);
        if !self.seat.is_vacant() || (is_fenced && has_others) {
            return;
        }
        if is_fenced {
            let name = &self.identity.name;
            outputs.push(Output::Note(format!(
                "no other copy of '{name}' is there, so the one that has diverged is let in again"
            )));
        }
        self.health.diverged = None;
    }

    /// Another replica's program differs and shows what it sent.
    pub(crate) fn show_difference(
        &self,
        from: ReplicaId,
        theirs: Vec<RecentOutput>,
        outputs: &mut Vec<Output>,
    ) {
        let running = self.seat.running();
        let found = running.and_then(|running| {
            let confirms = running.connection.confirms();
            running.checks.first_difference(&running.output, theirs, confirms)
        });
        if let Some(found) = found {
            let place = format!("message {} to '{}'", found.number, found.destination);
            let shown = |message: &Message| format!("{place}: {}", describe(message));
            let message = Peer::Difference {
                expected: found.here.as_ref().map_or_else(|| format!("no {place}"), shown),
                found: shown(&found.there),
            };
            outputs.push(Output::Peer { to: from, message });
        }
    }

    /// Another replica has found the difference.
    pub(crate) fn difference_shown(
        &mut self,
        expected: String,
        found: String,
        outputs: &mut Vec<Output>,
    ) {
        let Some(diverged) = &mut self.health.diverged else { return };
        (diverged.expected, diverged.found) = (expected, found);
        let diverged = diverged.clone();
        outputs.push(Output::Note(format!(
            "'{}' has diverged in handling inputs {} to {}: expected {}, found {}",
            self.identity.name,
            diverged.after + 1,
            diverged.input,
            diverged.expected,
            diverged.found
        )));
        outputs.push(self.repro(&diverged));
    }

    /// What a person needs to see the difference again.
    fn repro(&self, diverged: &Diverged) -> Output {
        let Diverged { input, after, expected, found, .. } = diverged;
        let from = self.base.record.input_state.inputs;
        let text = format!(
            "instance {name}, replica {me} on node {node}\n\
             what it said was equal up to input {after}, and differs at input {input} at the latest\n\
             expected {expected}\nfound    {found}\n\
             to see it again: amrita immortal debug {name} --until {input}   (from the checkpoint at \
             input {from})\n",
            name = self.identity.name,
            me = self.identity.me,
            node = self.identity.node,
        );
        Output::Repro { name: format!("{}-{input}", self.identity.name), text }
    }
}
