//! Writes of instances to documents of this partition. An instance's owner sends them in order, and
//! again until they are known to be taken; here they are done one after the other, each as a
//! request with the rights of the instance's owner. The entry of a write notes its number, so that
//! no other entry can take it. What passes by itself (no quorum, no program for the kind) is tried
//! again, and what comes after it waits. What is refused for good is noted as well, with an entry
//! of its own.
//!
//! Nothing here is durable: a new owner of the partition begins with the numbers that are noted.

use documents::{AppliedCommand, Command, Noted};
use group::Output;
use protocol::explanation::{Finding, WaitsFor};
use protocol::immortal::{Message, messages, skip_messages};
use protocol::instance_write::{Asker, Numbered, take_link};
use protocol::{Code, GroupId, Maker, Outcome, Principal, Problem, Request, Response};
use storage::StoreError;

use super::context::StepContext;
use super::proposals::Proposed;
use super::runners::pause;
use super::senders::{Turn, Waiting};
use super::state::PartitionLeader;
use crate::instance_write::{InstanceWrite, answer_to, is_passing};
use crate::io::{FromInstance, PartitionAction};

/// How many instances may ever write to documents of a partition. Of one more nothing is taken.
const SENDERS_MAX: usize = 10_000;

/// How often the owner of an instance is looked for: a node may know of it late.
const OWNER_TRIES: u32 = 6;

/// After how many tries in vain that is told to the log, and again after as many.
const TRIES_TOLD: u32 = 8;

impl PartitionLeader {
    /// The owner of an instance asks which of its writes are taken.
    pub(super) fn instance_asks(&mut self, cx: &mut StepContext<'_, '_>, instance: GroupId) {
        let logged = cx.partition().inbox().last(instance);
        let next = self.instances.inbox.next(instance, logged);
        self.instances.inbox.counts.asked += u64::from(logged > 0);
        ack(cx, instance, logged, Some(next));
    }

    /// The owner of an instance sends writes. Those that follow the last one wait for their turn.
    pub(super) fn instance_writes(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        sent: FromInstance,
    ) -> Result<(), StoreError> {
        let FromInstance { instance, name, floor, first, count, messages: said } = sent;
        let logged = cx.partition().inbox().last(instance);
        if logged == 0 && cx.partition().inbox().count() >= SENDERS_MAX {
            let text = format!(
                "partition {}: {SENDERS_MAX} instances have written to its documents, and it takes \
                 no writes of one more: '{name}'",
                self.duty.partition
            );
            return self.instances.inbox.note_once(text).map_or(Ok(()), |text| {
                cx.put(Output::Note(text));
                Ok(())
            });
        }
        let mut next = self.instances.inbox.next(instance, logged);
        if floor > next {
            // What came before was confirmed by a majority that has lost it since.
            if logged > 0 {
                cx.put(Output::Note(format!(
                    "writes {next} to {} of '{name}' were confirmed by partition {} and are lost",
                    floor - 1,
                    self.duty.partition
                )));
            }
            next = floor;
        }
        if first > next {
            ack(cx, instance, logged, Some(next));
            return Ok(());
        }
        self.instances.inbox.counts.repeated += next.min(first + count) - first;
        if first + count <= next {
            ack(cx, instance, logged, None);
            return Ok(());
        }
        // What cannot be cut there is not taken, and comes again.
        let Ok(said) = skip_messages(&said, next - first) else { return Ok(()) };
        let waiting = (next..first + count)
            .zip(messages(said))
            .map_while(|(number, message)| Some(Waiting { number, message: message.ok()? }));
        self.instances.inbox.put(instance, &name, waiting);
        self.take_next(cx, instance)
    }

