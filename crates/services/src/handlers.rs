//! Services with their state types erased: JSON in, JSON out.

use protocol::{Body, Code, Problem, Request, Response, TaskStage};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::body::{check_required, check_types, decode, stored};
use crate::task::{FAILURE_MESSAGE, INFO, TaskInfo, take_out};
use crate::{Context, Patch, Plan, Service, Task};

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
        let current = stored(context.spec, current)?;
        Body::from_state(&self.0.patch(context, &current, &patch)?)
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
        let info = TaskInfo::of_fields(&was).patch(&patch.fields, context.now)?;
        let given = patch.fields.get(FAILURE_MESSAGE).filter(|_| info.stage == TaskStage::Failed);
        let message = given.or(was.get(FAILURE_MESSAGE)).cloned();
        take_out(&mut patch.fields);
        if patch.fields.is_empty() {
            // Only the stage: it must work whatever the handler thinks of the rest.
            let mut fields = was;
            info.put_in(&mut fields);
            fields.insert(FAILURE_MESSAGE.into(), message.into());
            return Ok(Body::from_map(fields));
        }
        let state = self.0.patch(context, &stored(context.spec, current)?, &patch)?;
        write(&state, &info, message)
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
        if let Step::Fail(problem) = step {
            return Ok(failed(context, current.to_map(), problem));
        }
        let mut state: T::State = stored(context.spec, current)?;
        let mut info = TaskInfo::of(current);
        let mut changed = info.stage == TaskStage::Created;
        info.stage = TaskStage::Started;
        if let Step::Learn { answers, and_plan } = step {
            changed = true;
            self.0.learn(context, &mut state, answers)?;
            if !and_plan {
                return Ok(Stepped { body: Some(write(&state, &info, None)?), calls: None });
            }
        }
        match self.0.plan(context, &state) {
            Plan::Fail(words) => {
                let problem = Problem::bad_request(words);
                Ok(failed(context, write(&state, &info, None)?.to_map(), &problem))
            }
            Plan::Finish => {
                info.end(TaskStage::Finished, context.now);
                Ok(Stepped { body: Some(write(&state, &info, None)?), calls: None })
            }
            Plan::Call { requests, .. } if requests.len() > CALLS_PER_STEP_MAX => {
                Err(Problem::bad_request(format!(
                    "a step of {} requests; the limit is {CALLS_PER_STEP_MAX}",
                    requests.len()
                )))
            }
            Plan::Call { after_micros, requests } => {
                let body = if changed { Some(write(&state, &info, None)?) } else { None };
                let life = info.start_time_micros.unwrap_or_default();
                Ok(Stepped { body, calls: Some(Calls { life, after_micros, requests }) })
            }
        }
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

fn failed(context: &Context<'_>, mut fields: Map<String, Value>, problem: &Problem) -> Stepped {
    let mut info = TaskInfo::of_fields(&fields);
    info.end(TaskStage::Failed, context.now);
    info.failure = Some(problem.to_json());
    fields.remove(INFO);
    info.put_in(&mut fields);
    fields.insert(FAILURE_MESSAGE.into(), problem.message.clone().into());
    Stepped { body: Some(Body::from_map(fields)), calls: None }
}
