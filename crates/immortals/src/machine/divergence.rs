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
    /// The program here differs from what was recorded. It is fenced.
    pub(crate) fn has_diverged(&mut self, mark: &Mark, outputs: &mut Vec<Output>) {
        if !self.settings.divergence_alarm {
            return;
        }
        let Some(running) = self.seat.running() else { return };
        let (input, expected, found) = match mark {
            Mark::Input { input, digest } => {
                let here = running.output.digest_at(*input).unwrap_or_default();
                (*input, format!("digest {digest:016x}"), format!("digest {here:016x}"))
            }
            Mark::Stream { destination, count, crc } => (
                running.told,
                format!("checksum {crc:08x} after {count} messages to {destination}"),
                "another one".to_owned(),
            ),
        };
        let after = running.output.point_before(input);
        let found = match running.checks.last_in_words() {
            Some(last) => format!("{found}; it said last: {last}"),
            None => format!("{found}; it has said nothing"),
        };
        let recent = running.checks.recent();
        let diverged = Diverged { input, after, expected, found };
        outputs.push(Output::Note(format!(
            "DIVERGED: the program of '{}' on this node said something else than was recorded, in \
             handling inputs {} to {input}: expected {}, found {}",
            self.identity.name,
            after + 1,
            diverged.expected,
            diverged.found
        )));
        outputs.push(self.repro(&diverged));
        self.health.trouble.diverged = Some(diverged);
        for to in self.settings.others(self.identity.me) {
            let message = Peer::Differs { outputs: recent.clone() };
            outputs.push(Output::Peer { to, message });
        }
        self.close_seat(
            "DIVERGED",
            "this program said something else than was recorded; see the document of the instance",
            outputs,
        );
    }

    /// A copy is there that has not diverged, and was not heard of when the program here, which
    /// had, was let in again. Two that differ must not both be copies.
    pub(crate) fn is_not_the_last_copy(&mut self, outputs: &mut Vec<Output>) {
        if self.seat.is_primary() {
            return;
        }
        let Some(overlooked) = self.health.trouble.overlooked.take() else { return };
        self.health.trouble.diverged = Some(overlooked);
        self.close_seat(
            "DIVERGED",
            "this program said something else than was recorded, and there is another copy; see \
             the document of the instance",
            outputs,
        );
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
        let Some(diverged) = &mut self.health.trouble.diverged else { return };
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
        let Diverged { input, after, expected, found } = diverged;
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
