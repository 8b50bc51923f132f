//! A member's door: a request comes in, it is decided what is to be done, and the part of the node
//! that does it gets it.

use std::collections::BTreeSet;

use protocol::{GroupId, Moment, Principal, Request, Response};
use services::{Handlers, NextEvents};
use storage::StoreError;

use crate::admission;
use crate::frame::{Answer, Question};
use crate::gather::Scope;
use crate::member::Member;
use crate::membership::{Host, Membership, conditions, view};
use crate::rest::{self, Plan, ambrosia, instances};
use crate::shard::Conditions;
use crate::survey::SurveyJob;
use crate::undefined;
use crate::view::View;
use crate::work::{Asked, Effects, Purpose, Work};

impl Member {
    /// Takes over what has become of the documents that this node goes by.
    pub(crate) fn follow_rules(
        &mut self,
        touched: &BTreeSet<GroupId>,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let Self { membership, undefined, .. } = self;
        membership.shard.follow_rules(touched, &mut host.effects.outputs)?;
        let catalogue = &membership.shard.handlers.catalogue;
        undefined.go_on(catalogue, host.now.steady_micros, host.effects);
        Ok(())
    }

    /// A request has entered the cluster here, from a client or from a task of this node.
    pub(crate) fn enter(
        &mut self,
        purpose: Purpose,
        mut request: Request,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        rest::canonical(&mut request);
        if let Err(problem) = admission::check_way(&purpose, &request) {
            host.effects.respond(&purpose, problem);
            return Ok(());
        }
        let Handlers { guard, catalogue, .. } = &self.membership.shard.handlers;
        let is_on = guard.is_on && request.principal != Principal::System;
        let needs = match admission::admit(&mut request, (guard, catalogue), host.now.wall) {
            Ok(needs) => needs,
            Err(refused) => {
                let topology = &self.membership.control.map.topology;
                admission::turn_away(refused, (purpose, request), topology, host.effects);
                return Ok(());
            }
        };
        self.fresh += 1;
        let (verb, path) = (request.method, request.path.clone());
        let taken_by = request.numbered().map(|numbered| numbered.partition);
        let principal = request.principal.clone();
        let plan =
            rest::plan(request, self.fresh, &view!(self.membership, host, self.router.len()));
        let problem = match plan {
            Ok(plan) if !taken_by.is_none_or(|group| admission::is_write_at(group, &plan)) => {
                admission::no_write_at(&path)
            }
            Ok(plan) if !is_on || admission::is_covered(needs, verb, &plan) => {
                return self.carry_out(plan, (purpose, principal), host);
            }
            Ok(_) => admission::not_covered(&path),
            Err(problem) => problem,
        };
        host.effects.respond(&purpose, problem);
        Ok(())
    }

    fn stop(&mut self, purpose: &Purpose, host: &mut Host<'_>) -> Result<(), StoreError> {
        host.effects.respond(purpose, Response::bytes(202, bytes::Bytes::new()));
        self.membership.stop(self.router.is_empty(), host)
    }

    pub(crate) fn scope(&self, principal: Principal, host: &Host<'_>) -> Scope {
        let partitions = self.membership.control.map.topology.partitions();
        Scope { partitions, principal, now: host.now.steady_micros }
    }

