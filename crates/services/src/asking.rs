//! A handler that is in a program outside, run in two halves: the first one gives what the program
//! is to be asked, the second one goes on with what it has said.

use bytes::Bytes;
use protocol::service::{Answer, Call, Handler};
use protocol::{Body, Code, Problem, Request};
use serde_json::{Map, Value};

use crate::Context;
use crate::digits;
use crate::handlers::Handlers;
use crate::invocation::{Ask, Invocation, Verdict};
use crate::outside::{Said, refusal, state_of};

/// One call of a program.
pub(crate) struct Asking<'a> {
    pub(crate) handlers: &'a dyn Handlers,
    pub(crate) invocation: &'a Invocation,
    pub(crate) context: &'a Context<'a>,
    pub(crate) request: &'a Request,
    pub(crate) handler: Handler,
    /// What would be written without the program.
    pub(crate) draft: Option<Body>,
    /// The state as it is, if there is one.
    pub(crate) current: Option<&'a Body>,
    /// What the client has sent, where that is not the draft.
    pub(crate) given: Option<Map<String, Value>>,
}

/// What goes on.
pub(crate) enum Heard {
    /// A state to be written.
    Body(Body),
    /// There is nothing to be written, and nothing is wrong.
    Nothing,
    /// It does not go on here.
    Verdict(Verdict),
}

impl Asking<'_> {
    /// # Errors
    /// Why the program refuses, or why what it gives cannot be written.
    pub(crate) fn heard(self) -> Result<Heard, Problem> {
        let answer = match &self.invocation.said {
            None => return Ok(Heard::Verdict(self.ask())),
            Some(Said::Nothing(problem)) => {
                return Ok(Heard::Verdict(Verdict::Refused(problem.clone())));
            }
            Some(Said::Answer(Answer::Sending { answer, .. })) => self.sending(answer)?,
            Some(Said::Answer(answer)) => answer,
        };
        match answer {
            Answer::Refused { status, message } => Err(refusal(*status, message.clone())),
            Answer::Failed { message } => {
                let factory = &self.context.spec.factory;
                let text = format!("a handler of the program of {factory} has failed: {message}");
                Ok(Heard::Verdict(Verdict::Refused(Problem::new(Code::ProgramFailed, text))))
            }
            Answer::Sending { .. } => {
                unreachable!(
                    "the codec takes no messages within messages, and `sending` gives none"
                )
            }
            Answer::State(_) if self.handler == Handler::Delete => {
                let factory = &self.context.spec.factory;
                let text = format!("the program of {factory} has given a state to a DELETE");
                Err(Problem::new(Code::ProgramFailed, text))
            }
            Answer::State(text) => {
                let fields = state_of(text, &self.context.spec.factory)?;
                let body = self.judged(fields)?;
                Ok(Heard::Body(digits::kept(body, text, self.current)))
            }
            Answer::AsItIs => match &self.draft {
                None => Ok(Heard::Nothing),
                Some(draft) => {
                    self.judged(draft.to_map())?;
                    Ok(Heard::Body(draft.clone()))
                }
            },
        }
    }

    /// What is to be written beside messages. Without a version there is nothing that they could
    /// go with.
    fn sending<'b>(&self, answer: &'b Answer) -> Result<&'b Answer, Problem> {
        let is_nothing = self.handler == Handler::Action && *answer == Answer::AsItIs;
        if !is_nothing && matches!(answer, Answer::State(_) | Answer::AsItIs) {
            return Ok(answer);
        }
        let factory = &self.context.spec.factory;
        let text = format!(
            "the program of {factory} sends to immortals with a version, and gives none to write"
        );
        Err(Problem::new(Code::ProgramFailed, text))
    }

    fn judged(&self, fields: Map<String, Value>) -> Result<Body, Problem> {
        self.handlers.judge(self.context, self.current, fields)
    }

    fn ask(self) -> Verdict {
        let json = |body: &Body| Bytes::copy_from_slice(body.as_bytes());
        let given = self.given.map_or_else(Bytes::new, |fields| {
            let given = Body::from_text(Value::Object(fields).to_string());
            json(&digits::kept(given, &self.request.body, None))
        });
        let call = Call {
            handler: self.handler,
            action: self.request.action.clone().unwrap_or_default(),
            link: self.context.link.to_owned(),
            version: self.context.version,
            time: self.context.now,
            user: self.request.principal.user().map_or_else(String::new, |user| user.to_string()),
            before: self.current.map_or_else(Bytes::new, json),
            after: self.draft.as_ref().map_or_else(Bytes::new, json),
            body: given,
        };
        Verdict::Ask(Box::new(Ask { call, invocation: self.invocation.clone() }))
    }
}
