//! Services with their state types erased: JSON in, JSON out.

use protocol::{Body, Code, Problem, Request, Response, TaskStage};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::caught::caught;
use crate::outside::{Draft, Outside};
use crate::state::{check_required, check_types, decode, stored};
use crate::task::{FAILURE_MESSAGE, TaskInfo, take_out};
use crate::{Context, Patch, Plan, Service, Task, succeeded, unknown};

/// How many requests a task may make in one step.
pub const CALLS_PER_STEP_MAX: usize = 256;

/// How many of the errors of one step that undoes are told in full; the others are counted.
const FAILURES_TOLD: usize = 16;

/// A service without its type.
pub(crate) trait Handlers: Send + Sync {
    fn create(
        &self,
        context: &mut Context<'_>,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem>;
    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem>;
    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        patch: Patch,
    ) -> Result<Body, Problem>;
    fn delete(&self, context: &mut Context<'_>, current: &Body) -> Result<(), Problem>;
    /// A step of a task that is not in a final stage.
    fn step(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        step: &Step,
    ) -> Result<Stepped, Problem>;

    /// What a program outside does, if there is one.
    fn outside(&self) -> Option<&Outside> {
        None
    }

    /// The state that would be written without the program.
    fn draft(&self, _: &Context<'_>, _: Draft<'_>) -> Result<Body, Problem> {
        Err(no_program())
    }

    /// Whether a state that the program gave may follow on this one.
    fn judge(
        &self,
        _: &Context<'_>,
        _: Option<&Body>,
        _: Map<String, Value>,
    ) -> Result<Body, Problem> {
        Err(no_program())
    }
}

fn no_program() -> Problem {
    Problem::internal("a service without a program outside has asked one")
}

/// A task goes on.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The plan of the state as it is; the first one takes the task from CREATED to STARTED.
    Plan,
    /// The answers to a plan's calls, then the next plan if that is wanted.
    Learn { answers: Vec<Response>, and_plan: bool },
    /// The answers to the calls that undo what a cancelled or failed task has done.
    Undone(Vec<Response>),
    /// To FAILED.
    Fail(Problem),
}

/// What became of a step.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// The state, when it has changed.
    pub(crate) body: Option<Body>,
    /// What the new state is to do next.
    pub(crate) calls: Option<Calls>,
}

/// What a task is to ask, and after which pause.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    /// Tells two tasks that had the same link one after the other.
    pub(crate) life: u64,
    pub(crate) after_micros: u64,
    pub(crate) requests: Vec<Request>,
    /// They undo what the task has done.
    pub(crate) is_undo: bool,
    /// The version that has planned them, if later ones have only held the task or the like.
    pub(crate) planned_by: Option<u64>,
    /// They are given up, whether they were made or not.
    pub(crate) is_skipped: bool,
}

/// A [`Service`] without its type.
pub(crate) struct Erased<S>(pub(crate) S);

