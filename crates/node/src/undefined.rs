//! Requests for factories that this node does not know. One that somebody has defined at another
//! node just now may not have come here yet, so the owner of the definition is asked before a
//! client is told that there is nothing. A request with `Pragma: xn-queue` waits for a factory that
//! nobody has defined so far, as one for a document waits for the document.

use protocol::links::definition_of;
use protocol::{BATCH_LINK, Code, GroupId, Method, Outcome, Principal, Problem, Request, Response};
use services::Catalogue;

use crate::frame::Question;
use crate::rest::QUEUE;
use crate::view::View;
use crate::work::{Effects, Purpose, Sought, Work};

/// How long a request waits until a definition that is there has come to this node, in
/// microseconds.
const WAIT_MICROS: u64 = 3_000_000;

/// How long a request with `Pragma: xn-queue` waits until its factory is defined, in microseconds:
/// as long as one waits for a document.
const QUEUED_MICROS: u64 = 8_000_000;

/// How many requests may wait for either; more are told that the node is busy, or that there is
/// nothing.
const WAITING_MAX: usize = 1_000;

struct Waiting {
    sought: Sought,
    until: u64,
    /// None of its factories is defined so far.
    is_queued: bool,
}

impl Waiting {
    /// Whether a factory that the request waits for has come.
    fn is_over(&self, catalogue: &Catalogue) -> bool {
        let is_there = |factory: &String| catalogue.spec(factory).is_some();
        let factories = &self.sought.factories;
        match self.is_queued {
            true => factories.iter().any(is_there),
            false => factories.get(self.sought.asked).is_some_and(is_there),
        }
    }
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
            sought.asked += 1;
            let waits = sought.asked == sought.factories.len() && sought.request.has_pragma(QUEUE);
            if waits && self.waiting.len() < WAITING_MAX {
                let until = view.now.steady_micros + QUEUED_MICROS;
                self.waiting.push(Waiting { sought, until, is_queued: true });
                return;
            }
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
        let until = view.now.steady_micros + WAIT_MICROS;
        let waiting = Waiting { sought, until, is_queued: false };
        if waiting.is_over(view.catalogue()) {
            let sought = waiting.sought;
            return effects.push(Work::Enter(sought.purpose, sought.request));
        }
        if self.waiting.len() >= WAITING_MAX {
            let why = "too many requests wait for definitions";
            return refuse(waiting.sought, Code::Busy, why, effects);
        }
        self.waiting.push(waiting);
    }

    /// Lets go on whatever has waited for a definition that has come.
    pub(crate) fn go_on(&mut self, catalogue: &Catalogue, now: u64, effects: &mut Effects) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.is_over(catalogue) {
                effects.push(Work::Enter(waiting.sought.purpose, waiting.sought.request));
            } else if now < waiting.until {
                self.waiting.push(waiting);
            } else if waiting.is_queued {
                is_nowhere(&waiting.sought, effects);
            } else {
                refuse(
                    waiting.sought,
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
    ask(Sought { purpose, request, factories, asked: 0 }, view, effects);
}

fn ask(sought: Sought, view: &View<'_>, effects: &mut Effects) {
    let Some(factory) = sought.factories.get(sought.asked) else {
        return is_nowhere(&sought, effects);
    };
    let link = definition_of(factory);
    let group: GroupId = view.topology().partition_of(&link);
    let request = Request::new(Method::Get, link).on_behalf_of(Principal::System);
    let purpose = Purpose::Seek(Box::new(sought));
    effects.push(Work::Submit(purpose, group, Question::Rest(request)));
}

fn is_nowhere(sought: &Sought, effects: &mut Effects) {
    // Of a batch it is one of its documents that has none.
    let path = match sought.request.path.as_str() {
        BATCH_LINK => sought.factories.join(" or "),
        path => path.to_owned(),
    };
    let mut problem =
        Problem::not_found(format!("there is no service at {path}; GET / lists the factories"));
    problem.outcome = sought.request.method.is_write().then_some(Outcome::NotApplied);
    effects.respond(&sought.purpose, problem);
}

fn refuse(sought: Sought, code: Code, why: &str, effects: &mut Effects) {
    let mut problem = Problem::new(code, format!("{}: {why}", sought.request.path));
    problem.outcome = sought.request.method.is_write().then_some(Outcome::NotApplied);
    effects.respond(&sought.purpose, problem);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Output;
    use crate::rest::world::World;

    fn sought(factories: &[&str], pragma: Option<&str>) -> Sought {
        let mut request = Request::get("/app/things/one");
        request.pragmas.extend(pragma.map(str::to_owned));
        let factories = factories.iter().map(ToString::to_string).collect();
        Sought { purpose: Purpose::Client { ticket: 7 }, request, factories, asked: 0 }
    }

    /// The statuses of what was answered, and how many requests have come in once more.
    fn done(effects: &mut Effects) -> (Vec<u16>, usize) {
        let (mut statuses, mut entered) = (Vec::new(), 0);
        for output in std::mem::take(&mut effects.outputs) {
            if let Output::Answer { response, .. } = output {
                statuses.push(response.status);
            }
        }
        for work in std::mem::take(&mut effects.work) {
            entered += usize::from(matches!(work, Work::Enter(..)));
        }
        (statuses, entered)
    }

    #[test]
    fn with_the_pragma_a_request_waits_for_a_factory_and_is_told_in_the_end_that_there_is_none() {
        let world = World::new();
        let view = world.view();
        let mut effects = Effects::default();
        let mut undefined = Undefined::default();
        let nothing = || Response::from(Code::NotFound);
        undefined.looked_up(sought(&["/app/none"], None), nothing(), &view, &mut effects);
        assert_eq!(done(&mut effects), (vec![404], 0), "without the pragma at once");
        let queued = sought(&["/app/none", "/app"], Some(QUEUE));
        undefined.looked_up(queued.clone(), nothing(), &view, &mut effects);
        assert_eq!(done(&mut effects), (vec![], 0), "the second is asked for first");
        undefined.looked_up(Sought { asked: 1, ..queued }, nothing(), &view, &mut effects);
        let start = view.now.steady_micros;
        undefined.go_on(view.catalogue(), start + QUEUED_MICROS - 1, &mut effects);
        assert_eq!(done(&mut effects), (vec![], 0));
        undefined.go_on(view.catalogue(), start + QUEUED_MICROS, &mut effects);
        assert_eq!(done(&mut effects), (vec![404], 0));
    }

    #[test]
    fn a_request_that_waits_goes_on_when_its_factory_is_there() {
        let world = World::new();
        let view = world.view();
        let mut effects = Effects::default();
        let mut undefined = Undefined::default();
        // One that nobody had when it was asked for, and that is there by now.
        let queued = Sought { asked: 1, ..sought(&["/core/things", "/app"], Some(QUEUE)) };
        undefined.looked_up(queued, Response::from(Code::NotFound), &view, &mut effects);
        assert_eq!(done(&mut effects), (vec![], 0));
        undefined.go_on(view.catalogue(), view.now.steady_micros, &mut effects);
        assert_eq!(done(&mut effects), (vec![], 1));
        assert!(undefined.waiting.is_empty());
    }
}
