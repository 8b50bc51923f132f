//! Query tasks that are not direct: a task that asks the query and keeps the answer. (The direct
//! form is answered by the node that takes it and leaves no document.)

use protocol::subscription::Continuous;
use protocol::{Method, Problem, Request, Response, query};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::task::check_stays;
use crate::{Context, Field, FieldType, Patch, Plan, Spec, Task, succeeded};

/// How long the task and its results are kept (Xenon's ten minutes).
const EXPIRATION_MICROS: u64 = 600 * 1_000_000;
/// How long a continuous query does nothing by itself: who has subscribed to it is told of what
/// comes. Then it waits once more, until it expires.
const REST_MICROS: u64 = 3_600 * 1_000_000;
/// After what time a query is asked again that has not found as many as are expected.
const AGAIN_MICROS: u64 = 1_000_000;
/// The largest task with its results, in bytes.
const BYTES_MAX: usize = 1024 * 1024;
/// How many documents a query is to find.
const EXPECTED: &str = "expectedResultCount";

/// `/core/query-tasks`.
pub(crate) struct QueryTaskService;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QueryTaskState {
    #[serde(skip_serializing_if = "Value::is_null")]
    query_spec: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    results: Value,
    /// It has found fewer than are expected, and is asked again after a while.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_awaited: bool,
}

impl QueryTaskState {
    fn expected(&self) -> u64 {
        match &self.query_spec[EXPECTED] {
            Value::String(text) => text.parse().unwrap_or_default(),
            value => value.as_u64().unwrap_or_default(),
        }
    }

    /// What is asked: without what the task itself takes care of.
    fn asked(&self) -> Value {
        let continuous = Continuous::of(&self.query_spec);
        let mut asked = continuous.map_or_else(|| self.query_spec.clone(), |it| it.query_spec);
        if let Value::Object(fields) = &mut asked {
            fields.remove(EXPECTED);
        }
        asked
    }
}

impl Task for QueryTaskService {
    type State = QueryTaskState;

    fn spec(&self) -> Spec {
        Spec::new(query::LINK, query::KIND)
            .about("Asks a query in the background and keeps its results for ten minutes.")
            .expires_after(EXPIRATION_MICROS)
            .state_bytes_max(BYTES_MAX)
            .field(
                Field::new("querySpec", FieldType::Object)
                    .required()
                    .about("What to search and how to show it."),
            )
            .field(Field::new("results", FieldType::Object).internal().about("What was found."))
            .field(
                Field::new("isAwaited", FieldType::Boolean)
                    .internal()
                    .about("Fewer were found than are expected; it is asked again."),
            )
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &QueryTaskState,
        patch: &Patch,
    ) -> Result<QueryTaskState, Problem> {
        check_stays("a query task", current, &patch.fields)?;
        context.merge(current, &Patch { fields: Map::new(), ..patch.clone() })
    }

    fn plan(&self, _: &Context<'_>, state: &QueryTaskState) -> Plan {
        let is_continuous = || Continuous::of(&state.query_spec).is_some();
        match state.results.is_null() {
            false if is_continuous() => return Plan::wait(REST_MICROS),
            false => return Plan::Finish,
            true if state.is_awaited => return Plan::wait(AGAIN_MICROS),
            true => {}
        }
        let body = json!({"taskInfo": {"isDirect": true}, "querySpec": state.asked()});
        Plan::call(Request::new(Method::Post, query::LINK).with_json(&body))
    }

    fn learn(
        &self,
        context: &mut Context<'_>,
        state: &mut QueryTaskState,
        answers: &[Response],
    ) -> Result<(), Problem> {
        if !state.results.is_null() || std::mem::take(&mut state.is_awaited) {
            return Ok(());
        }
        let answer = answers.first().ok_or_else(|| Problem::internal("the query got no answer"))?;
        // Room for the query itself and the built-in fields.
        if answer.body.len() > context.spec.state_bytes_max / 2 {
            return Err(Problem::bad_request(format!(
                "the results are {} bytes long, too much to be kept; set querySpec.resultLimit and \
                 follow results.nextPageLink",
                answer.body.len()
            )));
        }
        let mut answer = succeeded(answer)?;
        state.results = answer["results"].take();
        if state.results.is_null() {
            return Err(Problem::internal("the query was answered without results"));
        }
        let found = state.results["documentCount"].as_u64().unwrap_or_default();
        if found < state.expected() {
            state.results = Value::Null;
            state.is_awaited = true;
        }
        Ok(())
    }
}