impl<S: Service> Handlers for Erased<S> {
    fn create(
        &self,
        context: &mut Context<'_>,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem> {
        let mut state: S::State = read(context, fields)?;
        self.0.create(context, &mut state)?;
        Body::from_state(&state)
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem> {
        let new: S::State = read(context, fields)?;
        let current = stored(context.spec, current)?;
        Body::from_state(&self.0.put(context, &current, new)?)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        patch: Patch,
    ) -> Result<Body, Problem> {
        let before = stored(context.spec, current)?;
        let new = Body::from_state(&self.0.patch(context, &before, &patch)?)?;
        unknown::kept((context.spec, &context.numbers), new, current, &before, &patch)
    }

    fn delete(&self, context: &mut Context<'_>, current: &Body) -> Result<(), Problem> {
        self.0.delete(context, &stored(context.spec, current)?)
    }

    fn step(&self, _: &mut Context<'_>, _: &Body, _: &Step) -> Result<Stepped, Problem> {
        Err(Problem::internal("a service that is no task has no steps"))
    }
}

/// A [`Task`] without its type.
pub(crate) struct ErasedTask<T>(pub(crate) T);

impl<T: Task> Handlers for ErasedTask<T> {
    fn create(
        &self,
        context: &mut Context<'_>,
        mut fields: Map<String, Value>,
    ) -> Result<Body, Problem> {
        let info = TaskInfo::create(&fields, context.now)?;
        take_out(&mut fields);
        let mut state: T::State = read(context, fields)?;
        self.0.create(context, &mut state)?;
        write(&state, &info, None)
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        _: &Body,
        _: Map<String, Value>,
    ) -> Result<Body, Problem> {
        let message = format!("{} is a task and takes no PUT; use PATCH", context.spec.factory);
        Err(Problem::new(Code::MethodNotAllowed, message))
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        mut patch: Patch,
    ) -> Result<Body, Problem> {
        let was = current.to_map();
        let before = TaskInfo::of_fields(&was);
        let had_ended = before.stage.is_final();
        let mut info = before.patch(&patch.fields, context.now)?;
        let given = patch.fields.get(FAILURE_MESSAGE).filter(|_| info.stage.is_final());
        let mut message = given.or(was.get(FAILURE_MESSAGE)).cloned();
        take_out(&mut patch.fields);
        if info.stage.is_final() && !had_ended {
            match self.calls_to_undo(context, current, &info) {
                Ok(calls) => info.undoing = calls.is_some(),
                Err(problem) => {
                    message = Some(not_undone(message.as_ref(), &problem.message).into());
                }
            }
        }
        if patch.fields.is_empty() {
            // Only the stage: it must work whatever the handler thinks of the rest.
            let mut fields = was;
            info.put_in(&mut fields);
            fields.insert(FAILURE_MESSAGE.into(), message.into());
            return Ok(Body::from_map(fields));
        }
        let before = stored(context.spec, current)?;
        let state = self.0.patch(context, &before, &patch)?;
        let new = write(&state, &info, message)?;
        unknown::kept((context.spec, &context.numbers), new, current, &before, &patch)
    }

    /// What a task has done would stay for ever if the task went before it is undone.
    fn delete(&self, context: &mut Context<'_>, current: &Body) -> Result<(), Problem> {
        let info = TaskInfo::of(current);
        // A state that cannot be read says nothing of what to undo, and must not stay for ever.
        let undoes = || matches!(self.calls_to_undo(context, current, &info), Ok(Some(_)));
        if !info.is_in_progress() || !undoes() {
            return Ok(());
        }
        let link = context.link;
        let text = match info.undoing {
            true => format!("{link} is undoing what it has done; delete it when it has ended"),
            false => format!(
                "{link} is under way, and what it has done would not be undone: cancel it first \
                 (PATCH {{\"taskInfo\":{{\"stage\":\"CANCELLED\"}}}}), and delete it when it has ended"
            ),
        };
        Err(Problem::new(Code::Refused, text))
    }

