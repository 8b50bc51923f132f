//! Writes to documents. A write is a message that follows from an input as every other: it is made
//! exactly once, whoever dies in the middle, and in order with all that this program has written
//! before to documents of the same partition.

use protocol::instance_write::WriteMethod;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::book::WaitId;
use crate::incoming::{Outcome, Refused};
use crate::program::{Context, Immortal};

/// A document that is written to, by its link.
///
/// ```no_run
/// # use immortal::{Context, Document, Immortal};
/// # fn of<P: Immortal<Next = ()>>(context: &mut Context<'_, P>) {
/// Document::at("/core/orders/o1").patch(&serde_json::json!({"paid": true})).fork(context);
/// // The answer comes to `resume`: see `Outcome::written`.
/// let seat = Document::at("/app/seats/A1");
/// seat.act("hold", &serde_json::json!({"for": "jane"})).call(context, ());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(String);

impl Document {
    /// The document at this link, such as `/core/orders/o1`.
    pub fn at(link: impl Into<String>) -> Self {
        Self(link.into())
    }

    pub fn link(&self) -> &str {
        &self.0
    }

    /// Makes it. The program names its documents itself: all copies must say the same.
    pub fn post(&self, state: &impl Serialize) -> Write {
        Write::new(self.0.clone(), WriteMethod::Post, json(state))
    }

    /// Replaces what it says.
    pub fn put(&self, state: &impl Serialize) -> Write {
        Write::new(self.0.clone(), WriteMethod::Put, json(state))
    }

    /// Changes what it says.
    pub fn patch(&self, fields: &impl Serialize) -> Write {
        Write::new(self.0.clone(), WriteMethod::Patch, json(fields))
    }

    pub fn delete(&self) -> Write {
        Write::new(self.0.clone(), WriteMethod::Delete, Vec::new())
    }

    /// Has an action of it done.
    pub fn act(&self, action: &str, body: &impl Serialize) -> Write {
        Write::new(format!("{}/actions/{action}", self.0), WriteMethod::Act, json(body))
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what is written to a document can be written as JSON")
}

/// A write that is still to be sent.
#[must_use = "nothing is written yet: fork it, or call it"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    link: String,
    method: WriteMethod,
    body: Vec<u8>,
}

impl Write {
    fn new(link: String, method: WriteMethod, body: Vec<u8>) -> Self {
        Self { link, method, body }
    }

    /// Writes, and does not wait for what becomes of it. What is refused is told to the log of the
    /// document's node only.
    ///
    /// # Panics
    /// As [`Context::fork`].
    pub fn fork<P: Immortal>(&self, context: &mut Context<'_, P>) {
        context.fork(&self.link, self.method.number(), &self.body);
    }

    /// Writes; [`Immortal::resume`] goes on with `next` when it is known what became of it: see
    /// [`Outcome::written`].
    ///
    /// # Panics
    /// As [`Context::fork`].
    pub fn call<P: Immortal>(&self, context: &mut Context<'_, P>, next: P::Next) -> WaitId {
        context.call(&self.link, self.method.number(), &self.body, next)
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// As HTTP has it: 200, or why it was refused, such as 404 or 409.
    pub status: u16,
    /// The document as it was written, or the error. Null when there is none, or when it is longer
    /// than 256 KiB.
    pub body: Value,
}

impl Written {
    /// The version that was written.
    pub fn version(&self) -> Option<u64> {
        self.body["documentVersion"].as_u64()
    }

    /// The name of the error, such as `NOT_FOUND`.
    pub fn code(&self) -> Option<&str> {
        self.body["code"].as_str()
    }

    pub fn is_success(&self) -> bool {
        self.status < 400
    }
}

#[derive(Deserialize)]
struct Told {
    status: u16,
    body: Value,
}

impl Outcome<'_> {
    /// What became of a write to a document.
    ///
    /// # Errors
    /// When it was refused: the code and the words. [`Outcome::write`] gives more of it.
    pub fn written(&self) -> Result<Written, Refused> {
        let written = self.write()?;
        if written.is_success() {
            return Ok(written);
        }
        let message = written.body["message"].as_str().unwrap_or_default();
        Err(Refused(format!("{} ({}): {message}", written.code().unwrap_or(""), written.status)))
    }

    /// The same, whether it was made or refused.
    ///
    /// # Errors
    /// When this is not the outcome of a write.
    pub fn write(&self) -> Result<Written, Refused> {
        let Told { status, body } = self.value()?;
        Ok(Written { status, body })
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::Status;
    use serde_json::json;

    use super::*;

    fn outcome(payload: &str) -> Outcome<'_> {
        Outcome { status: Status::Value, payload: payload.as_bytes() }
    }

    #[test]
    fn a_write_has_its_link_its_method_and_its_body() {
        let seat = Document::at("/app/seats/A1");
        let all = [
            (seat.post(&json!({"n": 1})), "/app/seats/A1", 1, r#"{"n":1}"#),
            (seat.put(&json!({})), "/app/seats/A1", 2, "{}"),
            (seat.patch(&json!({"n": 2})), "/app/seats/A1", 3, r#"{"n":2}"#),
            (seat.delete(), "/app/seats/A1", 4, ""),
            (seat.act("hold", &json!({})), "/app/seats/A1/actions/hold", 5, "{}"),
        ];
        for (write, link, method, body) in all {
            assert_eq!((write.link.as_str(), write.method.number()), (link, method));
            assert_eq!(write.body, body.as_bytes());
        }
    }

    #[test]
    fn what_was_refused_is_an_error_with_its_code() {
        let made = outcome(r#"{"status":200,"body":{"documentVersion":7,"n":1}}"#);
        let written = made.written().unwrap();
        assert_eq!((written.version(), &written.body["n"]), (Some(7), &json!(1)));
        let refused = r#"{"status":404,"body":{"code":"NOT_FOUND","message":"no"}}"#;
        let why = outcome(refused).written().unwrap_err();
        assert_eq!(why.0, "NOT_FOUND (404): no");
        assert_eq!(outcome(refused).write().unwrap().code(), Some("NOT_FOUND"));
        assert!(outcome("[1]").write().is_err());
    }
}
