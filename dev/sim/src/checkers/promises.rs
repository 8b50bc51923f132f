//! What a replica says to others against what its disk holds: a vote or an acknowledgement that
//! leaves before it is durable may be broken by a crash. And each term of a group has one owner.

use std::collections::BTreeMap;

use protocol::{GroupId, ReplicaId, Term};
use replication::{Message, MessageKind};

use super::Broken;
use super::ledger::Ledger;

#[derive(Debug, Default)]
pub struct Promises {
    owners: BTreeMap<(GroupId, Term), ReplicaId>,
}

impl Promises {
    /// A message leaves a machine with that ledger. `in_memory`: acknowledgements of the group do
    /// not stand for the disk.
    ///
    /// # Errors
    /// When the message promises what the disk does not hold, or comes of a second owner.
    pub fn leaves(
        &mut self,
        group: GroupId,
        message: &Message,
        ledger: &Ledger,
        in_memory: bool,
    ) -> Result<(), Broken> {
        let Message { kind, from, to, term, index, reject, .. } = message;
        let promised = |voted_for: ReplicaId| {
            let (durable, vote) = ledger.promised(group);
            durable > *term || (durable == *term && vote == voted_for)
        };
        let (is_kept, what) = match kind {
            MessageKind::Vote => (promised(*from), "its own vote"),
            MessageKind::VoteAnswer if !reject => (promised(*to), "the vote that it gives"),
            MessageKind::AppendAnswer if !reject && !in_memory => {
                (ledger.reaches(group, *index), "the entries that it acknowledges")
            }
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot => {
                let owner = *self.owners.entry((group, *term)).or_insert(*from);
                if owner != *from {
                    let what = format!("group {group}, term {term}: {owner} and {from}");
                    return Err(Broken::new("a term has one owner", what));
                }
                (promised(*from), "its own vote")
            }
            _ => return Ok(()),
        };
        if is_kept {
            return Ok(());
        }
        let (durable, vote) = ledger.promised(group);
        let what = format!(
            "group {group}: {kind:?} from {from} to {to} in term {term} at {index}, without {what} \
             on its disk, which has term {durable} and a vote for {vote}"
        );
        Err(Broken::new("what a replica promises is durable", what))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Position;
    use storage::LogRecord;

    use super::*;

    const G: GroupId = GroupId(1);

    fn message(kind: MessageKind, from: u64, to: u64, term: u64) -> Message {
        let message = Message::new(kind, ReplicaId(from), ReplicaId(to), Term(term));
        Message { index: Position(3), ..message }
    }

    #[test]
    fn a_vote_that_is_not_durable_and_one_for_another_are_found() {
        let mut ledger = Ledger::default();
        let vote = |term, voted_for| LogRecord::Vote {
            group: G,
            term: Term(term),
            voted_for: ReplicaId(voted_for),
            commit: Position(0),
        };
        let mut promises = Promises::default();
        let answer = message(MessageKind::VoteAnswer, 1, 2, 5);
        assert!(promises.leaves(G, &answer, &ledger, false).is_err());
        ledger.wrote(&[vote(5, 2)]);
        assert!(promises.leaves(G, &answer, &ledger, false).is_err(), "it is not synced");
        ledger.synced();
        assert!(promises.leaves(G, &answer, &ledger, false).is_ok());
        let other = message(MessageKind::VoteAnswer, 1, 3, 5);
        assert!(promises.leaves(G, &other, &ledger, false).is_err());
        assert!(promises.leaves(G, &message(MessageKind::Vote, 1, 2, 5), &ledger, false).is_err());
        let entries = message(MessageKind::AppendAnswer, 1, 2, 5);
        assert!(promises.leaves(G, &entries, &ledger, false).is_err());
        assert!(promises.leaves(G, &entries, &ledger, true).is_ok());
    }

    #[test]
    fn a_second_owner_of_a_term_is_found() {
        let mut ledgers = [Ledger::default(), Ledger::default()];
        for (ledger, me) in ledgers.iter_mut().zip(1..) {
            let (term, voted_for, commit) = (Term(5), ReplicaId(me), Position(0));
            ledger.wrote(&[LogRecord::Vote { group: G, term, voted_for, commit }]);
            ledger.synced();
        }
        let mut promises = Promises::default();
        let heartbeat = |from| message(MessageKind::Heartbeat, from, 3, 5);
        promises.leaves(G, &heartbeat(1), &ledgers[0], false).unwrap();
        let broken = promises.leaves(G, &heartbeat(2), &ledgers[1], false).unwrap_err();
        assert_eq!(broken.rule, "a term has one owner");
    }
}