    fn step(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        step: &Step,
    ) -> Result<Stepped, Problem> {
        let mut info = TaskInfo::of(current);
        match step {
            Step::Fail(problem) => return Ok(self.failed(context, current, problem)),
            Step::Undone(answers) => return Ok(self.undone(context, current, info, answers)),
            _ if info.undoing => return self.undo_calls(context, current, &info),
            Step::Plan | Step::Learn { .. } => {}
        }
        let control = info.control.clone();
        info.control.step_is_over();
        let mut state: T::State = stored(context.spec, current)?;
        let known = unknown::Known::of(current, &state)?;
        let write = |state: &T::State, info: &TaskInfo| known.put_in(write(state, info, None)?);
        let mut changed = info.stage == TaskStage::Created;
        info.stage = TaskStage::Started;
        if let Step::Learn { answers, and_plan } = step {
            changed = true;
            self.0.learn(context, &mut state, answers)?;
            info.step_time_micros = Some(context.now.0);
            if !and_plan || info.control.held {
                return Ok(Stepped { body: Some(write(&state, &info)?), calls: None });
            }
        }
        match self.0.plan(context, &state) {
            Plan::Fail(words) => {
                let problem = Problem::bad_request(words);
                Ok(self.failed(context, &write(&state, &info)?, &problem))
            }
            Plan::Finish => {
                info.end(TaskStage::Finished, context.now);
                Ok(Stepped { body: Some(write(&state, &info)?), calls: None })
            }
            Plan::Send(messages) => {
                messages.into_iter().try_for_each(|message| context.sending.push(message))?;
                self.0.learn(context, &mut state, &[])?;
                info.step_time_micros = Some(context.now.0);
                Ok(Stepped { body: Some(write(&state, &info)?), calls: None })
            }
            Plan::Call { requests, .. } if requests.len() > CALLS_PER_STEP_MAX => {
                Err(Problem::bad_request(format!(
                    "a step of {} requests; the limit is {CALLS_PER_STEP_MAX}",
                    requests.len()
                )))
            }
            Plan::Call { after_micros, requests } => {
                let body = if changed { Some(write(&state, &info)?) } else { None };
                let after_micros = info.left_of(after_micros, context.now);
                let life = info.life();
                let (is_undo, planned_by) = (false, control.step_version.filter(|_| !changed));
                let is_skipped = control.skipping && !changed;
                let calls = Calls { life, after_micros, requests, is_undo, planned_by, is_skipped };
                Ok(Stepped { body, calls: Some(calls) })
            }
        }
    }
}

impl<T: Task> ErasedTask<T> {
    fn failed(&self, context: &Context<'_>, current: &Body, problem: &Problem) -> Stepped {
        let mut fields = current.to_map();
        let mut info = TaskInfo::of_fields(&fields);
        info.end(TaskStage::Failed, context.now);
        info.control.step_is_over();
        info.failure = Some(problem.to_json());
        let mut message = Value::from(problem.message.clone());
        let calls = self.calls_to_undo(context, current, &info).unwrap_or_else(|why| {
            message = not_undone(Some(&message), &why.message).into();
            None
        });
        info.undoing = calls.is_some();
        info.put_in(&mut fields);
        fields.insert(FAILURE_MESSAGE.into(), message);
        Stepped { body: Some(Body::from_map(fields)), calls }
    }

    /// The calls that undo what the task has done, once more if a former owner has begun with them.
    fn undo_calls(
        &self,
        context: &Context<'_>,
        current: &Body,
        info: &TaskInfo,
    ) -> Result<Stepped, Problem> {
        match self.calls_to_undo(context, current, info) {
            Ok(Some(calls)) => Ok(Stepped { body: None, calls: Some(calls) }),
            Ok(None) | Err(_) => Ok(self.undone(context, current, info.clone(), &[])),
        }
    }

    /// The next of the requests that undo what the task has done: as many as go into one step.
    ///
    /// # Errors
    /// When the state cannot be read or `undo` panics, so that nobody knows what to undo. The task
    /// ends all the same, is cancelled and is deleted: what it did stays, and that is said.
    fn calls_to_undo(
        &self,
        context: &Context<'_>,
        current: &Body,
        info: &TaskInfo,
    ) -> Result<Option<Calls>, Problem> {
        let all = caught(|| {
            let state: T::State = stored(context.spec, current)?;
            Ok(self.0.undo(context, &state))
        });
        let all: Vec<Request> = all.unwrap_or_else(|panic| Err(Problem::internal(panic)))?;
        let rest = all.into_iter().skip(info.undone);
        let requests: Vec<Request> = rest.take(CALLS_PER_STEP_MAX).collect();
        let (life, after_micros) = (info.life(), 0);
        let (planned_by, is_skipped) = (info.control.step_version, info.control.skipping);
        let is_undo = true;
        let calls = Calls { life, after_micros, requests, is_undo, planned_by, is_skipped };
        Ok((!calls.requests.is_empty()).then_some(calls))
    }

