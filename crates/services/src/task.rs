//! What every task has beside its own state: `taskInfo`, with a stage that only goes forward, and
//! `failureMessage`.

use protocol::{Body, Code, Moment, Problem, TaskStage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Numbers;
use crate::control::{Control, Controlled, INFO, SHOWN};
use crate::lenient::Lenient;

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
    /// When the user who has made it was made: with the rights of another one of that name it does
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author_made_micros: Option<u64>,
    /// Whether somebody holds it, and what that must not change.
    #[serde(flatten)]
    pub(crate) control: Controlled,
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
        asked.check_is_so(&Self::default())?;
        Controlled::default().check_is_so(fields)?;
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
        let asked = Asked::parse(fields)?;
        let ends = asked.stage.is_some_and(|stage| stage.is_final() && stage != self.stage);
        if !ends && asked.failure.as_ref().is_some_and(|it| self.failure.as_ref() != Some(it)) {
            return Err(Problem::bad_request(
                "taskInfo.failure goes with the stage FAILED or CANCELLED; leave it out",
            ));
        }
        asked.check_is_so(&self)?;
        self.control.check_is_so(fields)?;
        if !ends && self.control.held && self.control.step_version.is_some() {
            return Err(Problem::new(
                Code::Refused,
                "the task is held in the middle of a step. What the step has asked for may be \
                 done, so the state that has planned it must stay: release the task, or skip the \
                 step (PATCH {\"taskInfo\":{\"skip\":true}}), and change it then",
            ));
        }
        // No step is under way, or it ends.
        self.control.step_is_over();
        if asked.is_direct == Some(true) && !self.is_direct {
            return Err(Problem::bad_request(
                "taskInfo.isDirect is said when a task is made: its POST is answered already",
            ));
        }
        let Some(stage) = asked.stage else { return Ok(self) };
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
            // What it did is undone at once.
            self.control = Controlled::default();
            self.failure = asked.failure.or(self.failure);
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

    /// A new task, with when its maker was made.
    pub(crate) fn with_author(body: &Body, made: u64) -> Body {
        let mut fields = body.to_map();
        let info = Self { author_made_micros: Some(made), ..Self::of_fields(&fields) };
        info.put_in(&mut fields);
        Body::from_map(fields)
    }

    pub(crate) fn put_in(&self, fields: &mut Map<String, Value>) {
        let mut info = self.clone();
        if !info.is_in_progress() {
            info.control = Controlled::default();
        }
        let info = serde_json::to_value(info).expect("plain fields can be written");
        fields.insert(INFO.into(), info);
    }
}

/// Takes out what the state type does not know.
pub(crate) fn take_out(fields: &mut Map<String, Value>) {
    fields.remove(INFO);
    fields.remove(FAILURE_MESSAGE);
}

/// Whether a PATCH body asks for a final stage.
pub(crate) fn asks_to_end(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    Asked::parse(&fields).is_ok_and(|asked| asked.stage.is_some_and(TaskStage::is_final))
}

/// Whether a POST body asks for the answer when the task has ended.
pub(crate) fn asks_to_wait(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    Asked::parse(&fields).is_ok_and(|asked| asked.is_direct == Some(true))
}

/// For a task whose question is fixed when it is made.
///
/// # Errors
/// When a PATCH says something else, with the name of the field.
pub(crate) fn check_stays(
    what: &str,
    state: &impl Serialize,
    patch: &Map<String, Value>,
) -> Result<(), Problem> {
    let state = serde_json::to_value(state).unwrap_or_default();
    match changed_field(state.as_object().unwrap_or(&Map::new()), patch) {
        None => Ok(()),
        Some(name) => Err(Problem::bad_request(format!(
            "{what} is not changed when it is there, and a PATCH of it takes no '{name}': POST \
             another one"
        ))),
    }
}

/// The first of these fields that says something, and not what is so. The values of a typed
/// client's fields that were never set say nothing.
pub(crate) fn changed_field<'a>(
    state: &Map<String, Value>,
    said: &'a Map<String, Value>,
) -> Option<&'a str> {
    let says_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    let changed = |(name, value): &(&'a String, &'a Value)| {
        !says_nothing(value) && state.get(name.as_str()) != Some(*value)
    };
    said.iter().find(changed).map(|(name, _)| name.as_str())
}

