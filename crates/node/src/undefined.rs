//! Requests for factories that this node does not know. One that somebody has defined at another
//! node just now may not have come here yet, so the owner of the definition is asked before a
//! client is told that there is nothing.

use protocol::links::definition_of;
use protocol::{Code, GroupId, Method, Outcome, Principal, Problem, Request, Response};
use services::Catalogue;

use crate::frame::Question;
use crate::view::View;
use crate::work::{Effects, Purpose, Sought, Work};

/// How long a request waits until a definition that is there has come to this node, in microseconds.
const WAIT_MICROS: u64 = 3_000_000;

/// How many requests may wait for that; more are told that the node is busy.
const WAITING_MAX: usize = 1_000;

struct Waiting {
    sought: Sought,
    until: u64,
}

/// Requests whose factories are there, and not known here.
#[derive(Default)]
pub(crate) struct Undefined {
    waiting: Vec<Waiting>,
}

impl Undefined {
    /// The owner of a definition has answered whether it is there.
    pub(crate) fn looked_up(
        &mut self,
        mut sought: Sought,
        answer: Response,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let is_there = answer.is_success();
        if !is_there && answer.status == Code::NotFound.status() {
            sought.factories.remove(0);
            return ask(sought, view, effects);
        }
        if !is_there {
            return refuse(
                sought,
                Code::NoOwner,
                "whether its factory was defined is not known at \
                the moment; try again",
                effects,
            );
        }
        if view.catalogue().spec(&sought.factories[0]).is_some() {
            return effects.push(Work::Enter(sought.purpose, sought.request));
        }
        if self.waiting.len() >= WAITING_MAX {
            return refuse(sought, Code::Busy, "too many requests wait for definitions", effects);
        }
        let until = view.now.steady_micros + WAIT_MICROS;
        self.waiting.push(Waiting { sought, until });
    }

    /// Lets go on whatever has waited for a definition that has come.
    pub(crate) fn go_on(&mut self, catalogue: &Catalogue, now: u64, effects: &mut Effects) {
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { sought, until } = waiting;
            if catalogue.spec(&sought.factories[0]).is_some() {
                effects.push(Work::Enter(sought.purpose, sought.request));
            } else if now < until {
                self.waiting.push(Waiting { sought, until });
            } else {
                refuse(
                    sought,
                    Code::NoOwner,
                    "its factory is defined, but the definition has not \
                    come to this node; try again, or ask another node",
                    effects,
                );
            }
        }
    }
}

/// Asks whether the factory of a request is defined.
pub(crate) fn seek(
    purpose: Purpose,
    request: Request,
    factories: Vec<String>,
    view: &View<'_>,
    effects: &mut Effects,
) {
    ask(Sought { purpose, request, factories }, view, effects);
}

fn ask(sought: Sought, view: &View<'_>, effects: &mut Effects) {
    let Some(factory) = sought.factories.first() else {
        let text =
            format!("there is no service at {}; GET / lists the factories", sought.request.path);
        let mut problem = Problem::not_found(text);
        problem.outcome = sought.request.method.is_write().then_some(Outcome::NotApplied);
        return effects.respond(&sought.purpose, problem);
    };
    let link = definition_of(factory);
    let group: GroupId = view.topology().partition_of(&link);
    let request = Request::new(Method::Get, link).on_behalf_of(Principal::System);
    let purpose = Purpose::Seek(Box::new(sought));
    effects.push(Work::Submit(purpose, group, Question::Rest(request)));
}

fn refuse(sought: Sought, code: Code, why: &str, effects: &mut Effects) {
    let mut problem = Problem::new(code, format!("{}: {why}", sought.request.path));
    problem.outcome = sought.request.method.is_write().then_some(Outcome::NotApplied);
    effects.respond(&sought.purpose, problem);
}