    fn carry_out(
        &mut self,
        plan: Plan,
        (purpose, principal): (Purpose, Principal),
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let scope = self.scope(principal, host);
        match plan {
            Plan::Respond(response) => host.effects.respond(&purpose, response),
            Plan::Nothing => {
                let done = Response::json(200, &serde_json::json!({}));
                host.effects.respond(&purpose, done);
            }
            plan @ (Plan::Enter(_)
            | Plan::Broadcast(..)
            | Plan::Copy { .. }
            | Plan::Undefine { .. }) => enter(plan, purpose, host.effects),
            Plan::Ask(group, question) => {
                let view = view!(self.membership, host, self.router.len());
                self.router.submit(purpose, group, question, &view, host.effects);
            }
            Plan::Change(command) => self.membership.change(purpose, &command, host),
            Plan::Level(request, _) => {
                let waiting = Purpose::Level(Box::new((purpose, *request)));
                let (group, question) = (GroupId::DIRECTORY, Question::DirectoryLevel);
                host.effects.push(Work::Submit(waiting, group, question));
            }
            Plan::Query(specification, form) => {
                self.queries.query(purpose, *specification, None, form, scope, host.effects);
            }
            Plan::Counted(specification, form) => {
                self.queries.counted(purpose, (*specification, None), form, scope, host.effects);
            }
            Plan::Page { token, wish } => {
                self.queries.page(purpose, (&token, &wish), scope, host.effects);
            }
            Plan::Batch(batch) => self.gather.batches.begin(purpose, *batch, host.effects),
            Plan::Stats(request) => self.gather.stats(purpose, &request, scope, host.effects),
            Plan::Available => self.gather.available(purpose, scope, host.effects),
            Plan::Explain(known) => {
                let node_id = &host.config.node_id;
                self.gather.explain((purpose, node_id), *known, host.effects);
            }
            Plan::Seek(request, factories) => {
                let view = view!(self.membership, host, self.router.len());
                undefined::seek(purpose, *request, factories, &view, host.effects);
            }
            Plan::Watch(watch) => {
                let view = view!(self.membership, host, self.router.len());
                self.feeds.watches.begin(purpose, *watch, &view, host.effects);
            }
            Plan::Subscribe { look, make } => {
                match (self.feeds.subscriptions.check_room(&make), look) {
                    (Err(problem), _) => host.effects.respond(&purpose, problem),
                    (Ok(()), Some(look)) => {
                        let waiting = Purpose::Subscribe(Box::new((purpose, *make)));
                        host.effects.push(Work::Enter(waiting, *look));
                    }
                    (Ok(()), None) => host.effects.push(Work::Enter(purpose, *make)),
                }
            }
            Plan::Record(group, page) => {
                let conditions = conditions!(self.membership, host);
                let answer = self.membership.shard.record(group, page, &conditions)?;
                host.effects.finish(&purpose, answer);
            }
            Plan::Backup(wish) => self.membership.backup_wish(purpose, wish, host)?,
            Plan::Survey => self.survey(purpose, host),
            Plan::Release(group) => self.membership.release(&purpose, group, host),
            Plan::Join(contact) => self.join(purpose, contact, host),
            Plan::Stop => self.stop(&purpose, host)?,
        }
        Ok(())
    }

    /// The documents of a kind were counted, whose definition is to be deleted.
    pub(crate) fn counted(
        &mut self,
        waiting: (Purpose, Request),
        answer: &Response,
        host: &mut Host<'_>,
    ) {
        let view = view!(self.membership, host, self.router.len());
        rest::undefine::counted(waiting, answer, &view, host.effects);
    }

    /// Has what is on the disk of this node counted.
    fn survey(&mut self, purpose: Purpose, host: &mut Host<'_>) {
        let Membership { control, shard, .. } = &self.membership;
        let name = |group| control.map.topology.instance_of(group).map(|it| it.name.clone());
        let job = || {
            let spaces = shard.spaces().map(|space| (space, name(space.group)));
            SurveyJob::new(host.config.node_id.clone(), spaces.collect(), shard.store.view())
        };
        self.gather.survey(purpose, job, host.effects);
    }

    /// A question for the owner of a group, which may be this node.
    pub(crate) fn ask(
        &mut self,
        group: GroupId,
        asked: Asked,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let view = view!(self.membership, host, self.router.len());
        let answer = match &asked.question {
            Question::InstanceStatus => Some(instances::status(group, &view)),
            Question::InstanceExplained => rest::explain::instance(group, &view),
            Question::Ambrosia { rest, filter } => {
                Some(ambrosia::answer(rest, filter, &view).unwrap_or_else(Response::from))
            }
            _ => None,
        };
        if let Some(answer) = answer {
            let answer = Answer::Response(answer);
            host.effects.reply(self.membership.control.me, asked.caller, answer);
            return Ok(());
        }
        let refusal = view.refuse_write(group, &asked.question);
        let refusal = refusal.or_else(|| rest::members::refuse_removal(&asked.question, &view));
        self.membership.shard.ask(
            group,
            asked,
            refusal,
            &conditions!(self.membership, host),
            host.effects,
        )
    }

    /// See [`crate::Node::next_events`].
    pub(crate) fn next_events(&self, wall: Moment) -> Result<NextEvents, StoreError> {
        let shard = &self.membership.shard;
        let mut all = NextEvents::default();
        for replica in shard.partitions.values() {
            let Some(leader) = replica.leader() else { continue };
            let (catalogue, store) = (&shard.handlers.catalogue, &*shard.store);
            let found = leader.next_events(replica.machine(), store, catalogue, wall)?;
            all.tasks += found.tasks;
            all.without.extend(found.without);
        }
        Ok(all)
    }
}

/// Another request comes in, whose answer is the answer, or is needed for it.
fn enter(plan: Plan, purpose: Purpose, effects: &mut Effects) {
    let (purpose, request) = match plan {
        Plan::Enter(request) => (purpose, request),
        Plan::Broadcast(request, receivers) => {
            (Purpose::Broadcast(Box::new((purpose, receivers))), request)
        }
        Plan::Copy { look, make } => (Purpose::Copy(Box::new((purpose, *make))), look),
        Plan::Undefine { count, delete } => {
            (Purpose::Undefine(Box::new((purpose, *delete))), count)
        }
        _ => unreachable!("no other plan is a request"),
    };
    effects.push(Work::Enter(purpose, *request));
}