/// Whether a PATCH body asks that a task be cancelled, or held, released, tried again or skipped,
/// and for nothing else.
pub(crate) fn asks_no_change(body: &[u8]) -> bool {
    Control::of(body).is_some() || asks_only_to_cancel(body)
}

fn asks_only_to_cancel(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    let info = fields.get(INFO).and_then(Value::as_object);
    fields.len() == 1
        && info.is_some_and(|info| info.len() == 1)
        && Asked::parse(&fields).is_ok_and(|asked| asked.stage == Some(TaskStage::Cancelled))
}

/// As it is shown.
pub(crate) fn name(stage: TaskStage) -> &'static str {
    match stage {
        TaskStage::Created => "CREATED",
        TaskStage::Started => "STARTED",
        TaskStage::Finished => "FINISHED",
        TaskStage::Failed => "FAILED",
        TaskStage::Cancelled => "CANCELLED",
    }
}

/// All that `taskInfo` may have, beside what [`Controlled`] shows: Xenon's own fields, those of
/// [`TaskInfo`] that it shows, and what may be asked for.
const KNOWN: [&str; 13] = [
    "stage",
    "isDirect",
    "failure",
    "durationMicros",
    "startTimeMicros",
    "stepTimeMicros",
    "undoing",
    "undone",
    "authorMadeMicros",
    "kind",
    "held",
    "retry",
    "skip",
];

/// What Xenon calls the type of `taskInfo`.
const INFO_KIND: &str = "com:vmware:xenon:common:TaskState";

/// What a client's body says in `taskInfo`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object with a stage")]
struct Asked {
    stage: Option<TaskStage>,
    is_direct: Option<bool>,
    /// Why it ends, as an error body.
    failure: Option<Value>,
    kind: Option<String>,
    duration_micros: Option<u64>,
    start_time_micros: Option<u64>,
    step_time_micros: Option<u64>,
    undoing: Option<bool>,
    undone: Option<usize>,
    author_made_micros: Option<u64>,
}

