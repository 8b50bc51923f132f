//! What people do to a task that does not go on: hold it, release it, try again now, give up what it
//! waits for. See docs/design/0028.
//!
//! **Invariant:** the keys of a step's calls are made of the version whose state has planned the
//! step. A hold, a release and a skip are versions too, but they leave that state as it is; so each
//! keeps the number of that version (`stepVersion`), and whoever goes on makes the same keys. The
//! number goes when the step is persisted.

use documents::USER_KEY_HOURS;
use protocol::{Code, Moment, Outcome, Problem, Response, TaskStage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::task::{INFO, TaskInfo};

const HOUR_MICROS: u64 = 3_600 * 1_000_000;

/// A step that may have been begun longer ago, in microseconds, is not released: the owners of what
/// it asks for may forget its keys before it asks again. An hour is left for that.
const BEGUN_MICROS_MAX: u64 = (USER_KEY_HOURS - 1) * HOUR_MICROS;

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

    fn keep_step(&mut self, asking: &Asking<'_>, begin: Option<Moment>) {
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

impl TaskInfo {
    /// What it is after that was asked for; `None` when nothing is to be written.
    ///
    /// # Errors
    /// When it makes no sense for the task as it is, with what to do.
    pub(crate) fn controlled(
        mut self,
        control: Control,
        asking: &Asking<'_>,
        under_way: &UnderWay,
    ) -> Result<Option<Self>, Problem> {
        if !self.is_in_progress() {
            return Err(refused(self.why_ended(control, asking.link)));
        }
        match control {
            Control::Hold if self.control.held => Ok(None),
            Control::Hold => {
                if let Begun::Perhaps(begin) = under_way.begun {
                    self.keep_step(asking, begin);
                }
                self.control.held = true;
                self.control.held_time_micros = Some(asking.now.0);
                self.control.held_by.clone_from(&asking.user);
                Ok(Some(self))
            }
            Control::Release if !self.control.held => Ok(None),
            Control::Release => {
                self.check_keys(asking)?;
                let control = &mut self.control;
                (control.held, control.held_time_micros, control.held_by) = (false, None, None);
                Ok(Some(self))
            }
            Control::Retry => self.check_retry(asking.link, under_way.waits).map(|()| None),
            Control::Skip => self.skip(asking, under_way),
        }
    }

    fn skip(mut self, asking: &Asking<'_>, under_way: &UnderWay) -> Result<Option<Self>, Problem> {
        let waits = matches!(under_way.waits, Waits::Answers | Waits::CallAgain);
        // What it waits for before it undoes: the next owner would not even ask for that.
        let is_given_up = self.undoing && waits && !under_way.undoes;
        if self.control.skipping || is_given_up {
            return Ok(None);
        }
        if !waits && self.control.step_version.is_none() {
            let link = asking.link;
            return Err(refused(format!(
                "no step of {link} waits for the answer to a call, so there is nothing to \
                         skip: see what it waits for, amrita explain {link}"
            )));
        }
        let begin = match under_way.begun {
            Begun::No => None,
            Begun::Perhaps(begin) => begin,
        };
        self.keep_step(asking, begin);
        self.control.skipping = true;
        Ok(Some(self))
    }

    fn keep_step(&mut self, asking: &Asking<'_>, begin: Option<Moment>) {
        // Its calls come after the step before it was persisted.
        let earliest = self.step_time_micros.or(self.start_time_micros).map(Moment);
        self.control.keep_step(asking, begin.or(earliest));
    }

    /// Nothing is done twice: not even a call whose key is forgotten by now.
    fn check_keys(&self, asking: &Asking<'_>) -> Result<(), Problem> {
        let Some(begin) = self.control.step_version.and(self.control.step_begin_micros) else {
            return Ok(());
        };
        if self.control.skipping || asking.now.0.saturating_sub(begin) <= BEGUN_MICROS_MAX {
            return Ok(());
        }
        let (link, hours) = (asking.link, BEGUN_MICROS_MAX / HOUR_MICROS);
        Err(refused(format!(
            "{link} was held in the middle of a step that may have been begun more than {hours} \
             hours ago. What the step has asked for may be done, and would be done again, because \
             keys count for {USER_KEY_HOURS} hours: see what was done, then skip what is not \
             answered (amrita task skip {link}) and release it, or cancel it (amrita task cancel \
             {link})"
        )))
    }

    fn check_retry(&self, link: &str, waits: Waits) -> Result<(), Problem> {
        let why = match waits {
            _ if self.control.held => {
                format!("{link} is held and tries nothing: release it (amrita task release {link})")
            }
            Waits::CallAgain | Waits::WriteAgain => return Ok(()),
            Waits::Pause => format!(
                "{link} pauses because it has planned to, and a retry does not end a pause: wait, \
                 or change what it plans by a PATCH"
            ),
            Waits::Nothing | Waits::Answers => format!(
                "nothing of {link} waits for its next attempt: see what it waits for, amrita \
                 explain {link}"
            ),
        };
        Err(refused(why))
    }

    fn why_ended(&self, control: Control, link: &str) -> String {
        let stage = crate::task::name(self.stage);
        match (control, self.stage) {
            (Control::Retry, TaskStage::Failed | TaskStage::Cancelled) => format!(
                "{link} has ended with {stage}, and a task that has ended takes no step again: POST \
                 a new one to its factory"
            ),
            _ => format!(
                "{link} has ended with {stage} and takes no step: there is nothing to hold, to \
                 release, to retry or to skip"
            ),
        }
    }
}

fn refused(why: String) -> Problem {
    Problem::new(Code::Refused, why)
}

/// What a task learns of a call that was given up.
pub(crate) fn skipped() -> Response {
    let text = "somebody has skipped this request before it was answered: whether it was done, or \
                still will be, is not known";
    Problem::new(Code::Skipped, text).with_outcome(Outcome::Unknown).into()
}
