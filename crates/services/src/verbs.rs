//! What each verb does to a document, and the rules around the handlers: what exists, which
//! version, how large, until when.

use std::sync::Arc;

use documents::Retention;
use protocol::service::{Answer, Handler};
use protocol::{
    Action, Body, Code, Document, InstanceMessage, Method, Moment, Problem, Request, Response,
};

use crate::asking::{Asking, Heard};
use crate::body::{Incoming, too_large};
use crate::control::{self, Control, Controlled, UnderWay};
use crate::handlers::{Handlers, Step, Stepped};
use crate::invocation::{Invocation, NewVersion, Verdict, Work};
use crate::outside::{Draft, Said};
use crate::sending::Sending;
use crate::state::check_fixed;
use crate::task::{TaskInfo, changed_field};
use crate::{Context, Numbers, Patch, ServiceOption, Spec, digits, merge};

/// The pragma that gives a deleted link a new life (Xenon's).
const FORCE: &str = "xn-force-index-update";

/// The pragma of a DELETE that in Xenon stops the service in memory and keeps the document. Here no
/// service stays in memory, so there is nothing to stop.
const STOP_ONLY: &str = "xn-no-index-update";

/// Whether a POST to a factory of tasks has a body that such a task can have. For tasks of which no
/// document is made.
///
/// # Errors
/// What is wrong with it.
pub fn check_task(spec: &Spec, request: &Request, now: Moment) -> Result<(), Problem> {
    let incoming = Incoming::parse(request, spec)?;
    check_first_version(&incoming)?;
    TaskInfo::create(&incoming.fields, now).map(drop)
}

/// One handler's call.
pub(crate) struct Job<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) handlers: &'a dyn Handlers,
    pub(crate) invocation: &'a Invocation,
}

/// What a verb made.
struct Made {
    action: Action,
    body: Body,
    expires: Moment,
    status: u16,
    messages: Vec<InstanceMessage>,
}