    /// Does the next write of an instance, if none of it is under way.
    fn take_next(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        instance: GroupId,
    ) -> Result<(), StoreError> {
        let after = cx.partition().inbox().last(instance);
        let Some((name, waiting, tries)) = self.instances.inbox.next_to_take(instance, after)
        else {
            return Ok(());
        };
        let number = waiting.number;
        let write = match write_of(waiting, &name) {
            Ok(write) => write,
            Err(problem) => {
                let problem = problem.with_outcome(Outcome::NotApplied);
                return self.note_outcome(cx, (instance, after, number), None, problem.into());
            }
        };
        let principal = match principal_of(cx, &name) {
            Err(problem) if tries < OWNER_TRIES => {
                self.try_again(cx, instance, &problem.into());
                return Ok(());
            }
            other => other,
        };
        let InstanceWrite { asker, .. } = &write;
        let (asker, partition) = (asker.clone(), self.duty.partition);
        let request = principal.and_then(|principal| write.into_request(principal));
        match request {
            Ok(request) => {
                let numbered = Numbered { partition, instance, after, number, asker };
                let request = Request { maker: Maker::Immortal(Box::new(numbered)), ..request };
                let (opening, call) = (self.duty.opening, self.next_number());
                self.instances.inbox.called(instance, call);
                cx.put(Output::Do(PartitionAction::Call {
                    opening,
                    call,
                    request: Box::new(request),
                }));
                Ok(())
            }
            Err(problem) => {
                let refused = problem.with_outcome(Outcome::NotApplied).into();
                self.note_outcome(cx, (instance, after, number), asker.as_ref(), refused)
            }
        }
    }

    /// The answer to a write of an instance, if it is one. What was made is noted with its entry,
    /// and is done by then.
    pub(super) fn write_answered(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        call: u64,
        response: &Response,
    ) -> Result<bool, StoreError> {
        let Some(instance) = self.instances.inbox.take_call(call) else { return Ok(false) };
        let after = cx.partition().inbox().last(instance);
        let Some((name, waiting)) = self.instances.inbox.first(instance, after) else {
            self.write_taken(cx, instance)?;
            return Ok(true);
        };
        // The user whom the instance belongs to may be known here a moment later.
        let is_unknown = response.status == Code::Unauthorized.status()
            && self.instances.inbox.tries(instance) < OWNER_TRIES;
        if is_passing(response) || is_unknown {
            self.try_again(cx, instance, response);
            return Ok(true);
        }
        let number = waiting.number;
        let asker = write_of(waiting, &name).ok().and_then(|write| write.asker);
        self.note_outcome(cx, (instance, after, number), asker.as_ref(), response.clone())?;
        Ok(true)
    }

    /// A write was refused, or has changed nothing: an entry notes that.
    fn note_outcome(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        (instance, after, number): (GroupId, u64, u64),
        asker: Option<&Asker>,
        response: Response,
    ) -> Result<(), StoreError> {
        if let Some(problem) = asker.and_then(|asker| self.why_not_told(cx, &asker.instance)) {
            self.try_again(cx, instance, &problem.into());
            return Ok(());
        }
        if asker.is_none() && !response.is_success() {
            cx.put(Output::Note(format!(
                "partition {}: write {number} of {} was refused, and nobody waits for the answer: \
                 {}",
                self.duty.partition,
                self.instances.inbox.name_of(instance),
                words_of(&response)
            )));
        }
        let answer = asker.map(|asker| answer_to(asker, &response));
        let to = asker.map(|asker| asker.instance.clone());
        let noted = Noted { instance, after, number, answer };
        self.instances.inbox.set_turn(instance, Turn::Noting);
        let command = Command::Note(self.duty.epoch, noted);
        self.propose(cx, Proposed::Note(instance, to), &command);
        Ok(())
    }

    /// What was proposed by [`Self::note_outcome`] is applied, or has come back without effect.
    pub(super) fn outcome_noted(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        (instance, to): (GroupId, Option<String>),
        effect: &AppliedCommand,
    ) -> Result<(), StoreError> {
        if *effect != AppliedCommand::Fenced
            && let Some(to) = to
        {
            self.send_to(cx, &to)?;
        }
        self.write_taken(cx, instance)
    }

    /// A write of an instance is taken: the next one follows.
    pub(super) fn write_taken(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        instance: GroupId,
    ) -> Result<(), StoreError> {
        let logged = cx.partition().inbox().last(instance);
        self.instances.inbox.taken(instance, logged);
        ack(cx, instance, logged, None);
        self.take_next(cx, instance)
    }

    /// A write was not done, and that passes: it is tried again, and what follows it waits.
    pub(super) fn try_again(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        instance: GroupId,
        response: &Response,
    ) {
        let now = cx.now().steady_micros;
        let Some((tries, name)) = self.instances.inbox.fails(instance, now, pause) else { return };
        if tries.is_multiple_of(TRIES_TOLD) {
            cx.put(Output::Note(format!(
                "partition {}: a write of '{name}' waits, it was answered with {} {tries} times: \
                 {}",
                self.duty.partition,
                response.status,
                words_of(response)
            )));
        }
    }

