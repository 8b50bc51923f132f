//! The programming model: what one writes to make a service or a task.
//!
//! Handlers run on the owner of the document only, one at a time for each document, and what they
//! return is what is replicated. So they may do as they like, but must not wait long: other
//! documents of the node wait for the same few threads.

use protocol::{Code, Epoch, InstanceMessage, Moment, Problem, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::control::INFO;
use crate::sending::{self, Sending};
use crate::task::FAILURE_MESSAGE;
use crate::{Numbers, Patch, Spec, merge};

/// A kind of documents and what happens when they are written.
///
/// Every handler but [`Service::spec`] may be left out: POST and PUT then store the body, PATCH
/// merges it (see [`Context::merge`]), DELETE always succeeds.
pub trait Service: Send + Sync + 'static {
    /// The user's fields. They are read from JSON with nulls and built-in `document...` fields
    /// left out, so most fields want `#[serde(default)]` or `Option`. Fields of a body that the
    /// type does not know are dropped, as Xenon does.
    type State: Serialize + DeserializeOwned;

    fn spec(&self) -> Spec;

    /// A new document (POST). May change the state or refuse.
    ///
    /// # Errors
    /// What the client is told; nothing is written then.
    fn create(&self, context: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        let _unused = (context, state);
        Ok(())
    }

    /// A whole new state (PUT, or POST of what is there with `IdempotentPost`).
    ///
    /// # Errors
    /// What the client is told; nothing is written then.
    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        new: Self::State,
    ) -> Result<Self::State, Problem> {
        let _unused = (context, current);
        Ok(new)
    }

    /// A change (PATCH).
    ///
    /// # Errors
    /// What the client is told; nothing is written then.
    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        patch: &Patch,
    ) -> Result<Self::State, Problem> {
        context.merge(current, patch)
    }

    /// The document is about to be deleted.
    ///
    /// # Errors
    /// What the client is told; the document stays then.
    fn delete(&self, context: &mut Context<'_>, current: &Self::State) -> Result<(), Problem> {
        let _unused = (context, current);
        Ok(())
    }
}

/// A kind of documents that do something, step by step, until they are in a final stage.
///
/// Each step is planned from the persisted state, its requests are made, and what was learnt from
/// the answers is persisted as the next version. When the owner dies, the next one plans the last
/// persisted state again and makes the same requests with the same idempotency keys: so what had
/// been done is not done twice. For that, **a plan must follow from the state alone**: put times
/// and random values into the state, in `create` or `learn`.
///
/// A client's PATCH waits while a step is under way, so that no step is lost or run twice because
/// of it; cancelling (`{"taskInfo":{"stage":"CANCELLED"}}`) and DELETE do not wait.
///
/// A task must not make requests to itself: they would wait for the very step that made them.
///
/// `taskInfo` and `failureMessage` are kept beside the state: the state type has no such fields.
pub trait Task: Send + Sync + 'static {
    /// The user's fields; see [`Service::State`].
    type State: Serialize + DeserializeOwned;

    fn spec(&self) -> Spec;

    /// A new task (POST). May change the state or refuse.
    ///
    /// # Errors
    /// What the client is told; nothing is written then.
    fn create(&self, context: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        let _unused = (context, state);
        Ok(())
    }

    /// A client's PATCH, in whatever stage.
    ///
    /// # Errors
    /// What the client is told; nothing is written then.
    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        patch: &Patch,
    ) -> Result<Self::State, Problem> {
        context.merge(current, patch)
    }

    /// What to do next.
    fn plan(&self, context: &Context<'_>, state: &Self::State) -> Plan;

    /// What the answers mean, one for each request of the plan and in its order. None is 503 or
    /// 504: a request that is answered so is made again, under the same key, until the task
    /// expires. After it the state is persisted.
    ///
    /// # Errors
    /// The task goes to the stage FAILED with this message.
    fn learn(
        &self,
        context: &mut Context<'_>,
        state: &mut Self::State,
        answers: &[Response],
    ) -> Result<(), Problem>;

    /// What undoes the steps so far, when the task is cancelled or fails. The requests are made
    /// after the last step's own are answered, and again by the next owner if this one dies; only
    /// then has the task ended. If there are more than go into one step, they are made in several,
    /// in their order. As a plan they must follow from the state alone, and they must be
    /// right for a step that was begun and not learnt, too. What they are answered with is added to
    /// `failureMessage` if it is an error. When this panics, the task ends without being undone,
    /// and `failureMessage` says so.
    fn undo(&self, context: &Context<'_>, state: &Self::State) -> Vec<Request> {
        let _unused = (context, state);
        Vec::new()
    }
}

/// What a task does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Make these requests, all at once, after a pause; then learn. None at all is just a pause.
    /// The pause counts from the last step that was persisted, whoever owns the task by then and
    /// whatever clients have changed meanwhile.
    Call { after_micros: u64, requests: Vec<Request> },
    /// Send these messages to immortals, and learn from no answers. They are part of the version
    /// that `learn` makes: they are sent exactly if it is written, whoever owns the task then.
    Send(Vec<InstanceMessage>),
    /// Stage FINISHED.
    Finish,
    /// Stage FAILED, with these words as `failureMessage`.
    Fail(String),
}

impl Plan {
    pub fn call(request: Request) -> Self {
        Self::calls(vec![request])
    }

    pub fn calls(requests: Vec<Request>) -> Self {
        Self::Call { after_micros: 0, requests }
    }

