//! What went wrong, what to do about it, and whether the write may have happened all the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What became of a write that was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Surely not applied; it may be sent again as it is.
    NotApplied,
    /// It may have been applied, or may still be. Repeat it with the same `Idempotency-Key`.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $number:literal;)*) => {
        /// A stable name for each kind of error, shown as `code` beside Xenon's `errorCode`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* $variant),* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The code with that word, if it is one.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Xenon's `errorCode` (a signed 32-bit number there), 0 where it had none.
            pub fn number(self) -> u32 {
                match self { $(Self::$variant => $number),* }
            }
        }
    };
}

codes! {
    /// The request cannot be understood or is not valid for this service.
    BadRequest = "BAD_REQUEST", 400, 0;
    /// The body is not JSON, or not of the right types.
    BadBody = "BAD_BODY", 400, 0;
    /// The link is malformed or too long.
    BadLink = "BAD_LINK", 400, 0;
    /// The `kind` in the body is not one this service knows.
    UnknownKind = "UNKNOWN_KIND", 400, 0;
    /// The changes after a token are not kept any more.
    ChangesGone = "CHANGES_GONE", 410, 0;
    /// A version that is needed is not kept any more.
    HistoryGone = "HISTORY_GONE", 410, 0;
    /// No such document, version or service.
    NotFound = "NOT_FOUND", 404, 0;
    /// The service has no such verb.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, 0;
    /// The document is there already.
    AlreadyExists = "ALREADY_EXISTS", 409, 0x8000_0003;
    /// The link was deleted; a new life must be asked for with a higher version.
    MarkedDeleted = "MARKED_DELETED", 409, 0x8000_0002;
    /// The version named in the body is not the current one.
    VersionMismatch = "VERSION_MISMATCH", 409, 0;
    /// `If-Match` does not hold.
    PreconditionFailed = "PRECONDITION_FAILED", 412, 0;
    /// The body is over the limit.
    TooLarge = "TOO_LARGE", 413, 0;
    /// What is at this path is spoken to in another protocol, over an upgraded connection.
    UpgradeRequired = "UPGRADE_REQUIRED", 426, 0;
    /// The key was used before for another request.
    KeyReused = "KEY_REUSED", 422, 0;
    /// The effect comes from an owner that was replaced.
    Fenced = "FENCED", 409, 0x8000_0001;
    /// The change is refused as the cluster stands (a quorum out of range, a join with documents),
    /// or by the program that has the handlers of a kind.
    Refused = "REFUSED", 409, 0;
    /// The kind is defined by a newer version of a program.
    OlderDefinition = "OLDER_DEFINITION", 409, 0;
    /// Fewer replicas are up than the membership quorum asks for.
    QuorumNotMet = "QUORUM_NOT_MET", 503, 0x8000_0011;
    /// No owner is known at the moment.
    NoOwner = "NO_OWNER", 503, 0x8000_0012;
    /// A queue with a bound is full.
    Busy = "BUSY", 503, 0x8000_0007;
    /// The disk is full or failing; the node takes no writes.
    Storage = "STORAGE", 503, 0x8000_0013;
    /// The node is stopping.
    Stopping = "STOPPING", 503, 0x8000_0014;
    /// The handlers of the kind are in a program outside, and none is attached to any node.
    NoProgram = "NO_PROGRAM", 503, 0;
    /// The programs that were asked have died, or have answered nonsense.
    ProgramFailed = "PROGRAM_FAILED", 502, 0;
    /// Another request of the same atom of a batch was refused, so this one was not done.
    BatchFailed = "BATCH_FAILED", 424, 0;
    /// A person has skipped the request of a task before it was answered.
    Skipped = "SKIPPED", 424, 0;
    /// No answer in time.
    Timeout = "TIMEOUT", 504, 0;
    /// Our mistake.
    Internal = "INTERNAL", 500, 0;
    /// A page of another origin, or a name that is not this node's.
    Forbidden = "FORBIDDEN", 403, 0;
    /// The body is of a type, or packed in a way, that is not read here.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, 0;
    /// The header `Expect` asks for something that is not done here.
    ExpectationFailed = "EXPECTATION_FAILED", 417, 0;
    /// It is not known who asks: there is no token, or one that is not valid.
    Unauthorized = "UNAUTHORIZED", 401, 0;
    /// It is known who asks, and that one may not do this.
    AccessDenied = "ACCESS_DENIED", 403, 0;
    /// Too many wrong passwords.
    SlowDown = "SLOW_DOWN", 429, 0;
}

/// `documentKind` of an error body.
pub const KIND_ERROR: &str = "com:vmware:xenon:common:ServiceErrorResponse";

/// The longest message, in bytes; of a longer one the middle is left out. What a request says may
/// be in it, and a request may be many megabytes: each error would be.
const MESSAGE_BYTES_MAX: usize = 1_200;

/// How much of the end of a longer one remains: what to do stands there.
const END_BYTES: usize = 500;

/// An error with all that a caller needs (Xenon's `ServiceErrorResponse`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    /// What happened and what to do, in words for people.
    pub message: String,
    /// Set for writes only.
    pub outcome: Option<Outcome>,
    /// When to try again, in seconds; shown as `Retry-After`.
    pub retry_after_seconds: Option<u32>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after_seconds = (code.status() == 503).then_some(1);
        Self { code, message: clipped(message.into()), outcome: None, retry_after_seconds }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub fn bad_body(message: impl Into<String>) -> Self {
        Self::new(Code::BadBody, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Says what became of the write.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The body of the answer, in Xenon's shape with our additions (`code`, `outcome`).
    pub fn to_json(&self) -> Value {
        let details: &[&str] =
            if self.retry_after_seconds.is_some() { &["SHOULD_RETRY"] } else { &[] };
        let mut body = json!({
            "message": self.message,
            "statusCode": self.status(),
            "documentKind": KIND_ERROR,
            "errorCode": self.code.number().cast_signed(),
            "code": self.code.name(),
            "details": details,
        });
        if let Some(outcome) = self.outcome {
            body["outcome"] = match outcome {
                Outcome::NotApplied => "notApplied".into(),
                Outcome::Unknown => "unknown".into(),
            };
        }
        body
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code.name(), self.status(), self.message)
    }
}

impl std::error::Error for Problem {}

fn clipped(message: String) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let at = |wanted: usize| (0..=wanted).rev().find(|at| message.is_char_boundary(*at));
    let begin = at(MESSAGE_BYTES_MAX - END_BYTES - 10).unwrap_or(0);
    let end = at(message.len() - END_BYTES).unwrap_or(0);
    format!("{} ... {}", &message[..begin], &message[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let problem = Problem::bad_request(format!("wrong: '{}'; do this", "é".repeat(50_000)));
        assert!(problem.message.len() <= MESSAGE_BYTES_MAX, "{}", problem.message.len());
        assert!(problem.message.starts_with("wrong: 'éé"));
        assert!(problem.message.ends_with("é'; do this"));
        assert_eq!(Problem::bad_request("short").message, "short");
    }
}