    pub(super) fn tick_inbox(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        let due = self.instances.inbox.take_due(cx.now().steady_micros);
        due.into_iter().try_for_each(|instance| self.take_next(cx, instance))
    }

    /// Why the write of an instance cannot be taken now, or never.
    pub(super) fn why_not_taken(
        &mut self,
        cx: &StepContext<'_, '_>,
        numbered: &Numbered,
    ) -> Option<Problem> {
        let Numbered { partition, instance, after, number, .. } = numbered;
        if *partition != self.duty.partition {
            let text = "an immortal has sent this to the partition of another link; an action is \
                        sent as ACT, and all else to the link of a document";
            return Some(Problem::new(Code::BadLink, text));
        }
        let last = cx.partition().inbox().last(*instance);
        (last != *after).then(|| {
            self.instances.inbox.counts.late += 1;
            let text = format!(
                "write {number} of instance {instance} is to follow {after}, and not {last}"
            );
            Problem::new(Code::Fenced, text)
        })
    }
}

impl PartitionLeader {
    /// Writes of instances to a document that are tried again and again. What follows them waits.
    pub(super) fn writes_waiting(&self, link: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, waiting, tries) in self.instances.inbox.waiting() {
            let Some(first) = waiting.front() else { continue };
            let is_for = |write: InstanceWrite| {
                write.link.strip_prefix(link).is_some_and(|it| it.is_empty() || it.starts_with('/'))
            };
            if !write_of(first.clone(), name).is_ok_and(is_for) {
                continue;
            }
            let after = waiting.len() - 1;
            let text = format!(
                "a write of the immortal '{name}', tried {tries} times so far; {after} more of it \
                 wait for this one"
            );
            findings.push(if tries < TRIES_TOLD {
                Finding::passing(WaitsFor::Call, text)
            } else {
                let remedy = "the node's log has what it was answered with";
                Finding::stuck(WaitsFor::Call, text, remedy)
            });
        }
        findings
    }
}

fn write_of(waiting: Waiting, name: &str) -> Result<InstanceWrite, Problem> {
    let (method, payload, id) = match waiting.message {
        Message::Fork { method, payload } => (method, payload, None),
        Message::Call { id, method, payload } => (method, payload, Some(id)),
        _ => return Err(Problem::bad_request("a document takes nothing but FORK and CALL")),
    };
    let (link, body) = take_link(payload)
        .map_err(|why| Problem::bad_request(format!("a message to a document: {why}")))?;
    let asker = id.map(|id| Asker { instance: name.to_owned(), link: link.clone(), id });
    Ok(InstanceWrite { method, link, body, asker })
}

/// With whose rights an instance writes: those of its only owner.
fn principal_of(cx: &StepContext<'_, '_>, name: &str) -> Result<Principal, Problem> {
    let guard = &cx.handlers().guard;
    let mut owners = guard.policy.owners_of(name);
    match (owners.next(), owners.next()) {
        // With the rights of one of them the others could do what they may not.
        (Some(_), Some(_)) if guard.is_on => {
            let text = format!(
                "the immortal '{name}' belongs to several users, and only what belongs to one user \
                 writes to documents: amrita immortal owners {name} --set USER"
            );
            Err(Problem::new(Code::AccessDenied, text))
        }
        (Some(user), _) => Ok(Principal::User(user.into())),
        (None, _) if guard.is_on => {
            let text = format!(
                "the immortal '{name}' belongs to nobody, and writes with the rights of its owner: \
                 amrita immortal owners {name} --set USER"
            );
            Err(Problem::new(Code::AccessDenied, text))
        }
        (None, _) => Ok(Principal::Anonymous),
    }
}

fn words_of(response: &Response) -> String {
    response.to_json()["message"].as_str().unwrap_or_default().to_owned()
}

fn ack(cx: &mut StepContext<'_, '_>, instance: GroupId, logged: u64, resend_from: Option<u64>) {
    cx.put(Output::Do(PartitionAction::Ack { instance, logged, resend_from }));
}