    /// Makes the calls only after a pause.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        match self {
            Self::Call { requests, .. } => Self::Call { after_micros: micros, requests },
            end => end,
        }
    }

    /// Learns from no answers after a pause.
    pub fn wait(micros: u64) -> Self {
        Self::Call { after_micros: micros, requests: Vec::new() }
    }
}

/// The body of an answer that a task got, if it says success.
///
/// # Errors
/// The answer's own words and its code, when it is an error; so `learn` can pass it on with `?`.
/// A direct task that has ended as FAILED or CANCELLED is one: it is answered with 200 and has not
/// done what it was asked.
pub fn succeeded(answer: &Response) -> Result<Value, Problem> {
    let body = answer.to_json();
    if answer.status == 207 {
        let text = "a batch was done in part: its answer says what of it was not";
        return Err(Problem::new(Code::BatchFailed, text));
    }
    if answer.is_success() {
        return match ended_badly(&body) {
            None => Ok(body),
            Some(problem) => Err(problem),
        };
    }
    let words = body["message"].as_str().unwrap_or("no message");
    let code = body["code"].as_str().and_then(Code::named).unwrap_or(Code::BadRequest);
    Err(Problem::new(code, format!("a request was answered with {}: {words}", answer.status)))
}

fn ended_badly(task: &Value) -> Option<Problem> {
    let info = &task[INFO];
    let stage = info["stage"].as_str().filter(|stage| ["FAILED", "CANCELLED"].contains(stage))?;
    if info["isDirect"] != true {
        return None;
    }
    let link = task["documentSelfLink"].as_str().unwrap_or("the direct task");
    let words = task[FAILURE_MESSAGE].as_str().or(info["failure"]["message"].as_str());
    let words = words.unwrap_or("no message");
    let code = info["failure"]["code"].as_str().and_then(Code::named).unwrap_or(Code::BadRequest);
    Some(Problem::new(code, format!("{link} has ended as {stage}: {words}")))
}

/// Where and when a handler runs.
pub struct Context<'a> {
    /// The self link of the document.
    pub link: &'a str,
    /// The version that is being made; for a plan, the version it is made from.
    pub version: u64,
    /// The owner's term.
    pub epoch: Epoch,
    /// The owner's wall clock.
    pub now: Moment,
    /// The owner's node id.
    pub node_id: &'a str,
    /// What the service said about itself.
    pub spec: &'a Spec,
    /// When the new version expires; 0 is never. A handler may change it.
    pub expires: Moment,
    /// The numbers of the body, and for a PATCH of the state, that a double does not hold as they
    /// were written.
    pub numbers: Numbers,
    /// What goes to immortals with the version: see [`Context::send`].
    pub sending: Sending,
}

impl Context<'_> {
    /// Sends a message to an immortal. It is part of the version that is being made: it is sent
    /// exactly once if the version is written, and not at all if it is not. The messages of a
    /// document come in the order of its versions. The program sees the document's link as the
    /// sender. The arguments are a tuple, or a list.
    ///
    /// # Errors
    /// When there can be no such instance, the arguments cannot be JSON, or it is too much for
    /// one version ([`crate::MESSAGES_MAX`], [`crate::MESSAGES_BYTES_MAX`]). Whether the
    /// instance is there is not looked at: the message waits for it.
    pub fn send(
        &mut self,
        instance: &str,
        method: i64,
        arguments: &impl Serialize,
    ) -> Result<(), Problem> {
        self.sending.push(sending::message(instance, method, arguments)?)
    }

    /// Lets the document expire that many microseconds from now.
    pub fn expire_after(&mut self, micros: u64) {
        self.expires = Moment(self.now.0.saturating_add(micros));
    }

    /// The built-in PATCH. Fields that are there and not null replace what was; lists, sets and
    /// maps of fields declared with [`crate::Field::merge`] are united with what was. A JSON merge
    /// patch (RFC 7396) follows that RFC instead: nulls remove. Xenon's requests to add and remove
    /// items of lists and maps (`ServiceStateCollectionUpdateRequest`,
    /// `ServiceStateMapUpdateRequest`) are known by their `kind`.
    ///
    /// # Errors
    /// When the result is not a state, naming the field.
    pub fn merge<S: Serialize + DeserializeOwned>(
        &self,
        current: &S,
        patch: &Patch,
    ) -> Result<S, Problem> {
        merge::state(self.spec, current, patch, &self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_that_is_passed_on_keeps_its_code() {
        let conflict: Response = Problem::new(Code::AlreadyExists, "it is there").into();
        let problem = succeeded(&conflict).unwrap_err();
        assert_eq!((problem.code, problem.status()), (Code::AlreadyExists, 409));
        assert!(problem.message.contains("it is there"), "{problem}");
        assert_eq!(succeeded(&Response::json(200, &Value::Null)).unwrap(), Value::Null);
    }

    #[test]
    fn a_direct_task_that_has_failed_has_not_succeeded() {
        let task = |stage: &str, is_direct: bool| {
            let info = json!({"stage": stage, "isDirect": is_direct,
                "failure": {"code": "ALREADY_EXISTS", "message": "it is there"}});
            succeeded(&Response::json(200, &json!({"taskInfo": info, "documentSelfLink": "/a/b"})))
        };
        assert!(task("FINISHED", true).is_ok());
        assert!(task("FAILED", false).is_ok(), "a task that is looked at is not asked to do it");
        for stage in ["FAILED", "CANCELLED"] {
            let problem = task(stage, true).unwrap_err();
            assert_eq!(problem.code, Code::AlreadyExists);
            let words = format!("/a/b has ended as {stage}: it is there");
            assert_eq!(problem.message, words);
        }
    }
}
