//! Batches: entries that are added to several tallies in one request. Two of the tallies have one
//! partition key, so that what is added to both is an atom.

use std::fmt;

use protocol::{BATCH_LINK, Method, Request, Response};
use random::Random;
use serde_json::{Value, json};

use crate::checkers::Broken;
use crate::jobs::Making;
use crate::paths::Paths;
use crate::referee::Referee;
use crate::settings::Settings;
use crate::tallies::TALLIES;
use crate::work::{Verdict, tally_links};
use crate::workload::Doing;

const RULE: &str = "what lies in one partition is done all or none";

/// The two that nothing but batches adds to.
const PAIR: [&str; 2] = ["{pair}/a", "{pair}/b"];

/// Lies beside them, and is never made.
const MISSING: &str = "{pair}/none";

/// One batch.
#[derive(Clone, Debug)]
pub(crate) struct Adding {
    /// Who adds, and which time.
    token: String,
    tallies: Vec<String>,
}

/// Whether clients of a scenario send batches.
pub(crate) fn has_batches(settings: &Settings) -> bool {
    settings.scenario == "batches"
}

pub(crate) fn pair_links() -> Vec<String> {
    PAIR.iter().map(|name| format!("{TALLIES}/{name}")).collect()
}

pub(crate) fn pair_makings(settings: &Settings) -> Vec<Making> {
    let names = if has_batches(settings) { &PAIR[..] } else { &[] };
    names.iter().map(|name| Making::new(TALLIES, *name, json!({}))).collect()
}

impl Adding {
    /// To both of the pair, and often to one or all of the others; now and then to what is not
    /// there.
    pub(crate) fn choose(token: String, rng: &mut Random) -> Self {
        let mut tallies = pair_links();
        if rng.chance(200) {
            tallies.push(format!("{TALLIES}/{MISSING}"));
        }
        let others = tally_links();
        match rng.below(3) {
            0 => tallies.push(rng.pick(&others).clone()),
            1 => tallies.extend(others),
            _ => {}
        }
        // Not in the same order each time.
        let by = rng.index(tallies.len());
        tallies.rotate_left(by);
        Self { token, tallies }
    }

    fn entry(&self, place: usize) -> String {
        let of_pair = pair_links().iter().position(|link| *link == self.tallies[place]);
        match of_pair {
            // The order in both of them is compared by what stands before the sign.
            Some(which) => format!("{}@{which}", self.token),
            None => format!("{}@{}", self.token, self.tallies[place]),
        }
    }

    pub(crate) fn request(&self) -> Request {
        let requests: Vec<Value> = self
            .tallies
            .iter()
            .enumerate()
            .map(|(place, tally)| {
                json!({"method": "PATCH", "path": tally, "body": {"add": self.entry(place)}})
            })
            .collect();
        Request::new(Method::Post, BATCH_LINK).with_json(&json!({ "requests": requests }))
    }

    fn needs_what_is_missing(&self) -> bool {
        self.tallies.iter().any(|tally| tally.ends_with(MISSING))
    }

    /// Whether the entry at that place cannot be there, whatever was answered.
    fn is_impossible(&self, place: usize) -> bool {
        let is_near = |link: &String| link.contains("/{pair}/");
        self.needs_what_is_missing() && is_near(&self.tallies[place])
    }
}

impl fmt::Display for Adding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add {} to {} at once", self.token, self.tallies.join(", "))
    }
}

