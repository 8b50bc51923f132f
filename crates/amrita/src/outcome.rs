//! How a command ends: well, or with words for people and an exit code for scripts.

use client::{ClientError, Response};

/// What becomes of a command.
pub(crate) type Outcome = Result<(), Trouble>;

/// Why it did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was refused, or failed: surely nothing was changed by it, or what failed is known.
    Refused = 1,
    /// It was said wrongly, and nobody was asked. The library for arguments has the same code.
    Usage = 2,
    /// Whether it was done is not known.
    Unknown = 3,
}

/// How a command ended that did not end well; the lines are shown as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) ending: Ending,
    pub(crate) why: String,
}

/// For `--help` and the reference.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  it was done
  1  it was refused, or it failed
  2  it was said wrongly; nobody was asked
  3  whether it was done is not known: look, or repeat a write to documents or an impulse with
     the same --idempotency-key";

impl Trouble {
    pub(crate) fn usage(why: impl Into<String>) -> Self {
        Self { ending: Ending::Usage, why: why.into() }
    }

    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self { ending: Ending::Unknown, why: why.into() }
    }

    /// Says with which key the command can be repeated, if it is not known whether it was done.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        if self.ending == Ending::Unknown {
            self.why.push_str(&format!("\n  -> its key was: --idempotency-key {key}"));
        }
        self
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { ending: Ending::Refused, why }
    }
}

impl From<&str> for Trouble {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

/// The words of an answer that tells of an error.
pub(crate) fn problem(response: &Response) -> String {
    let body = response.to_json();
    let code = body["code"].as_str().unwrap_or("no code");
    let message = body["message"].as_str().unwrap_or("the node gave no reason");
    let outcome = match body["outcome"].as_str() {
        Some("notApplied") => "\n  -> nothing was written",
        Some("unknown") => {
            "\n  -> whether it was written is not known: look, or repeat it with the same \
             --idempotency-key"
        }
        _ => "",
    };
    format!("{message} ({} {code}){outcome}", response.status)
}

/// An answer that tells of an error.
pub(crate) fn refusal(response: &Response) -> Trouble {
    let why = problem(response);
    let is_unknown = response.to_json()["outcome"] == "unknown";
    let ending = if is_unknown { Ending::Unknown } else { Ending::Refused };
    Trouble { ending, why }
}

/// No answer at all: what to do about it.
pub(crate) fn unreachable(error: &ClientError) -> Trouble {
    let ending = match error {
        ClientError::Address(why) | ClientError::Malformed(why) => return Trouble::usage(why),
        ClientError::Unreachable { outcome_unknown: true, .. }
        | ClientError::OutOfTime { outcome_unknown: true, .. } => Ending::Unknown,
        ClientError::Unreachable { .. } | ClientError::OutOfTime { .. } => Ending::Refused,
    };
    let why = format!(
        "{error}\n  -> is the cluster up? `amrita up` starts one on this machine; --address or \
         AMRITA_ADDRESS names another"
    );
    Trouble { ending, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_outcome_that_is_not_known_has_a_code_of_its_own() {
        let of = |outcome: &str| {
            let body = json!({"code": "TIMEOUT", "message": "m", "outcome": outcome});
            refusal(&Response::json(504, &body)).ending
        };
        assert_eq!((of("unknown"), of("notApplied")), (Ending::Unknown, Ending::Refused));
        let lost = |outcome_unknown| {
            let tried = vec!["http://a:1".to_owned()];
            unreachable(&ClientError::OutOfTime { tried, outcome_unknown }).ending
        };
        assert_eq!((lost(true), lost(false)), (Ending::Unknown, Ending::Refused));
        assert_eq!(unreachable(&ClientError::Address("x".into())).ending, Ending::Usage);
    }

    #[test]
    fn what_may_be_repeated_says_with_which_key() {
        assert!(Trouble::unknown("lost").with_key("k-1").why.ends_with("--idempotency-key k-1"));
        assert_eq!(Trouble::from("refused").with_key("k-1").why, "refused");
    }

    #[test]
    fn the_help_names_each_code() {
        for ending in [Ending::Refused, Ending::Usage, Ending::Unknown] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", ending as u8)), "{ending:?}");
        }
    }
}
