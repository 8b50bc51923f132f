//! People hold tasks, release them, have them try at once, and skip what they wait for: at random,
//! among tasks that run, while their owners change. At the end whatever is still held is released,
//! so that each task comes to its end.

use std::fmt;

use protocol::{Method, Request, Response};
use random::Random;
use serde_json::{Value, json};

use crate::jobs::Job;
use crate::paths::Paths;
use crate::work::{Verdict, Work};
use crate::workload::{Client, Doing};

/// What is asked of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Hold,
    Release,
    Retry,
    Skip,
}

#[derive(Clone, Debug)]
pub(crate) struct ControlWork {
    pub(crate) link: String,
    pub(crate) control: Control,
    /// Then its end is waited for.
    pub(crate) then_its_end: bool,
}

impl ControlWork {
    pub(crate) fn choose(rng: &mut Random, job: &Job) -> Self {
        // Only a walk goes on after a request of its own that was skipped.
        let may_skip = matches!(job, Job::Walk { .. });
        let control = match rng.below(100) {
            0..45 => Control::Hold,
            45..80 => Control::Release,
            80..90 if may_skip => Control::Skip,
            _ => Control::Retry,
        };
        Self { link: job.link(), control, then_its_end: false }
    }

    /// The walk's entries tell which way each of its steps went.
    pub(crate) fn is_rerouted(job: &Job) -> bool {
        matches!(job, Job::Walk { walk, .. } if walk.route > 0)
    }

    /// A task that is held does not come to its end.
    pub(crate) fn before_its_end(link: &str) -> Self {
        Self { link: link.to_owned(), control: Control::Release, then_its_end: true }
    }

    pub(crate) fn request(&self) -> Request {
        let info = match self.control {
            Control::Hold => json!({ "held": true }),
            Control::Release => json!({ "held": false }),
            Control::Retry => json!({ "retry": true }),
            Control::Skip => json!({ "skip": true }),
        };
        Request::new(Method::Patch, self.link.clone()).with_json(&json!({ "taskInfo": info }))
    }

    /// Notes what was answered with success.
    pub(crate) fn told(&self, client: &mut Client, paths: &mut Paths, body: &Value) {
        let info = &body["taskInfo"];
        let in_mid_step = info["stepVersion"].is_u64();
        match self.control {
            Control::Hold => {
                paths.reached("a task was held");
                client.learn(&self.link, body);
            }
            Control::Release => {
                if in_mid_step {
                    paths.reached(
                        "a task was held in the middle of a step and went on under the same keys",
                    );
                }
                let epoch = body["documentEpoch"].as_u64();
                let held = client.known.remove(&self.link);
                if held.is_some_and(|held| in_mid_step && Some(held.epoch) != epoch) {
                    paths.reached(
                        "a task was held in the middle of a step and released by another owner",
                    );
                }
            }
            Control::Retry => paths.reached("a task was told to try at once"),
            Control::Skip => paths.reached("what a task waited for was skipped"),
        }
    }
}

/// What comes of an answer about a task that is held, or was to be; none if it is about something
/// else.
pub(crate) fn judged(
    client: &mut Client,
    paths: &mut Paths,
    doing: &mut Doing,
    response: &Response,
) -> Option<Verdict> {
    let body = response.to_json();
    match &doing.work {
        Work::End { link } if body["taskInfo"]["held"] == true => {
            doing.work = Work::Control(ControlWork::before_its_end(link));
            Some(Verdict::GoOn)
        }
        Work::Control(work) if matches!(response.status, 200 | 404 | 409) => {
            if response.is_success() {
                work.told(client, paths, &body);
            }
            if !work.then_its_end {
                return Some(Verdict::Done);
            }
            doing.work = Work::End { link: work.link.clone() };
            Some(Verdict::GoOn)
        }
        _ => None,
    }
}

impl fmt::Display for ControlWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, control, .. } = self;
        write!(f, "{control:?} the task {link}")
    }
}
