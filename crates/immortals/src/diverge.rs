//! When two copies say different things: which message it was, and what each of them said.
//!
//! A digest only tells that something differs. So the copy that was found to differ shows the others
//! what it said last, and who still knows what was said instead answers with the first difference.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ReplicaId;
use protocol::immortal::{Message, messages};

use crate::instance::Instance;
use crate::io::{Output, Peer, RecentOutput, describe};
use crate::session::Session;

impl Instance {
    /// The program here has diverged: what did the others say?
    pub(crate) fn ask_what_differs(&self, outputs: &mut Vec<Output>) {
        let Some(session) = &self.session else { return };
        let said: Vec<RecentOutput> = session
            .recent
            .iter()
            .map(|recent| RecentOutput {
                destination: recent.destination.clone(),
                first: recent.first,
                messages: recent.messages.clone(),
            })
            .collect();
        for to in self.settings.replicas.iter().copied().filter(|id| *id != self.me) {
            outputs.push(Output::Peer { to, message: Peer::Differs { said: said.clone() } });
        }
    }

    /// Another copy has diverged and shows what it said.
    pub(crate) fn show_difference(
        &self,
        from: ReplicaId,
        said: Vec<RecentOutput>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = &self.session else { return };
        if let Some((place, mine, theirs)) = first_difference(session, said) {
            let shown = |message: Option<Message>| match message {
                Some(message) => format!("{place}: {}", describe(&message)),
                None => format!("no {place}"),
            };
            let message = Peer::Difference { expected: shown(mine), found: shown(theirs) };
            outputs.push(Output::Peer { to: from, message });
        }
    }

    /// The difference, as another replica found it.
    pub(crate) fn difference_shown(
        &mut self,
        expected: String,
        found: String,
        outputs: &mut Vec<Output>,
    ) {
        let Some(diverged) = &mut self.diverged else { return };
        (diverged.expected, diverged.found) = (expected, found);
        let (input, after) = (diverged.input, diverged.after);
        outputs.push(Output::Note(format!(
            "'{}' has diverged in handling inputs {} to {input}: expected {}, found {}",
            self.name,
            after + 1,
            diverged.expected,
            diverged.found
        )));
        outputs.push(self.repro());
    }

    /// What a person needs to see the difference again.
    pub(crate) fn repro(&self) -> Output {
        let diverged = self.diverged.as_ref().expect("only for one that has diverged");
        let (from, input) = (self.base.ledger.inputs, diverged.input);
        let text = format!(
            "instance {name}, replica {me} on node {node}\n\
             what it said was equal up to input {after}, and differs at input {input} at the latest\n\
             expected {expected}\nfound    {found}\n\
             to see it again: amrita immortal debug {name} --until {input}   (from the checkpoint at \
             input {from})\n",
            name = self.name,
            me = self.me,
            node = self.node,
            after = diverged.after,
            expected = diverged.expected,
            found = diverged.found,
        );
        Output::Repro { name: format!("{}-{input}", self.name), text }
    }
}

type Difference = (String, Option<Message>, Option<Message>);

/// The first message that both know of and that is not the same.
fn first_difference(session: &Session, said: Vec<RecentOutput>) -> Option<Difference> {
    let mine = session.recent.iter().flat_map(|recent| {
        numbered(recent.destination.clone(), recent.first, recent.messages.clone())
    });
    let mine: BTreeMap<(String, u64), Message> = mine.collect();
    let theirs: Vec<((String, u64), Message)> = said
        .into_iter()
        .flat_map(|said| numbered(said.destination, said.first, said.messages))
        .collect();
    for ((destination, number), message) in theirs {
        let expected = mine.get(&(destination.clone(), number));
        let count = session.voice.streams.get(&destination).map_or(0, |stream| stream.count);
        // What was forgotten here cannot be compared; what was never said here differs.
        let differs = expected.map_or(number > count, |expected| *expected != message);
        if differs {
            let place = format!("message {number} to '{destination}'");
            return Some((place, expected.cloned(), Some(message)));
        }
    }
    None
}

fn numbered(
    destination: String,
    first: u64,
    bytes: Bytes,
) -> impl Iterator<Item = ((String, u64), Message)> {
    let all = (first..).zip(messages(bytes).flatten());
    all.map(move |(number, message)| ((destination.clone(), number), message))
}
