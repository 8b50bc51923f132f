//! What other instances send, and who has ever sent something. Each must be remembered, so that nothing is
//! taken twice; those that are not registered any more send nothing more, and are forgotten when there are
//! many.
//!
//! A group is never given to a second instance, so who has heard that a sender is gone takes nothing of
//! it any more. One who has not heard of it could take for new what comes late. Therefore the log tells
//! how far the directory had come when senders were forgotten, and an owner that has not come so far
//! waits with senders that the ledger does not know.

use bytes::Bytes;
use protocol::GroupId;
use protocol::immortal::{BlockHead, Garbled, SourceKind, skip_messages};

use crate::entry::{Entry, Origin};
use crate::instance::Instance;
use crate::io::{Between, Context, Entries, Lane, Output, Standing};
use crate::ledger::{SENDERS_MANY, SENDERS_MAX};
use crate::office::{Office, PENDING_BYTES_MAX, Pending, Receipt};

/// So many senders are forgotten at a time.
const FORGOTTEN_MAX: usize = 10_000;

impl Instance {
    /// Whether something of that sender may be taken.
    pub(crate) fn takes_from(&self, entries: &dyn Entries, from: GroupId) -> bool {
        let Some(office) = &self.office else { return false };
        // What it says now would come into the log after that it was forgotten, and make it known again.
        if office.forgetting.contains(&from) {
            return false;
        }
        if self.ledger.knows(from) || office.next.contains_key(&(from, Lane::Stream)) {
            return true;
        }
        entries.directory() >= self.ledger.directory
            && entries.standing(from) == Standing::Registered
            && self.ledger.senders_count() < SENDERS_MAX
    }

    /// Whether the name of a sender has gone to another instance since: what still comes of the former one
    /// must not stand among what the new one says.
    pub(crate) fn is_of_a_former_life(entries: &dyn Entries, from: GroupId, name: &str) -> bool {
        match entries.resolve(name) {
            // Groups are given out in order.
            Some(present) => present > from,
            None => entries.standing(from) == Standing::Gone,
        }
    }

    /// A sender has forgotten what was confirmed to it, and here it is not: it was lost with the memory of
    /// a majority. The stream goes on where the sender still has it, and the log says so between what came
    /// before and what follows. If the ownership is lost before it is logged, the next owner finds the
    /// same.
    fn mind_what_was_lost(
        &mut self,
        from: GroupId,
        lane: Lane,
        (name, floor): (&str, u64),
        outputs: &mut Vec<Output>,
    ) {
        let logged = self.ledger.logged_of(from, lane);
        let Some(office) = &mut self.office else { return };
        let known = office.next.get(&(from, lane)).copied();
        // Of who is not known nothing is missing.
        let Some(next) = known.or((logged > 0).then_some(logged + 1)) else { return };
        if !self.settings.memory || floor <= next {
            return;
        }
        let up_to = floor - 1;
        outputs.push(Output::Note(format!(
            "{} {next} to {up_to} of '{name}' were confirmed by '{}' and are lost",
            if lane == Lane::Stream { "messages" } else { "impulses" },
            self.name
        )));
        office.next.insert((from, lane), floor);
        office.put_between(Entry::Lost { sender: from, lane, up_to });
    }

    /// Messages of a sender: those that follow are to be logged. What to tell the sender at once.
    pub(crate) fn take_sent(
        &mut self,
        from: GroupId,
        lane: Lane,
        (name, floor): (String, u64),
        (first, count, messages): (u64, u64, Bytes),
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Between>, Garbled> {
        let logged = self.ledger.logged_of(from, lane);
        let Some(office) = &mut self.office else { return Ok(None) };
        if !office.accepting || office.pending_bytes > PENDING_BYTES_MAX {
            return Ok(None);
        }
        if let Lane::Impulses { session } = lane {
            // What is left of an earlier office of the sender: it would not fit into the log.
            let later = (from, Lane::Impulses { session: session.saturating_add(1) });
            let last = (from, Lane::Impulses { session: u64::MAX });
            let logged_later = self.ledger.impulses.get(&from).is_some_and(|t| t.session > session);
            if logged_later || office.next.range(later..=last).next().is_some() {
                return Ok(None);
            }
            // Of each sender the last session counts.
            let first = (from, Lane::Impulses { session: 0 });
            let former = office.next.range(first..(from, lane)).map(|(key, _)| *key);
            for key in former.collect::<Vec<_>>() {
                office.next.remove(&key);
            }
        }
        self.mind_what_was_lost(from, lane, (&name, floor), outputs);
        let Some(office) = &mut self.office else { return Ok(None) };
        let known = office.next.get(&(from, lane)).copied();
        let next = known.unwrap_or(if logged == 0 { floor } else { logged + 1 });
        if first > next {
            return Ok(Some(Between::Ack { lane, logged, resend_from: Some(next) }));
        }
        if first + count <= next {
            return Ok(Some(Between::Ack { lane, logged, resend_from: None }));
        }
        let skip = next - first;
        let messages = if skip == 0 { messages } else { skip_messages(&messages, skip)? };
        let count = count - skip;
        office.next.insert((from, lane), next + count);
        let (kind, origin, shown) = match lane {
            Lane::Stream => (SourceKind::Instance, Origin::Stream { from }, next),
            Lane::Impulses { session } => {
                (SourceKind::Impulses, Origin::Impulses { from, session, first: next }, 0)
            }
        };
        let head = BlockHead { kind, name, first: shown, count };
        office.put(Pending {
            head,
            origin,
            messages,
            receipt: Receipt::Sender { group: from, lane },
        });
        Ok(None)
    }

    pub(crate) fn mind_senders(&mut self, ground: &Context<'_>, outputs: &mut Vec<Output>) {
        let Some(office) = &mut self.office else { return };
        if self.ledger.senders_count() < SENDERS_MANY || !office.is_idle() {
            return;
        }
        let known = self.ledger.senders().into_iter();
        let gone = known.filter(|group| ground.entries.standing(*group) == Standing::Gone);
        let senders: Vec<GroupId> = gone.take(FORGOTTEN_MAX).collect();
        if senders.is_empty() {
            return;
        }
        office.forgetting = senders.iter().copied().collect();
        let Office { next, forgetting, .. } = office;
        next.retain(|(group, _), _| !forgetting.contains(group));
        let directory = ground.entries.directory();
        let entry = Entry::Forget { senders, directory };
        self.propose_with(entry, Receipt::Forgotten, outputs);
    }
}