impl Asked {
    /// What a GET has shown may be sent back, and what a typed client has no value for; but only
    /// the owner sets it.
    fn check_is_so(&self, info: &TaskInfo) -> Result<(), Problem> {
        let time =
            |said: Option<u64>, is: Option<u64>| said.is_none_or(|it| it == 0 || Some(it) == is);
        let is_so = [
            ("kind", self.kind.as_deref().is_none_or(|kind| kind == INFO_KIND)),
            ("durationMicros", time(self.duration_micros, info.duration_micros)),
            ("startTimeMicros", time(self.start_time_micros, info.start_time_micros)),
            // These two only grow, and it may have made a step since it was shown.
            ("stepTimeMicros", self.step_time_micros <= info.step_time_micros),
            ("undoing", self.undoing.is_none_or(|it| !it || it == info.undoing)),
            ("undone", self.undone.is_none_or(|it| it <= info.undone)),
            ("authorMadeMicros", time(self.author_made_micros, info.author_made_micros)),
        ];
        match is_so.into_iter().find(|(_, is_so)| !is_so) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad_request(format!(
                "taskInfo.{name} is the system's, and not what it was set to; leave it out"
            ))),
        }
    }

    fn parse(fields: &Map<String, Value>) -> Result<Self, Problem> {
        match fields.get(INFO) {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(info) => {
                let mut names = info.as_object().into_iter().flat_map(Map::keys);
                let is_known = |name: &str| KNOWN.contains(&name) || SHOWN.contains(&name);
                if let Some(unknown) = names.find(|name| !is_known(name)) {
                    return Err(Problem::bad_body(format!(
                        "{INFO} has no field '{unknown}'; it has {}",
                        KNOWN.join(", ")
                    )));
                }
                Self::deserialize(Lenient::new(info, &Numbers::default())).map_err(|error| {
                    Problem::bad_body(format!("the field '{INFO}' is not right: {error}"))
                })
            }
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
    fn who_asks_to_cancel_asks_for_nothing_else() {
        for (body, is_only_that) in [
            (json!({"taskInfo": {"stage": "CANCELLED"}}), true),
            (json!({"taskInfo": {"stage": "CANCELLED", "isDirect": true}}), false),
            (json!({"taskInfo": {"stage": "CANCELLED"}, "booked": 7}), false),
            (json!({"taskInfo": {"stage": "CANCELLED"}, "failureMessage": "x"}), false),
            (json!({"taskInfo": {"stage": "FINISHED"}}), false),
            (json!({"taskInfo": {"stage": "FAILED"}}), false),
            (json!({"taskInfo": {}}), false),
            (json!({"booked": 7}), false),
            (json!([]), false),
        ] {
            assert_eq!(asks_only_to_cancel(body.to_string().as_bytes()), is_only_that, "{body}");
        }
    }

    #[test]
    fn a_field_that_says_something_else_is_named() {
        let Value::Object(state) = json!({"a": 1, "b": {"c": [1]}}) else { panic!("an object") };
        for (said, named) in [
            (json!({"a": 1, "b": {"c": [1]}}), None),
            (json!({"x": null, "y": 0, "z": false, "t": "", "l": [], "m": {}, "d": 0.0}), None),
            (json!({"a": 2}), Some("a")),
            (json!({"b": {"c": [2]}}), Some("b")),
            (json!({"x": 1}), Some("x")),
            (json!({"x": true}), Some("x")),
        ] {
            let Value::Object(said) = said else { panic!("an object") };
            assert_eq!(changed_field(&state, &said), named, "{said:?}");
        }
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

    fn asked(info: &TaskInfo, asked: Value) -> Result<TaskInfo, String> {
        let Value::Object(fields) = json!({ "taskInfo": asked }) else { panic!("an object") };
        info.clone().patch(&fields, Moment(7)).map_err(|problem| problem.message)
    }

    #[test]
    fn what_task_info_does_not_have_is_refused_by_name() {
        let info = TaskInfo { start_time_micros: Some(5), ..TaskInfo::default() };
        for (said, named) in [
            (json!({"isdirect": true}), "'isdirect'"),
            (json!({"stage": "CANCELLED", "nonsense": 1}), "'nonsense'"),
            (json!({"isDirect": true}), "isDirect"),
            (json!({"durationMicros": 9}), "durationMicros"),
            (json!({"startTimeMicros": 9}), "startTimeMicros"),
            (json!({"stepTimeMicros": 9}), "stepTimeMicros"),
            (json!({"undoing": true}), "undoing"),
            (json!({"undone": 1}), "undone"),
            (json!({"kind": "TaskInfo"}), "kind"),
            (json!({"failure": {"message": "m"}}), "failure"),
        ] {
            let why = asked(&info, said.clone()).expect_err(&said.to_string());
            assert!(why.contains(named), "{why}");
            let Value::Object(fields) = json!({ "taskInfo": said }) else { panic!("an object") };
            let made = TaskInfo::create(&fields, Moment(7));
            let goes =
                ["isDirect", "CANCELLED", "failure"].iter().any(|it| said.to_string().contains(it));
            assert!(goes || made.is_err(), "{said}");
        }
    }

    #[test]
    fn what_was_shown_and_what_typed_clients_send_is_taken() {
        let info = TaskInfo {
            stage: TaskStage::Started,
            is_direct: true,
            start_time_micros: Some(5),
            step_time_micros: Some(6),
            ..TaskInfo::default()
        };
        let shown = serde_json::to_value(&info).unwrap();
        assert_eq!(asked(&info, shown), Ok(info.clone()));
        let typed = json!({"stage": "CANCELLED", "isDirect": false, "failure": {"message": "m"},
            "durationMicros": 0, "kind": INFO_KIND});
        let ended = asked(&info, typed).unwrap();
        assert!(ended.is_direct && ended.stage == TaskStage::Cancelled);
        assert_eq!(ended.failure, Some(json!({"message": "m"})), "the reason is kept");
        // It has made a step since it was shown.
        let older = json!({"stage": "CANCELLED", "startTimeMicros": 5, "stepTimeMicros": 4});
        assert_eq!(asked(&info, older).unwrap().stage, TaskStage::Cancelled);
        let made_up = json!({"stage": "CANCELLED", "stepTimeMicros": 7});
        assert!(asked(&info, made_up).is_err());
    }
}
