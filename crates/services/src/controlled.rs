//! Whether a task can be held, released, tried again or skipped as it is, and what it is then. The
//! words are in [`crate::control`].

use documents::USER_KEY_HOURS;
use protocol::{Code, Moment, Problem, TaskStage};

use crate::control::{Asking, Begun, Control, UnderWay, Waits};
use crate::task::{TaskInfo, name};

const HOUR_MICROS: u64 = 3_600 * 1_000_000;

/// A step that may have been begun longer ago, in microseconds, is not released: the owners of what
/// it asks for may forget its keys before it asks again. An hour is left for that.
const BEGUN_MICROS_MAX: u64 = (USER_KEY_HOURS - 1) * HOUR_MICROS;

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
            // The calls of the step before it would be taken for those that undo.
            Control::Hold if self.waits_to_undo(under_way) => Err(refused(format!(
                "{} is cancelled, and waits for the answers to its last step before it is undone: \
                 skip them, or hold it when it is being undone",
                asking.link
            ))),
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

    /// What it waits for before it undoes: the next owner would not even ask for that.
    fn waits_to_undo(&self, under_way: &UnderWay) -> bool {
        let waits = matches!(under_way.waits, Waits::Answers | Waits::CallAgain);
        self.undoing && waits && !under_way.undoes
    }

    fn skip(mut self, asking: &Asking<'_>, under_way: &UnderWay) -> Result<Option<Self>, Problem> {
        let waits = matches!(under_way.waits, Waits::Answers | Waits::CallAgain);
        if self.control.skipping || self.waits_to_undo(under_way) {
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
        let stage = name(self.stage);
        match (control, self.stage) {
            (Control::Retry, TaskStage::Failed | TaskStage::Cancelled) => format!(
                "{link} has ended with {stage}, and a task that has ended takes no step again: \
                 POST a new one to its factory"
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
