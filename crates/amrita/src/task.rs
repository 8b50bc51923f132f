//! `amrita task`: holds tasks, lets them go on, tries now what waits, gives up what is not
//! answered, and cancels; one task, several, or all of a factory that a filter finds.

use client::{Client, Response};
use protocol::links;
use serde_json::{Value, json};

use crate::arguments::Cluster;
use crate::outcome::{Ending, Outcome, Trouble, problem, refusal, unreachable};
use crate::screen;
use crate::task_options::TaskCommand;
use crate::verbs::client;

/// How many tasks a page has at most.
const PAGE: usize = 500;

/// How many refusals are told in words; the others are counted.
const REFUSALS_TOLD: usize = 10;

/// What became of many.
#[derive(Default)]
struct Count {
    done: usize,
    ended: usize,
    refused: usize,
    unknown: usize,
    /// The first of them, each with why.
    refusals: Vec<(String, String)>,
}

pub(crate) async fn run(cluster: &Cluster, command: &TaskCommand) -> Outcome {
    let (tasks, info, done) = match command {
        TaskCommand::Hold(tasks) => (tasks, json!({"held": true}), "held"),
        TaskCommand::Release(tasks) => (tasks, json!({"held": false}), "released"),
        TaskCommand::Retry(tasks) => (tasks, json!({"retry": true}), "tried now"),
        TaskCommand::Skip(tasks) => (tasks, json!({"skip": true}), "skipped"),
        TaskCommand::Cancel(tasks) => (tasks, json!({"stage": "CANCELLED"}), "cancelled"),
    };
    let (client, body) = (client(cluster)?, json!({ "taskInfo": info }));
    let mut count = Count::default();
    match &tasks.of {
        None => each(cluster, &client, (&tasks.links, &body, done), &mut count).await?,
        Some(factory) => {
            let filter = tasks.filter.as_deref();
            all_of(&client, (factory, filter), &body, &mut count).await?;
            screen::say(&match cluster.json {
                true => count.to_json(done).to_string(),
                false => count.in_words(done),
            });
        }
    }
    count.outcome(tasks.of.is_some() || tasks.links.len() > 1)
}

async fn each(
    cluster: &Cluster,
    client: &Client,
    (links, body, done): (&[String], &Value, &str),
    count: &mut Count,
) -> Outcome {
    for link in links {
        let answer = client.patch(link, body).await.map_err(|error| unreachable(&error))?;
        if cluster.json {
            screen::say(&String::from_utf8_lossy(&answer.body));
        } else if answer.is_success() {
            screen::say(&format!("{link}: {done}"));
        } else if links.len() > 1 {
            screen::error(&format!("{link}: {}", problem(&answer)));
        }
        count.take(link, &answer);
    }
    Ok(())
}

/// Page by page, so that nothing is held but one page.
async fn all_of(
    client: &Client,
    (factory, filter): (&str, Option<&str>),
    body: &Value,
    count: &mut Count,
) -> Outcome {
    let mut next = Some(first_page(factory, filter));
    while let Some(page) = next.take() {
        let answer = client.get(&page).await.map_err(|error| unreachable(&error))?;
        if !answer.is_success() {
            return Err(refusal(&answer));
        }
        let page = answer.to_json();
        for link in page["documentLinks"].as_array().into_iter().flatten() {
            let Some(link) = link.as_str() else { continue };
            let info = &page["documents"][link]["taskInfo"];
            if info.is_null() {
                let text = format!("{link} is no task: --of takes the factory of a kind of tasks");
                return Err(Trouble::usage(text));
            }
            if has_ended(info) {
                count.ended += 1;
                continue;
            }
            let answer = client.patch(link, body).await.map_err(|error| unreachable(&error))?;
            count.take(link, &answer);
        }
        next = page["nextPageLink"].as_str().map(str::to_owned);
    }
    Ok(())
}

