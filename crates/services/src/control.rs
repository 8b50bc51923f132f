//! What people ask of a task that does not go on: to hold it, to release it, to try again now, to
//! give up what it waits for; and what the task keeps of that. See docs/design/0028.
//!
//! **Invariant:** the keys of a step's calls are made of the version whose state has planned the
//! step. A hold, a release and a skip are versions too, but they leave that state as it is; so each
//! keeps the number of that version (`stepVersion`), and whoever goes on makes the same keys. The
//! number goes when the step is persisted.

use protocol::{Code, Moment, Outcome, Problem, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The field with all of it.
pub(crate) const INFO: &str = "taskInfo";

/// What is asked of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Hold,
    Release,
    /// What waits for its next attempt is tried now.
    Retry,
    /// The calls of the step that are not answered are given up.
    Skip,
}

/// What `taskInfo` says of a task that is held, and of a step that may have been begun before the
/// task was held or a skip was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Controlled {
    /// It takes no further step until it is released.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) held: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_time_micros: Option<u64>,
    /// The user who holds it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<String>,
    /// The version that has planned the step, which may have been begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step_version: Option<u64>,
    /// The earliest time at which that step can have been begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step_begin_micros: Option<u64>,
    /// What is not answered of that step is given up, whoever owns the task.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) skipping: bool,
}

/// What the owner knows of the step of a task that is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) begun: Begun,
    pub(crate) waits: Waits,
    /// Its calls undo what the task has done.
    pub(crate) undoes: bool,
}

/// Whether calls of the step may have been made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Begun {
    /// Surely none.
    #[default]
    No,
    /// Perhaps, and then not before this time, if it is known.
    Perhaps(Option<Moment>),
}

/// What the step waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waits {
    #[default]
    Nothing,
    /// The pause that the task has planned.
    Pause,
    /// Answers; no call waits for its next attempt.
    Answers,
    /// A call waits for its next attempt.
    CallAgain,
    /// A step that was not written is to be written again.
    WriteAgain,
}

/// Who asks, when, and of which version.
pub(crate) struct Asking<'a> {
    pub(crate) link: &'a str,
    pub(crate) version: u64,
    pub(crate) now: Moment,
    pub(crate) user: Option<String>,
}

impl Control {
    /// What a PATCH body asks for, if it asks for one of these and for nothing else.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return None };
        let info = fields.get(INFO)?.as_object()?;
        if fields.len() != 1 || info.len() != 1 {
            return None;
        }
        let (name, value) = info.iter().next()?;
        match (name.as_str(), value.as_bool()?) {
            ("held", true) => Some(Self::Hold),
            ("held", false) => Some(Self::Release),
            ("retry", true) => Some(Self::Retry),
            ("skip", true) => Some(Self::Skip),
            _ => None,
        }
    }
}

impl Controlled {
    /// The step is persisted.
    pub(crate) fn step_is_over(&mut self) {
        (self.step_version, self.step_begin_micros, self.skipping) = (None, None, false);
    }

    pub(crate) fn keep_step(&mut self, asking: &Asking<'_>, begin: Option<Moment>) {
        let begin = begin.map_or(0, |it| it.0);
        self.step_version.get_or_insert(asking.version);
        self.step_begin_micros.get_or_insert(begin);
    }

    /// What a GET has shown may be sent back with something else; but these are asked for alone.
    ///
    /// # Errors
    /// When one of them is not as it is.
    pub(crate) fn check_is_so(&self, fields: &Map<String, Value>) -> Result<(), Problem> {
        let Some(info) = fields.get(INFO).and_then(Value::as_object) else { return Ok(()) };
        let shown = serde_json::to_value(self).expect("plain fields can be written");
        for (name, value) in info {
            let is_asked = matches!(name.as_str(), "held" | "retry" | "skip");
            let is_shown = SHOWN.contains(&name.as_str());
            let is_nothing = match value {
                Value::Null => true,
                Value::Bool(it) => !it && *name != "held",
                Value::Number(it) => is_shown && it.as_u64() == Some(0),
                Value::String(it) => is_shown && it.is_empty(),
                _ => false,
            };
            let is = shown.get(name).cloned().unwrap_or(Value::Bool(false));
            if is_nothing || *value == is || !(is_asked || is_shown) {
                continue;
            }
            return Err(Problem::bad_request(match is_asked {
                true => format!(
                    "taskInfo.{name} is asked for alone: PATCH \
                     {{\"taskInfo\":{{\"{name}\":{}}}}} and nothing else to a task that is there",
                    if name == "held" { "true or false" } else { "true" }
                ),
                false => format!(
                    "taskInfo.{name} is the system's, and not what it was set to; leave it out"
                ),
            }));
        }
        Ok(())
    }
}

/// The fields of [`Controlled`] that nobody asks for.
pub(crate) const SHOWN: [&str; 5] =
    ["heldTimeMicros", "heldBy", "stepVersion", "stepBeginMicros", "skipping"];

/// What a task learns of a call that was given up.
pub(crate) fn skipped() -> Response {
    let text = "somebody has skipped this request before it was answered: whether it was done, or \
                still will be, is not known";
    Problem::new(Code::Skipped, text).with_outcome(Outcome::Unknown).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_is_asked_for_alone() {
        for (body, control) in [
            (json!({"taskInfo": {"held": true}}), Some(Control::Hold)),
            (json!({"taskInfo": {"held": false}}), Some(Control::Release)),
            (json!({"taskInfo": {"retry": true}}), Some(Control::Retry)),
            (json!({"taskInfo": {"skip": true}}), Some(Control::Skip)),
            (json!({"taskInfo": {"retry": false}}), None),
            (json!({"taskInfo": {"held": true, "skip": true}}), None),
            (json!({"taskInfo": {"held": true}, "steps": 1}), None),
            (json!({"taskInfo": {"held": "true"}}), None),
            (json!({"held": true}), None),
        ] {
            assert_eq!(Control::of(body.to_string().as_bytes()), control, "{body}");
        }
    }

    #[test]
    fn what_was_shown_may_be_sent_back_with_other_things() {
        let held = Controlled {
            held: true,
            held_time_micros: Some(5),
            held_by: Some("/core/authz/users/jane".into()),
            step_version: Some(3),
            step_begin_micros: Some(4),
            skipping: true,
        };
        let said = |control: &Controlled, info: Value| {
            let Value::Object(fields) = json!({ "taskInfo": info }) else { panic!("an object") };
            control.check_is_so(&fields).map_err(|problem| problem.message)
        };
        assert_eq!(said(&held, serde_json::to_value(&held).unwrap()), Ok(()));
        let typed = json!({"held": true, "heldTimeMicros": 0, "heldBy": "", "retry": false,
            "skip": null, "skipping": false, "stage": "STARTED"});
        assert_eq!(said(&held, typed), Ok(()));
        for (info, named) in [
            (json!({"held": false, "stage": "STARTED"}), "held"),
            (json!({"skip": true, "stage": "STARTED"}), "skip"),
            (json!({"heldBy": "me"}), "heldBy"),
            (json!({"stepVersion": 4}), "stepVersion"),
        ] {
            let why = said(&held, info.clone()).expect_err(&info.to_string());
            assert!(why.contains(&format!("taskInfo.{named} ")), "{why}");
        }
        let nothing = Controlled::default();
        assert!(said(&nothing, json!({"skipping": true})).is_err());
        assert_eq!(said(&nothing, json!({"held": false, "retry": false})), Ok(()));
    }
}
