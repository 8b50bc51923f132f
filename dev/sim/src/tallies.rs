//! Two services of the simulator's own, made to show what is done twice or not at all: a tally
//! takes entries and never looks whether it has them already, and a walk is a task that adds to
//! tallies.

use protocol::{Code, Method, Problem, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use services::{Context, Patch, Plan, Service, Spec, Task, succeeded};

pub const TALLIES: &str = "/sim/tallies";
pub const WALKS: &str = "/sim/walks";

/// A list that grows.
pub struct TallyService;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    #[serde(default)]
    pub entries: Vec<String>,
}

impl Service for TallyService {
    type State = Tally;

    fn spec(&self) -> Spec {
        Spec::new(TALLIES, "sim:Tally").retention(10, 5)
    }

    /// `{"add": "an entry"}`
    fn patch(
        &self,
        _context: &mut Context<'_>,
        current: &Tally,
        patch: &Patch,
    ) -> Result<Tally, Problem> {
        let entry = patch.fields.get("add").and_then(|value| value.as_str());
        let entry = entry.ok_or_else(|| Problem::bad_request("'add' must be a text"))?;
        let mut entries = current.entries.clone();
        entries.push(entry.to_owned());
        Ok(Tally { entries })
    }
}

/// Adds `wide` entries in each of `steps` steps, all of them with names of their own.
pub struct WalkTask;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Walk {
    pub name: String,
    pub tallies: Vec<String>,
    pub steps: usize,
    pub wide: usize,
    /// Before each step.
    pub pause_micros: u64,
    #[serde(default)]
    pub step: usize,
    /// A client can have the steps still to come add other entries, by another number. With 0 that
    /// is not noted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub route: u64,
    /// The routes of the steps that were taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<u64>,
    /// The entries of which it was not told whether they were added, as `step.at`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Walk {
    /// What its step adds by a route, and where.
    pub fn entries(&self, step: usize, route: u64) -> Vec<(String, String)> {
        let way = if route == 0 { String::new() } else { format!("~{route}") };
        let entry = |at: usize| {
            let tally = self.tallies[(step + at) % self.tallies.len()].clone();
            (tally, format!("{}{way}#{step}.{at}", self.name))
        };
        (0..self.wide).map(entry).collect()
    }
}

impl Task for WalkTask {
    type State = Walk;

    fn spec(&self) -> Spec {
        Spec::new(WALKS, "sim:Walk")
    }

    fn plan(&self, _context: &Context<'_>, walk: &Walk) -> Plan {
        if walk.step >= walk.steps {
            return Plan::Finish;
        }
        let add = |(tally, entry): (String, String)| {
            Request::new(Method::Patch, tally).with_json(&json!({ "add": entry }))
        };
        Plan::calls(walk.entries(walk.step, walk.route).into_iter().map(add).collect())
            .after(walk.pause_micros)
    }

    fn learn(
        &self,
        _context: &mut Context<'_>,
        walk: &mut Walk,
        answers: &[Response],
    ) -> Result<(), Problem> {
        for (at, answer) in answers.iter().enumerate() {
            if answer.status == Code::Skipped.status() {
                walk.skipped.push(format!("{}.{at}", walk.step));
            } else {
                succeeded(answer)?;
            }
        }
        walk.step += 1;
        if walk.route > 0 {
            walk.taken.push(walk.route);
        }
        Ok(())
    }
}