    /// Some of what the task has done is undone. When it is all, the task has ended for good. What
    /// could not be undone is said.
    fn undone(
        &self,
        context: &Context<'_>,
        current: &Body,
        mut info: TaskInfo,
        answers: &[Response],
    ) -> Stepped {
        let mut fields = current.to_map();
        let failures = answers.iter().filter_map(|answer| succeeded(answer).err());
        let mut failures: Vec<String> = failures.map(|it| it.message).collect();
        if failures.len() > FAILURES_TOLD {
            let others = failures.len() - FAILURES_TOLD;
            failures.truncate(FAILURES_TOLD);
            failures.push(format!("and {others} more errors"));
        }
        info.undone += answers.len();
        info.control.step_is_over();
        let calls = self.calls_to_undo(context, current, &info).unwrap_or_else(|problem| {
            failures.push(problem.message);
            None
        });
        info.undoing = calls.is_some();
        if !info.undoing {
            info.undone = 0;
        }
        info.put_in(&mut fields);
        if !failures.is_empty() {
            let words = not_undone(fields.get(FAILURE_MESSAGE), &failures.join("; "));
            fields.insert(FAILURE_MESSAGE.into(), words.into());
        }
        Stepped { body: Some(Body::from_map(fields)), calls }
    }
}

/// The body of a POST or PUT as a state.
fn read<S: serde::de::DeserializeOwned>(
    context: &Context<'_>,
    mut fields: Map<String, Value>,
) -> Result<S, Problem> {
    fields.retain(|_, value| !value.is_null());
    check_types(context.spec, &fields)?;
    check_required(context.spec, &fields)?;
    decode(context.spec, context.numbers.of_patch(fields), &context.numbers)
}

fn write<S: Serialize>(
    state: &S,
    info: &TaskInfo,
    message: Option<Value>,
) -> Result<Body, Problem> {
    let mut fields = Body::from_state(state)?.to_map();
    info.put_in(&mut fields);
    fields.insert(FAILURE_MESSAGE.into(), message.into());
    Ok(Body::from_map(fields))
}

/// What is said already, and why something was not undone.
fn not_undone(before: Option<&Value>, why: &str) -> String {
    let before = before.and_then(Value::as_str);
    let before = before.map_or(String::new(), |words| format!("{words}; "));
    format!("{before}what it did was not undone: {why}")
}

#[cfg(test)]
mod tests {
    use protocol::{Method, Moment, Term};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{Numbers, Sending, Spec};

    /// A task that has much to undo.
    struct Busy;

    #[derive(Serialize, Deserialize)]
    struct Done {
        count: usize,
    }

    impl Task for Busy {
        type State = Done;

        fn spec(&self) -> Spec {
            Spec::new("/core/busy", "test:Busy")
        }

        fn plan(&self, _: &Context<'_>, _: &Done) -> Plan {
            Plan::Finish
        }

        fn learn(&self, _: &mut Context<'_>, _: &mut Done, _: &[Response]) -> Result<(), Problem> {
            Ok(())
        }

        fn undo(&self, _: &Context<'_>, done: &Done) -> Vec<Request> {
            let links = (0..done.count).map(|number| format!("/core/things/{number}"));
            links.map(|link| Request::new(Method::Delete, link)).collect()
        }
    }

    fn step(body: &Body, step: &Step) -> Stepped {
        let spec = Busy.spec();
        let mut context = Context {
            link: "/core/busy/one",
            version: 1,
            epoch: Term(1),
            now: Moment(5),
            node_id: "n1",
            spec: &spec,
            expires: Moment(0),
            numbers: Numbers::default(),
            sending: Sending::default(),
        };
        ErasedTask(Busy).step(&mut context, body, step).expect("a step succeeds")
    }

    fn task(fields: Value) -> Body {
        let Value::Object(fields) = fields else { panic!("not an object") };
        Body::from_map(fields)
    }