impl Job<'_> {
    /// A client's write.
    pub(crate) fn update(&self, request: &Request) -> Verdict {
        let incoming = match self.incoming(request) {
            Ok(incoming) => incoming,
            Err(problem) => return Verdict::Refused(problem),
        };
        if let Err(problem) = self.check_conditions(request) {
            return Verdict::AsItIs(refusal(problem));
        }
        let verdict = match request.method {
            Method::Post => self.post(request, incoming),
            Method::Put => self.put(request, incoming),
            Method::Patch if request.action.is_some() => self.act(request, incoming),
            Method::Patch => self.patch(request, incoming),
            Method::Delete if request.has_pragma(STOP_ONLY) => Ok(Verdict::AsItIs(empty())),
            Method::Delete => self.delete(request, incoming),
            Method::Get | Method::Options => Err(not_allowed(self.spec, request.method)),
        };
        verdict.unwrap_or_else(|problem| Verdict::AsItIs(refusal(problem)))
    }

    /// A task is held, released or the like. Its own state stays as it is.
    pub(crate) fn control(
        &self,
        request: &Request,
        control: Control,
        under_way: &UnderWay,
    ) -> Verdict {
        if let Err(problem) = self.check_conditions(request) {
            return Verdict::AsItIs(refusal(problem));
        }
        let verdict = self.controlled(request, control, under_way);
        verdict.unwrap_or_else(|problem| Verdict::AsItIs(refusal(problem)))
    }

    fn controlled(
        &self,
        request: &Request,
        control: Control,
        under_way: &UnderWay,
    ) -> Result<Verdict, Problem> {
        let current = self.changeable()?;
        let Invocation { link, now, .. } = self.invocation;
        let user = request.principal.user().map(ToString::to_string);
        let asking = control::Asking { link, version: current.version, now: *now, user };
        let info = TaskInfo::of(&current.body).controlled(control, &asking, under_way)?;
        let Some(info) = info else { return Ok(Verdict::Shown(Arc::new(current.clone()))) };
        let mut fields = current.body.to_map();
        info.put_in(&mut fields);
        let body = digits::kept(Body::from_map(fields), &request.body, Some(&current.body));
        let (action, expires, messages) = (Action::Patch, current.expires, Vec::new());
        self.write(Made { action, body, expires, status: 200, messages })
    }

    /// A task goes on.
    pub(crate) fn step(&self, step: &Step) -> Verdict {
        let Some(current) = self.live() else { return Verdict::Ended };
        let info = TaskInfo::of(&current.body);
        if !info.is_in_progress() {
            return Verdict::Ended;
        }
        let Controlled { held, skipping, step_version, .. } = info.control;
        if held && !skipping && matches!(step, Step::Plan) {
            return Verdict::Held { in_mid_step: step_version.is_some() };
        }
        let mut context = self.context(current.expires);
        if matches!(step, Step::Plan) || info.undoing {
            // What it plans may have the version in it.
            context.version = step_version.unwrap_or(current.version);
        }
        let stepped = match self.handlers.step(&mut context, &current.body, step) {
            Ok(stepped) => stepped,
            Err(problem) => return self.fail(problem),
        };
        let expires = context.expires;
        let Stepped { body, calls } = with_digits(stepped, step, &current.body);
        match (body, calls) {
            (Some(body), calls) => {
                if body.len() > self.spec.state_bytes_max {
                    return self.fail(too_large("the state", body.len(), self.spec));
                }
                let messages = context.sending.take();
                let made = Made { action: Action::Patch, body, expires, status: 200, messages };
                let mut version = self.version(made);
                version.is_step = true;
                version.calls = calls.filter(|_| !version.control.held);
                Verdict::Write(Box::new(version))
            }
            // It would begin to undo.
            (None, Some(_)) if held && !skipping => {
                Verdict::Held { in_mid_step: step_version.is_some() }
            }
            (None, Some(calls)) => Verdict::Calls(calls),
            (None, None) => Verdict::Ended,
        }
    }

    /// The task goes to FAILED, whatever its handlers think.
    pub(crate) fn fail(&self, problem: Problem) -> Verdict {
        let Some(current) = self.live() else { return Verdict::Ended };
        let mut context = self.context(current.expires);
        let step = Step::Fail(problem);
        let stepped = self.handlers.step(&mut context, &current.body, &step);
        match stepped.map(|stepped| with_digits(stepped, &step, &current.body)) {
            Ok(Stepped { body: Some(body), calls }) => {
                let (expires, messages) = (current.expires, Vec::new());
                let made = Made { action: Action::Patch, body, expires, status: 200, messages };
                let mut version = self.version(made);
                version.is_step = true;
                version.calls = calls.filter(|_| !version.control.held);
                Verdict::Write(Box::new(version))
            }
            _ => Verdict::Ended,
        }
    }

    fn post(&self, request: &Request, incoming: Incoming) -> Result<Verdict, Problem> {
        if let Some(current) = self.live() {
            let is_idempotent = self.spec.has(ServiceOption::IdempotentPost);
            if !is_idempotent || self.spec.has(ServiceOption::Immutable) {
                return Err(self.already_exists());
            }
            if self.spec.is_task {
                return Ok(Verdict::Shown(Arc::new(current.clone())));
            }
            return self.put(request, incoming);
        }
        self.check_deleted(request, &incoming)?;
        let mut context = self.context(incoming.expires.unwrap_or_else(|| self.expiration()));
        context.numbers = Numbers::of(None, &request.body, &incoming.fields);
        let body = if self.is_outside(Handler::Create) {
            let draft = self.handlers.draft(&context, Draft::Create(incoming.fields))?;
            let draft = Some(digits::kept(draft, &request.body, None));
            match self.asking(Handler::Create, (request, &context), (draft, None)).heard()? {
                Heard::Body(body) => body,
                other => return Ok(self.not_written(other)),
            }
        } else {
            let mut body = self.handlers.create(&mut context, incoming.fields)?;
            if let Some(made) = self.invocation.user_made.filter(|_| self.spec.is_task) {
                body = TaskInfo::with_author(&body, made);
            }
            digits::kept(body, &request.body, None)
        };
        let status = if self.spec.is_task { 202 } else { 200 };
        let (expires, messages) = (context.expires, self.messages(Handler::Create, &mut context)?);
        self.write(Made { action: Action::Post, body, expires, status, messages })
    }

    fn put(&self, request: &Request, incoming: Incoming) -> Result<Verdict, Problem> {
        let current = self.changeable()?;
        if self.spec.has(ServiceOption::StrictUpdate) {
            incoming.check_version(current)?;
        }
        let mut context = self.context(incoming.expires.unwrap_or(current.expires));
        context.numbers = Numbers::of(None, &request.body, &incoming.fields);
        let body = if self.is_outside(Handler::Put) {
            let draft = self.handlers.draft(&context, Draft::Put(incoming.fields))?;
            let draft = Some(digits::kept(draft, &request.body, Some(&current.body)));
            match self.asking(Handler::Put, (request, &context), (draft, None)).heard()? {
                Heard::Body(body) => body,
                other => return Ok(self.not_written(other)),
            }
        } else {
            let body = self.handlers.put(&mut context, &current.body, incoming.fields)?;
            digits::kept(body, &request.body, Some(&current.body))
        };
        check_fixed(self.spec, &current.body, &body)?;
        let (expires, messages) = (context.expires, self.messages(Handler::Put, &mut context)?);
        self.write(Made { action: Action::Put, body, expires, status: 200, messages })
    }

    fn patch(&self, request: &Request, incoming: Incoming) -> Result<Verdict, Problem> {
        let current = self.changeable()?;
        if self.spec.has(ServiceOption::StrictUpdate) || incoming.is_strict() {
            incoming.check_version(current)?;
        }
        let mut context = self.context(incoming.expires.unwrap_or(current.expires));
        let kind = if incoming.is_strict() { None } else { incoming.kind };
        let patch = Patch { kind, fields: incoming.fields, body_type: request.body_type };
        context.numbers = Numbers::of(Some(&current.body), &request.body, &patch.fields);
        let compared = (!context.numbers.is_empty()).then(|| patch.clone());
        let outside = self.is_outside(Handler::Patch);
        let given = outside.then(|| patch.fields.clone());
        let mut body = match outside {
            true => self.handlers.draft(&context, Draft::Patch(&current.body, &patch))?,
            false => self.handlers.patch(&mut context, &current.body, patch)?,
        };
        if let Some(patch) = compared {
            body = merge::with_numbers(self.spec, body, &patch, &context.numbers);
        }
        let mut body = digits::kept(body, &request.body, Some(&current.body));
        if outside {
            let draft = (Some(body), given);
            match self.asking(Handler::Patch, (request, &context), draft).heard()? {
                Heard::Body(heard) => body = heard,
                other => return Ok(self.not_written(other)),
            }
        }
        check_fixed(self.spec, &current.body, &body)?;
        let (expires, messages) = (context.expires, self.messages(Handler::Patch, &mut context)?);
        self.write(Made { action: Action::Patch, body, expires, status: 200, messages })
    }

    /// An action of a program outside. It is a change of the document as a PATCH is.
    fn act(&self, request: &Request, incoming: Incoming) -> Result<Verdict, Problem> {
        let current = self.changeable()?;
        // No typed client sends the version that it has read with an action, so it is meant.
        if self.spec.has(ServiceOption::StrictUpdate) || incoming.version.is_some() {
            incoming.check_version(current)?;
        }
        let mut context = self.context(incoming.expires.unwrap_or(current.expires));
        let given = Some(incoming.fields);
        match self.asking(Handler::Action, (request, &context), (None, given)).heard()? {
            Heard::Body(body) => {
                check_fixed(self.spec, &current.body, &body)?;
                let (action, expires) = (Action::Patch, context.expires);
                let messages = self.messages(Handler::Action, &mut context)?;
                self.write(Made { action, body, expires, status: 200, messages })
            }
            other => Ok(self.not_written(other)),
        }
    }

    fn is_outside(&self, handler: Handler) -> bool {
        self.handlers.outside().is_some_and(|outside| outside.has(handler))
    }

    fn asking<'a>(
        &'a self,
        handler: Handler,
        (request, context): (&'a Request, &'a Context<'a>),
        (draft, given): (Option<Body>, Option<serde_json::Map<String, serde_json::Value>>),
    ) -> Asking<'a> {
        let Self { handlers, invocation, .. } = *self;
        let current = self.live().map(|current| &current.body);
        Asking { handlers, invocation, context, request, handler, draft, current, given }
    }

    /// What goes to immortals with the version: of the handler here, or of the program outside. If
    /// the definition has changed since it was asked, and the handler is here by now, the version
    /// is not what the program has said, and its messages go nowhere.
    fn messages(
        &self,
        handler: Handler,
        context: &mut Context<'_>,
    ) -> Result<Vec<InstanceMessage>, Problem> {
        let is_outside = handler == Handler::Action || self.is_outside(handler);
        if is_outside
            && let Some(Said::Answer(Answer::Sending { messages, .. })) = &self.invocation.said
        {
            for message in messages.clone() {
                context.sending.push(message).map_err(|why| {
                    let factory = &self.spec.factory;
                    let text = format!("the program of {factory} cannot send: {}", why.message);
                    Problem::new(Code::ProgramFailed, text)
                })?;
            }
        }
        Ok(context.sending.take())
    }

    fn not_written(&self, heard: Heard) -> Verdict {
        match (heard, self.live()) {
            (Heard::Verdict(verdict), _) => verdict,
            (_, Some(current)) => Verdict::Shown(Arc::new(current.clone())),
            (_, None) => Verdict::AsItIs(empty()),
        }
    }

    /// Deleting what is not there succeeds. A tombstone may be given an expiration later.
    fn delete(&self, request: &Request, incoming: Incoming) -> Result<Verdict, Problem> {
        let live = self.live();
        // One that has expired goes by itself, perhaps in the entry before this one.
        let kept =
            |it: &&Document| incoming.expires.is_some() && !it.is_expired(self.invocation.now);
        let tombstone = self.invocation.current.as_deref().filter(kept);
        let Some(current) = live.or(tombstone) else {
            return Ok(Verdict::AsItIs(Response::bytes(200, bytes::Bytes::new())));
        };
        if live.is_some() && !self.is_outside(Handler::Delete) {
            self.check_delete(current, &incoming)?;
        }
        let mut context = self.context(incoming.expires.unwrap_or(current.expires));
        if live.is_some() && self.is_outside(Handler::Delete) {
            let asking = self.asking(Handler::Delete, (request, &context), (None, None));
            if let Heard::Verdict(verdict) = asking.heard()? {
                return Ok(verdict);
            }
        } else if live.is_some() {
            self.handlers.delete(&mut context, &current.body)?;
        }
        let body = current.body.clone();
        let (expires, messages) = (context.expires, self.messages(Handler::Delete, &mut context)?);
        self.write(Made { action: Action::Delete, body, expires, status: 200, messages })
    }

    /// The body of a DELETE changes no field. A program outside may be told something by it.
    fn check_delete(&self, current: &Document, incoming: &Incoming) -> Result<(), Problem> {
        if self.spec.has(ServiceOption::StrictUpdate) && incoming.version.is_some_and(|it| it > 0) {
            incoming.check_version(current)?;
        }
        match changed_field(&current.body.to_map(), &incoming.fields) {
            None => Ok(()),
            Some(name) => Err(Problem::bad_request(format!(
                "a DELETE changes no field, and its body has '{name}', which is not as it is in \
                 {}: leave it out",
                current.link
            ))),
        }
    }

    fn incoming(&self, request: &Request) -> Result<Incoming, Problem> {
        let immutable = self.spec.has(ServiceOption::Immutable);
        if immutable && matches!(request.method, Method::Put | Method::Patch) {
            return Err(not_allowed(self.spec, request.method));
        }
        if self.spec.is_task && request.method == Method::Put {
            let message = format!("{} is a task and takes no PUT; use PATCH", self.spec.factory);
            return Err(Problem::new(Code::MethodNotAllowed, message));
        }
        if let Some(action) = &request.action {
            self.check_action(action)?;
            // What an action takes is no state.
            let spec = Spec { fields: Vec::new(), ..self.spec.clone() };
            return Incoming::parse(request, &spec);
        }
        let incoming = Incoming::parse(request, self.spec)?;
        if incoming.is_empty && matches!(request.method, Method::Put | Method::Patch) {
            let method = request.method.name();
            return Err(Problem::bad_body(format!("{method} needs a body: a JSON object")));
        }
        Ok(incoming)
    }

    /// The node that passed it on may know a newer definition.
    fn check_action(&self, action: &String) -> Result<(), Problem> {
        let actions = self.handlers.outside().map_or(&[][..], |outside| outside.actions());
        if actions.contains(action) {
            return Ok(());
        }
        Err(no_action(&self.spec.factory, action, actions))
    }

    /// The newest version, if it is neither deleted nor expired.
    fn live(&self) -> Option<&Document> {
        let current = self.invocation.current.as_deref()?;
        (!current.is_deleted() && !current.is_expired(self.invocation.now)).then_some(current)
    }

    fn changeable(&self) -> Result<&Document, Problem> {
        self.live()
            .ok_or_else(|| missing(&self.invocation.link, self.invocation.current.as_deref()))
    }

    fn already_exists(&self) -> Problem {
        let message = format!(
            "{} is there already; use PUT or PATCH, or another documentSelfLink",
            self.invocation.link
        );
        Problem::new(Code::AlreadyExists, message)
    }

    /// A link that was deleted gets a new life only when that is asked for.
    fn check_deleted(&self, request: &Request, incoming: &Incoming) -> Result<(), Problem> {
        let tombstone = self.invocation.current.as_deref();
        let Some(tombstone) = tombstone.filter(|it| !it.is_expired(self.invocation.now)) else {
            return check_first_version(incoming);
        };
        let is_newer = incoming.version.is_some_and(|version| version > tombstone.version);
        if is_newer || request.has_pragma(FORCE) {
            return Ok(());
        }
        let message = format!(
            "{} was deleted at version {}; to make it anew send a higher documentVersion, or the \
             header Pragma: {FORCE}",
            tombstone.link, tombstone.version
        );
        Err(Problem::new(Code::MarkedDeleted, message))
    }

    fn check_conditions(&self, request: &Request) -> Result<(), Problem> {
        if request.conditions.is_empty() {
            return Ok(());
        }
        let current = self.live().map(Document::etag);
        let held = request.conditions.check(current.as_deref(), request.method.is_write());
        held.map_err(|header| unmet(&self.invocation.link, &header, current.as_deref()))
    }

    fn expiration(&self) -> Moment {
        match self.spec.expiration_micros {
            0 => Moment(0),
            micros => Moment(self.invocation.now.0.saturating_add(micros)),
        }
    }

    fn context(&self, expires: Moment) -> Context<'_> {
        let Invocation { link, epoch, now, node_id, current, .. } = self.invocation;
        Context {
            link,
            version: current.as_ref().map_or(0, |current| current.version + 1),
            epoch: *epoch,
            now: *now,
            node_id,
            spec: self.spec,
            expires,
            numbers: Numbers::default(),
            sending: Sending::default(),
        }
    }

    /// A task stays its maker's, whoever changes it, as it acts with the maker's rights.
    fn author(&self) -> Option<Arc<str>> {
        let of_current = || self.live().and_then(|current| current.author.clone());
        match &self.invocation.work {
            Work::Step(_) | Work::Control(..) => of_current(),
            Work::Update(_) if self.spec.is_task && self.live().is_some() => of_current(),
            Work::Update(request) => request.principal.user().cloned(),
        }
    }

    fn write(&self, made: Made) -> Result<Verdict, Problem> {
        if made.body.len() > self.spec.state_bytes_max {
            return Err(too_large("the state", made.body.len(), self.spec));
        }
        Ok(Verdict::Write(Box::new(self.version(made))))
    }

    fn version(&self, made: Made) -> NewVersion {
        let Invocation { link, epoch, now, node_id, current, .. } = self.invocation;
        let info = self.spec.is_task.then(|| TaskInfo::of(&made.body));
        let is_deleted = made.action == Action::Delete;
        NewVersion {
            status: made.status,
            task: info.as_ref().map(|info| info.is_in_progress() && !is_deleted),
            is_undoing: info.as_ref().is_some_and(|info| info.undoing),
            is_direct: info.as_ref().is_some_and(|info| info.is_direct),
            control: info.map(|info| info.control).unwrap_or_default(),
            purge: is_deleted && made.expires.0 != 0 && made.expires <= *now,
            retention: Retention {
                limit: self.spec.retention_limit,
                floor: self.spec.retention_floor,
            },
            is_step: false,
            calls: None,
            messages: made.messages,
            document: Arc::new(Document {
                link: link.clone(),
                version: current.as_ref().map_or(0, |current| current.version + 1),
                epoch: *epoch,
                kind: self.spec.kind.clone(),
                action: made.action,
                updated: *now,
                expires: made.expires,
                owner: node_id.to_string(),
                author: self.author(),
                body: made.body,
            }),
        }
    }
}

