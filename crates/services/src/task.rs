//! What every task has beside its own state: `taskInfo`, with a stage that only goes forward, and
//! `failureMessage`.

use protocol::{Body, Moment, Problem, TaskStage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lenient::Lenient;

/// The field with the stage.
pub(crate) const INFO: &str = "taskInfo";
/// The field with the reason for FAILED.
pub(crate) const FAILURE_MESSAGE: &str = "failureMessage";

/// `taskInfo` (Xenon's `TaskState`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TaskInfo {
    pub(crate) stage: TaskStage,
    /// The POST that made the task is answered when the task has ended.
    pub(crate) is_direct: bool,
    /// Why it failed, as an error body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Value>,
    /// How long it took, from the POST to the final stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_micros: Option<u64>,
    /// When the POST came. Not in Xenon; needed to tell the duration on whatever node it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_time_micros: Option<u64>,
    /// When the last step was persisted: pauses count from then, on whatever node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step_time_micros: Option<u64>,
    /// The task is cancelled or has failed, and what it did is being undone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) undoing: bool,
    /// How many of the requests that undo it are answered, while there are more of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) undone: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl TaskInfo {
    /// Of a stored task.
    pub(crate) fn of(body: &Body) -> Self {
        Self::of_fields(&body.to_map())
    }

    pub(crate) fn of_fields(fields: &Map<String, Value>) -> Self {
        let info = fields.get(INFO).unwrap_or(&Value::Null);
        Self::deserialize(info).unwrap_or_default()
    }

    /// For a POST.
    ///
    /// # Errors
    /// When the client asks for another stage than the first.
    pub(crate) fn create(fields: &Map<String, Value>, now: Moment) -> Result<Self, Problem> {
        let asked = Asked::parse(fields)?;
        if asked.stage.is_some_and(|stage| stage > TaskStage::Started) {
            return Err(Problem::bad_request("a new task is STARTED; leave the stage out"));
        }
        let is_direct = asked.is_direct.unwrap_or_default();
        let (start_time_micros, step_time_micros) = (Some(now.0), Some(now.0));
        let stage = TaskStage::Started;
        Ok(Self { stage, is_direct, start_time_micros, step_time_micros, ..Self::default() })
    }

    /// For a client's PATCH.
    ///
    /// # Errors
    /// When the stage would go backwards, or from one final stage to another.
    pub(crate) fn patch(
        mut self,
        fields: &Map<String, Value>,
        now: Moment,
    ) -> Result<Self, Problem> {
        let Some(stage) = Asked::parse(fields)?.stage else { return Ok(self) };
        if stage == TaskStage::Created {
            return Err(Problem::bad_request("Did not expect to receive CREATED stage"));
        }
        if stage == self.stage {
            return Ok(self);
        }
        if self.stage.is_final() || stage < self.stage {
            let (from, to) = (name(self.stage), name(stage));
            return Err(Problem::bad_request(format!(
                "Task stage cannot move backwards: it is {from} and cannot become {to}"
            )));
        }
        if stage == TaskStage::Finished {
            return Err(Problem::bad_request(
                "a task that is under way finishes by itself; PATCH it to CANCELLED to end it",
            ));
        }
        if stage.is_final() {
            self.end(stage, now);
        }
        self.stage = stage;
        Ok(self)
    }

    /// Whether it has steps to take.
    pub(crate) fn is_in_progress(&self) -> bool {
        !self.stage.is_final() || self.undoing
    }

    /// Tells two tasks that had the same link one after the other.
    pub(crate) fn life(&self) -> u64 {
        self.start_time_micros.unwrap_or_default()
    }

    /// What is left of a pause.
    pub(crate) fn left_of(&self, pause_micros: u64, now: Moment) -> u64 {
        let Some(since) = self.step_time_micros else { return pause_micros };
        // The last owner's clock may have been ahead: never longer than the pause itself.
        since.saturating_add(pause_micros).saturating_sub(now.0).min(pause_micros)
    }

    pub(crate) fn end(&mut self, stage: TaskStage, now: Moment) {
        self.stage = stage;
        self.duration_micros = self.start_time_micros.map(|start| now.0.saturating_sub(start));
    }

    pub(crate) fn put_in(&self, fields: &mut Map<String, Value>) {
        let info = serde_json::to_value(self).expect("plain fields can be written");
        fields.insert(INFO.into(), info);
    }
}

/// Takes out what the state type does not know.
pub(crate) fn take_out(fields: &mut Map<String, Value>) {
    fields.remove(INFO);
    fields.remove(FAILURE_MESSAGE);
}

/// The final stage that a PATCH body asks for, if it asks for one.
pub(crate) fn asks_to_end(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    Asked::parse(&fields).is_ok_and(|asked| asked.stage.is_some_and(TaskStage::is_final))
}

fn name(stage: TaskStage) -> &'static str {
    match stage {
        TaskStage::Created => "CREATED",
        TaskStage::Started => "STARTED",
        TaskStage::Finished => "FINISHED",
        TaskStage::Failed => "FAILED",
        TaskStage::Cancelled => "CANCELLED",
    }
}

/// What a client's body says in `taskInfo`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object with a stage")]
struct Asked {
    stage: Option<TaskStage>,
    is_direct: Option<bool>,
}

impl Asked {
    fn parse(fields: &Map<String, Value>) -> Result<Self, Problem> {
        match fields.get(INFO) {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(info) => Self::deserialize(Lenient(info)).map_err(|error| {
                Problem::bad_body(format!("the field '{INFO}' is not right: {error}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(from: TaskStage, to: &str) -> Result<TaskStage, Problem> {
        let info = TaskInfo { stage: from, start_time_micros: Some(5), ..TaskInfo::default() };
        let body = json!({"taskInfo": {"stage": to}});
        let Value::Object(fields) = body else { panic!("not an object") };
        info.patch(&fields, Moment(7)).map(|info| {
            assert_eq!(info.duration_micros.is_some(), from != info.stage && info.stage.is_final());
            info.stage
        })
    }

    #[test]
    fn stages_only_go_forward() {
        use TaskStage::{Cancelled, Created, Finished, Started};
        assert_eq!(patched(Created, "STARTED").unwrap(), Started);
        assert_eq!(patched(Created, "CANCELLED").unwrap(), Cancelled);
        assert_eq!(patched(Started, "CANCELLED").unwrap(), Cancelled);
        assert_eq!(patched(Finished, "FINISHED").unwrap(), Finished);
        for (from, to) in [
            (Created, "CREATED"),
            (Started, "CREATED"),
            (Started, "FINISHED"),
            (Finished, "STARTED"),
            (Finished, "CANCELLED"),
            (Cancelled, "FINISHED"),
            (Started, "NONSENSE"),
        ] {
            assert_eq!(patched(from, to).unwrap_err().status(), 400, "{from:?} -> {to}");
        }
    }
}