    #[test]
    fn all_that_a_task_did_is_undone_however_much_it_is() {
        let count = 2 * CALLS_PER_STEP_MAX + 7;
        let body = task(json!({"count": count, "taskInfo": {"stage": "STARTED"}}));
        let mut stepped = step(&body, &Step::Fail(Problem::bad_request("no more")));
        let mut asked = Vec::new();
        let mut body = stepped.body.expect("it has failed");
        while let Some(calls) = stepped.calls.take() {
            assert!(calls.requests.len() <= CALLS_PER_STEP_MAX && calls.is_undo);
            // The next owner goes on where this one was.
            let again = step(&body, &Step::Plan).calls.expect("there is something to undo");
            assert_eq!(again.requests[0].path, calls.requests[0].path);
            let answer = |request: &Request| {
                let is_last = request.path.ends_with(&format!("/{}", count - 1));
                let status = if is_last { 409 } else { 200 };
                Response::json(status, &json!({"message": "kept"}))
            };
            let answers = calls.requests.iter().map(answer).collect();
            asked.extend(calls.requests.into_iter().map(|request| request.path));
            stepped = step(&body, &Step::Undone(answers));
            body = stepped.body.take().expect("how far it is is written");
        }
        let all: Vec<String> = (0..count).map(|number| format!("/core/things/{number}")).collect();
        assert_eq!(asked, all);
        let fields = body.to_map();
        let words = "no more; what it did was not undone: a request was answered with 409: kept";
        assert_eq!(fields[FAILURE_MESSAGE], words);
        assert!(!TaskInfo::of(&body).is_in_progress());
        assert_eq!(fields["taskInfo"].get("undone"), None);
    }

    #[test]
    fn a_task_that_has_something_to_undo_is_not_deleted_before_it_has_ended() {
        let spec = Busy.spec();
        let delete = |count: Value, info: Value| {
            let link = "/core/busy/one";
            let (version, epoch, now, expires) = (1, Term(1), Moment(5), Moment(0));
            let (node_id, spec, numbers) = ("n1", &spec, Numbers::default());
            let sending = Sending::default();
            let mut context =
                Context { link, version, epoch, now, node_id, spec, expires, numbers, sending };
            let body = task(json!({"count": count, "taskInfo": info}));
            ErasedTask(Busy).delete(&mut context, &body).map_err(|problem| problem.message)
        };
        let why = delete(1.into(), json!({"stage": "STARTED"})).unwrap_err();
        assert!(why.contains("cancel it first"), "{why}");
        let why = delete(1.into(), json!({"stage": "CANCELLED", "undoing": true})).unwrap_err();
        assert!(why.contains("is undoing"), "{why}");
        for (count, info) in [
            (0.into(), json!({"stage": "STARTED"})),
            (1.into(), json!({"stage": "CANCELLED"})),
            (1.into(), json!({"stage": "FINISHED"})),
            ("three".into(), json!({"stage": "STARTED"})),
        ] {
            assert_eq!(delete(count, info.clone()), Ok(()), "{info}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_is_said_to_be_not_undone() {
        let body = task(json!({"count": "three", "taskInfo": {"stage": "STARTED"}}));
        let stepped = step(&body, &Step::Fail(Problem::bad_request("no more")));
        assert!(stepped.calls.is_none());
        let fields = stepped.body.expect("it has failed").to_map();
        let words = fields[FAILURE_MESSAGE].as_str().expect("it is text");
        assert!(words.starts_with("no more; what it did was not undone: "), "{words}");
    }

    #[test]
    fn many_errors_are_counted() {
        let info = json!({"stage": "FAILED", "undoing": true});
        let body = task(json!({"count": 20, "taskInfo": info}));
        let answers = vec![Response::json(409, &json!({"message": "kept"})); 20];
        let fields = step(&body, &Step::Undone(answers)).body.expect("it has ended").to_map();
        let words = fields[FAILURE_MESSAGE].as_str().expect("it is text");
        assert!(words.ends_with("kept; and 4 more errors"), "{words}");
    }
}