impl Referee {
    /// What became of a batch; none if the answer makes no sense.
    pub(crate) fn batch_told(
        &mut self,
        adding: &Adding,
        doing: (&Option<String>, bool),
        response: &Response,
    ) -> Result<Option<Verdict>, Broken> {
        let (key, was_unknown) = (doing.0.is_some(), doing.1);
        let body = response.to_json();
        let outcomes = body["requests"].as_array().cloned().unwrap_or_default();
        if outcomes.len() != adding.tallies.len() {
            return Ok(None);
        }
        let (mut applied, mut again) = (0, None);
        for (place, told) in outcomes.iter().enumerate() {
            let entry = adding.entry(place);
            match told["outcome"].as_str() {
                Some("applied") if adding.is_impossible(place) => {
                    return Err(Broken::new(RULE, format!("{adding}: {body}")));
                }
                Some("applied") => {
                    applied += 1;
                    self.once.done(&entry);
                }
                // A refusal says nothing of an earlier try, which may still be under way.
                Some("notApplied") if !was_unknown => {}
                Some("notApplied" | "unknown") if adding.is_impossible(place) => {}
                Some("notApplied" | "unknown") => self.once.unknown(&entry),
                _ => return Ok(None),
            }
            let code = told["error"]["code"].as_str().unwrap_or_default();
            if code == "BATCH_FAILED" {
                self.paths.reached("a request was not done because of another one of its batch");
            }
            if told["outcome"] == "unknown" || told["status"] == 503 {
                again = Some(format!("{code} at {place}"));
            }
        }
        note_paths(&mut self.paths, applied, outcomes.len(), was_unknown);
        Ok(Some(match again {
            Some(why) if key => Verdict::Unknown(why),
            _ => Verdict::Done,
        }))
    }

    /// Nobody will know what became of a batch.
    pub(crate) fn batch_given_up(&mut self, adding: &Adding) {
        for place in (0..adding.tallies.len()).filter(|place| !adding.is_impossible(*place)) {
            self.once.unknown(&adding.entry(place));
        }
    }

    /// What was added to the pair was added to both, and in one order.
    pub(crate) fn check_pair(&self) -> Result<(), Broken> {
        let tokens = |link: &String| -> Vec<String> {
            let entries = self.shown(link).map(|tally| tally["entries"].clone());
            let entries = entries.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
            let token = |entry: &Value| {
                let text = entry.as_str().unwrap_or_default();
                text.split('@').next().unwrap_or_default().to_owned()
            };
            entries.iter().map(token).collect()
        };
        let [one, other] = &pair_links()[..] else { unreachable!("it is a pair") };
        is_whole(&tokens(one), &tokens(other))
    }
}

/// # Errors
/// When one of the pair has what the other has not.
fn is_whole(one: &[String], other: &[String]) -> Result<(), Broken> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    match at {
        None if one.len() == other.len() => Ok(()),
        None => Err(Broken::new(RULE, format!("{} and {} entries", one.len(), other.len()))),
        Some(at) => {
            let what = format!("entry {at} of the pair: {} and {}", one[at], other[at]);
            Err(Broken::new(RULE, what))
        }
    }
}

/// The documents that a batch has written, as its answer shows them.
pub(crate) fn applied_in_batch(body: &Value) -> Vec<Value> {
    let outcomes = body["requests"].as_array().into_iter().flatten();
    let applied = outcomes.filter(|told| told["outcome"] == "applied");
    applied.map(|told| told["body"].clone()).collect()
}

fn note_paths(paths: &mut Paths, applied: usize, all: usize, was_unknown: bool) {
    if applied == all && was_unknown {
        paths.reached("a batch that was in doubt was sent again and is done");
    }
    if applied > 0 && applied < all {
        paths.reached("some of a batch was done and some was not");
    }
}

/// For the judge: the key of a request, and whether an earlier try may have been done.
pub(crate) fn doubts(doing: &Doing) -> (&Option<String>, bool) {
    (&doing.key, doing.unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_atom_is_found() {
        let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        is_whole(&of("a b"), &of("a b")).unwrap();
        is_whole(&of(""), &of("")).unwrap();
        for (one, other) in [("a b", "a"), ("a", "a b"), ("a b", "b a"), ("a", "")] {
            assert!(is_whole(&of(one), &of(other)).is_err(), "{one} and {other}");
        }
    }
}