fn first_page(factory: &str, filter: Option<&str>) -> String {
    let filter = filter.map_or_else(String::new, |filter| {
        format!("&$filter={}", links::percent_encode(filter, b"-._~"))
    });
    format!("{factory}?expand&$limit={PAGE}{filter}")
}

fn has_ended(info: &Value) -> bool {
    let stage = info["stage"].as_str().unwrap_or_default();
    ["FINISHED", "FAILED", "CANCELLED"].contains(&stage) && info["undoing"] != true
}

impl Count {
    fn take(&mut self, link: &str, answer: &Response) {
        if answer.is_success() {
            self.done += 1;
            return;
        }
        match refusal(answer).ending {
            Ending::Unknown => self.unknown += 1,
            _ => self.refused += 1,
        }
        if self.refusals.len() < REFUSALS_TOLD {
            self.refusals.push((link.to_owned(), problem(answer)));
        }
    }

    fn to_json(&self, done: &str) -> Value {
        let refusals: Vec<Value> =
            self.refusals.iter().map(|(link, why)| json!({"link": link, "message": why})).collect();
        json!({"asked": done, "done": self.done, "refused": self.refused,
            "unknown": self.unknown, "hadEnded": self.ended, "refusals": refusals})
    }

    fn in_words(&self, done: &str) -> String {
        let Self { done: count, ended, refused, unknown, refusals } = self;
        let mut text = format!(
            "{count} tasks {done}; {refused} refused, {unknown} with an unknown outcome, {ended} had \
             ended before"
        );
        for (link, why) in refusals {
            text.push_str(&format!("\n  {link}: {why}"));
        }
        text
    }

    /// With one task alone the reason is that of its answer.
    fn outcome(&self, is_many: bool) -> Outcome {
        let ending = match (self.unknown, self.refused) {
            (0, 0) => return Ok(()),
            (0, _) => Ending::Refused,
            _ => Ending::Unknown,
        };
        let why = match self.refusals.first() {
            Some((_, why)) if !is_many => why.clone(),
            _ => format!("{} of the tasks were not changed", self.refused + self.unknown),
        };
        Err(Trouble { ending, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(answers: &[(u16, Value)]) -> Count {
        let mut count = Count::default();
        for (status, body) in answers {
            count.take("/core/walks/one", &Response::json(*status, body));
        }
        count
    }

    #[test]
    fn what_was_refused_and_what_is_unknown_ends_differently() {
        let refused = (409, json!({"code": "REFUSED", "message": "m", "outcome": "notApplied"}));
        let unknown = (504, json!({"code": "TIMEOUT", "message": "m", "outcome": "unknown"}));
        let done = (200, json!({}));
        let ending = |answers: &[(u16, Value)]| {
            counted(answers).outcome(true).map_err(|trouble| trouble.ending)
        };
        assert_eq!(ending(&[done.clone(), done.clone()]), Ok(()));
        assert_eq!(ending(&[done.clone(), refused.clone()]), Err(Ending::Refused));
        assert_eq!(ending(&[done, refused, unknown]), Err(Ending::Unknown));
    }

    #[test]
    fn refusals_are_counted_and_the_first_ones_told() {
        let refused = (409, json!({"code": "REFUSED", "message": "it has ended"}));
        let count = counted(&vec![refused; 12]);
        let told = count.to_json("held");
        assert_eq!(
            (&told["refused"], told["refusals"].as_array().unwrap().len()),
            (&12.into(), 10)
        );
        let words = count.in_words("held");
        assert!(words.starts_with("0 tasks held; 12 refused"), "{words}");
    }

    #[test]
    fn only_what_has_not_ended_is_asked() {
        assert!(has_ended(&json!({"stage": "FAILED"})));
        assert!(!has_ended(&json!({"stage": "FAILED", "undoing": true})));
        assert!(!has_ended(&json!({"stage": "STARTED"})));
        let page = first_page("/core/walks", Some("a eq b c"));
        assert_eq!(page, "/core/walks?expand&$limit=500&$filter=a%20eq%20b%20c");
    }
}
