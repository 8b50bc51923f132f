//! `/core/bootstrap-tasks`: one job, done once for the whole cluster: making its first users.
//!
//! Post the same task on every node, with the same `documentSelfLink`: the first POST makes it, the
//! others get it as it stands. Its owner takes the steps; when the owner dies, the next one goes on
//! from the last persisted step. Each step makes a user and adds one to a counter: adding is not
//! idempotent, so a step whose effect was doubled or lost would be seen in the count.

use sdk::service::{
    Code, Context, Field, FieldType, Method, Patch, Plan, Problem, Request, Response, Service,
    ServiceOption, Spec, Task, succeeded,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

const USERS: &str = "/core/users";
const COUNTERS: &str = "/core/counters";
/// More would not fit into the tutorial's patience.
const USERS_MAX: u64 = 10_000;

pub struct BootstrapTaskService;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BootstrapState {
    /// How many users to make.
    user_count: u64,
    /// Before each step.
    pause_millis: u64,
    /// How many are made.
    made_count: u64,
    /// Whether the counter is there.
    is_prepared: bool,
    /// Which node took each step.
    node_ids: Vec<String>,
}

impl Task for BootstrapTaskService {
    type State = BootstrapState;

    fn spec(&self) -> Spec {
        Spec::new("/core/bootstrap-tasks", "amrita:examples:BootstrapTask")
            .about("Makes the first users of a cluster, once.")
            .option(ServiceOption::IdempotentPost)
            .field(Field::new("userCount", FieldType::Long).required().example(10))
            .field(Field::new("pauseMillis", FieldType::Long).about("Before each step."))
            .field(Field::new("madeCount", FieldType::Long).internal())
            .field(Field::new("isPrepared", FieldType::Boolean).internal())
            .field(Field::new("nodeIds", FieldType::Collection).internal())
    }

    fn create(&self, _: &mut Context<'_>, task: &mut BootstrapState) -> Result<(), Problem> {
        if (1..=USERS_MAX).contains(&task.user_count) {
            return Ok(());
        }
        Err(Problem::bad_request(format!("userCount must be from 1 to {USERS_MAX}")))
    }

    fn plan(&self, context: &Context<'_>, task: &BootstrapState) -> Plan {
        let name = context.link.rsplit('/').next().unwrap_or_default();
        if !task.is_prepared {
            let body = json!({"documentSelfLink": name, "count": 0});
            return Plan::call(Request::new(Method::Post, COUNTERS).with_json(&body));
        }
        if task.made_count >= task.user_count {
            return Plan::Finish;
        }
        let user = format!("{name}-{}", task.made_count + 1);
        let body = json!({"documentSelfLink": user, "name": user, "madeBy": context.link});
        let make = Request::new(Method::Post, USERS).with_json(&body);
        let add = Request::new(Method::Patch, format!("{COUNTERS}/{name}"))
            .with_json(&json!({"count": 1}));
        Plan::calls(vec![make, add]).after(task.pause_millis.saturating_mul(1_000))
    }

    fn learn(
        &self,
        context: &mut Context<'_>,
        task: &mut BootstrapState,
        answers: &[Response],
    ) -> Result<(), Problem> {
        for answer in answers {
            // What somebody has made by hand is there; that is all that is wanted.
            if answer.to_json()["code"] != Code::AlreadyExists.name() {
                succeeded(answer)?;
            }
        }
        if task.is_prepared {
            task.made_count += 1;
            task.node_ids.push(context.node_id.to_owned());
            task.node_ids.dedup();
        }
        task.is_prepared = true;
        Ok(())
    }
}

/// `/core/users`.
pub struct UserService;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserState {
    name: String,
    email: Option<String>,
    /// The task that made it.
    made_by: Option<String>,
}

impl Service for UserService {
    type State = UserState;

    fn spec(&self) -> Spec {
        Spec::new(USERS, "amrita:examples:User")
            .about("Users.")
            .field(Field::new("name", FieldType::String).required())
            .field(Field::new("email", FieldType::String))
            .field(Field::new("madeBy", FieldType::String))
    }
}

/// `/core/counters`: a PATCH adds.
pub struct CounterService;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CounterState {
    count: i64,
}

impl Service for CounterService {
    type State = CounterState;

    fn spec(&self) -> Spec {
        Spec::new(COUNTERS, "amrita:examples:Counter")
            .about("Counters: a PATCH adds to the count.")
            .field(Field::new("count", FieldType::Long).example(1))
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &CounterState,
        patch: &Patch,
    ) -> Result<CounterState, Problem> {
        let added: CounterState = context.merge(&CounterState::default(), patch)?;
        match current.count.checked_add(added.count) {
            Some(count) => Ok(CounterState { count }),
            None => Err(Problem::bad_request("the count would be too large")),
        }
    }
}
