//! Services with their state types erased: JSON in, JSON out.

use protocol::{Body, Code, Problem, Request, Response, TaskStage};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::body::{check_required, check_types, decode, stored};
use crate::task::{FAILURE_MESSAGE, TaskInfo, take_out};
use crate::{Context, Patch, Plan, Service, Task, succeeded, unknown};

/// How many requests a task may make in one step.
pub const CALLS_PER_STEP_MAX: usize = 256;

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
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    /// Tells two tasks that had the same link one after the other.
    pub(crate) life: u64,
    pub(crate) after_micros: u64,
    pub(crate) requests: Vec<Request>,
    /// They undo what the task has done.
    pub(crate) is_undo: bool,
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
        unknown::kept(new, current, &before, &patch)
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
        let given = patch.fields.get(FAILURE_MESSAGE).filter(|_| info.stage == TaskStage::Failed);
        let message = given.or(was.get(FAILURE_MESSAGE)).cloned();
        take_out(&mut patch.fields);
        if info.stage.is_final() && !had_ended {
            let state = stored::<T::State>(context.spec, current).ok();
            info.undoing = state.is_some_and(|state| !self.0.undo(context, &state).is_empty());
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
        unknown::kept(new, current, &before, &patch)
    }

    fn delete(&self, _: &mut Context<'_>, _: &Body) -> Result<(), Problem> {
        Ok(())
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
            Step::Undone(answers) => return Ok(undone(current, info, answers)),
            _ if info.undoing => return self.undo_calls(context, current, &info),
            Step::Plan | Step::Learn { .. } => {}
        }
        let mut state: T::State = stored(context.spec, current)?;
        let known = unknown::Known::of(current, &state)?;
        let write = |state: &T::State, info: &TaskInfo| known.put_in(write(state, info, None)?);
        let mut changed = info.stage == TaskStage::Created;
        info.stage = TaskStage::Started;
        if let Step::Learn { answers, and_plan } = step {
            changed = true;
            self.0.learn(context, &mut state, answers)?;
            info.step_time_micros = Some(context.now.0);
            if !and_plan {
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
                let calls = Calls { life, after_micros, requests, is_undo: false };
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
        info.failure = Some(problem.to_json());
        let calls = self.calls_to_undo(context, current, &info);
        info.undoing = calls.is_some();
        info.put_in(&mut fields);
        fields.insert(FAILURE_MESSAGE.into(), problem.message.clone().into());
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
            Some(calls) => Ok(Stepped { body: None, calls: Some(calls) }),
            None => Ok(undone(current, info.clone(), &[])),
        }
    }

    fn calls_to_undo(
        &self,
        context: &Context<'_>,
        current: &Body,
        info: &TaskInfo,
    ) -> Option<Calls> {
        let state: T::State = stored(context.spec, current).ok()?;
        let mut requests = self.0.undo(context, &state);
        requests.truncate(CALLS_PER_STEP_MAX);
        let (life, after_micros) = (info.life(), 0);
        let calls = Calls { life, after_micros, requests, is_undo: true };
        (!calls.requests.is_empty()).then_some(calls)
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
    decode(context.spec, fields)
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

/// The task has ended for good. What could not be undone is said.
fn undone(current: &Body, mut info: TaskInfo, answers: &[Response]) -> Stepped {
    let mut fields = current.to_map();
    info.undoing = false;
    info.put_in(&mut fields);
    let failures: Vec<String> =
        answers.iter().filter_map(|answer| succeeded(answer).err()).map(|it| it.message).collect();
    if !failures.is_empty() {
        let before = fields.get(FAILURE_MESSAGE).and_then(Value::as_str);
        let before = before.map_or(String::new(), |words| format!("{words}; "));
        let words = format!("{before}what it did was not undone: {}", failures.join("; "));
        fields.insert(FAILURE_MESSAGE.into(), words.into());
    }
    Stepped { body: Some(Body::from_map(fields)), calls: None }
}