/// What a task has made of its state and of answers, with the numbers as they were written there.
fn with_digits(mut stepped: Stepped, step: &Step, before: &Body) -> Stepped {
    let answers = match step {
        Step::Learn { answers, .. } => answers.as_slice(),
        _ => &[],
    };
    let answers = answers.iter().map(|answer| &answer.body[..]);
    stepped.body = stepped.body.map(|body| {
        digits::kept_of(body.as_bytes(), answers, before).map_or(body, Body::from_text)
    });
    let state = stepped.body.as_ref().unwrap_or(before);
    for request in stepped.calls.iter_mut().flat_map(|calls| &mut calls.requests) {
        if let Some(body) = digits::kept_of(&request.body, std::iter::empty(), state) {
            request.body = body.into();
        }
    }
    stepped
}

/// `documentVersion` in a POST says which deletion it goes beyond. Of a link without one it can say
/// nothing: the first version is 0.
fn check_first_version(incoming: &Incoming) -> Result<(), Problem> {
    match incoming.version {
        None | Some(0) => Ok(()),
        Some(version) => Err(Problem::bad_request(format!(
            "documentVersion is {version}: a new document begins at version 0; leave it out"
        ))),
    }
}

/// The words for an action that there is not.
pub fn no_action(factory: &str, action: &str, actions: &[String]) -> Problem {
    let what = match actions {
        [] => "none: its definition names no actions".to_owned(),
        _ => actions.join(", "),
    };
    let text = format!("documents of {factory} have no action '{action}'; they have {what}");
    Problem::not_found(text)
}

/// A condition of the request does not hold.
pub(crate) fn unmet(link: &str, header: &str, etag: Option<&str>) -> Problem {
    let found = etag.unwrap_or("there is no document");
    let message = format!("{link}: {header}, found {found}; read it again");
    Problem::new(Code::PreconditionFailed, message)
}

fn empty() -> Response {
    Response::json(200, &serde_json::json!({}))
}

/// The words for a document that is not there.
pub(crate) fn missing(link: &str, latest: Option<&Document>) -> Problem {
    match latest {
        Some(document) if document.is_deleted() => {
            Problem::not_found(format!("{link} was deleted at version {}", document.version))
        }
        Some(_) => Problem::not_found(format!("{link} has expired")),
        None => Problem::not_found(format!("there is no document {link}")),
    }
}

fn not_allowed(spec: &Spec, method: Method) -> Problem {
    let message = format!("documents of {} take no {}", spec.factory, method.name());
    Problem::new(Code::MethodNotAllowed, message)
}

/// A write that was surely not applied.
fn refusal(problem: Problem) -> Response {
    problem.with_outcome(protocol::Outcome::NotApplied).into()
}
