//! Rare paths: how often each was reached. One that no seed reaches is not tested, whatever the
//! rules say.

use std::collections::BTreeMap;

use replication::{Message, MessageKind};

/// How often each path was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(BTreeMap<&'static str, u64>);

/// The number of runs of a scenario after which each of its paths must have been reached.
pub const RUNS_MIN: u64 = 100;

/// What must be reached in runs of any scenario in which nodes die or lose each other.
const ALWAYS: &[&str] = &[
    "a pre-vote was refused",
    "an append was refused",
    "an owner was called to take over",
    "a snapshot was offered",
    "a group went to rest",
];

/// By scenario, what it is about.
const OF_SCENARIOS: &[(&str, &[&str])] = &[
    (
        "swarm",
        &[
            "a silent link was closed",
            "a detour was made",
            "a vote was refused",
            "a process died halfway",
            "a process died before a sync",
            "a node stopped in good order",
            "a node halted",
            "a log was put aside",
            "an encrypted log was opened again",
            "an answer was lost",
            "a document of a defined kind was asked for",
            "a change was told",
            "a reader of changes fell behind",
            "a task under way has its next event",
        ],
    ),
    ("detours", &["a silent link was closed", "a detour was made", "a detour has ended"]),
    ("net", &["a silent link was closed", "a detour was made", "an answer was lost"]),
    (
        "disks",
        &["a node halted", "an encrypted log was opened again", "a disk took no more for a while"],
    ),
    ("immortals", &["timers waited for the next primary", "the next primary begins a side effect"]),
    ("immortals-kills", &["timers waited for the next primary", "a timer fired"]),
    (
        "immortals-upgrades",
        &[
            "the primary was upgraded",
            "a standby was upgraded",
            "an upgrade failed at the primary",
            "an upgrade failed at a standby",
            "an input was taken out",
        ],
    ),
    ("stale", &["a machine was cut off from all others"]),
    ("minority", &["a machine stayed down"]),
    (
        "mortals",
        &["a document was read a moment before its end", "a document was gone after its end"],
    ),
    (
        "mortals-clock",
        &["a document was read a moment before its end", "a document was gone after its end"],
    ),
    ("hours", &["hours went by", "a request was repeated hours later"]),
    (
        "fences",
        &[
            "a machine was cut off from all others",
            "a task was told to go another way",
            "a step went another way",
        ],
    ),
    (
        "holds",
        &[
            "a task was held",
            "a task was held in the middle of a step and went on under the same keys",
            "a task was held in the middle of a step and released by another owner",
            "a task was told to try at once",
            "what a task waited for was skipped",
            "a step went on without an answer that was skipped",
        ],
    ),
    ("backups", &["a backup was begun", "a backup was restored", "a backup took several attempts"]),
    ("immortals-backups", &["a backup was begun", "a backup was restored"]),
    ("mixed", &["a node ran an older program", "a node lacked a service"]),
    (
        "batches",
        &[
            "a request was not done because of another one of its batch",
            "some of a batch was done and some was not",
            "a batch that was in doubt was sent again and is done",
            "a machine was cut off from all others",
        ],
    ),
    (
        "rights",
        &[
            "a right that was given was honoured",
            "a right that was taken away was refused",
            "a right was honoured while it changed",
            "nothing was done for one without a right",
            "a task was refused what its maker may not",
            "a task of a user came to its end",
            "nobody was refused",
            "a machine was cut off from all others",
        ],
    ),
    (
        "services",
        &[
            "a program answered twice",
            "a program answered late",
            "a program died of a call",
            "a program that lacks the handler was there",
            "a call that a program had died with went to another one alone",
            "a program left in good order",
            "a program that answered wrongly was let go",
            "a program that babbled was let go",
            "a program that was late was let go",
            "a program that was silent was let go",
            "programs have failed at a write",
            "no program was there for a write",
            "an entry was added by a program",
        ],
    ),
    (
        "orders",
        &[
            "a payment came to the ledger",
            "a new owner found messages that were not confirmed",
            "a machine was cut off from all others",
            "an immortal was told of a write that was made",
            "an immortal was told of a write that was refused",
            "an owner asked which of its writes are taken",
        ],
    ),
    (
        "orders-net",
        &[
            "a payment came to the ledger",
            "an immortal was told of a write that was made",
            "a write that came once more was dropped",
            "a write was under way twice and was taken once",
        ],
    ),
    (
        "subscriptions",
        &[
            "somebody has subscribed",
            "a subscriber went away",
            "a notification was lost",
            "a subscriber's answer was lost",
            "a subscriber was told again by another node",
            "a subscriber was told from the store",
        ],
    ),
    ("subscriptions-net", &["somebody has subscribed", "a subscriber was told from the store"]),
    ("altered", &["a state was altered", "a state was put aside", "a state was filled anew"]),
    ("kills", &["states were compared", "a process died halfway", "a process died before a sync"]),
    ("power", &["states were compared", "a process died before a sync"]),
    ("forgotten", &["a log was put aside"]),
    ("everything", &["a vote was refused", "a node halted", "a log was put aside"]),
    (
        "damage",
        &[
            "a log was put aside",
            "a node with an empty sandbox began alone",
            "a node that was missed left its own cluster",
        ],
    ),
    ("stops", &["a node stopped in good order"]),
    ("joins", &["a person let a node in", "a person refused a node"]),
    (
        "removals",
        &[
            "a removal was asked for",
            "a node was to be removed that is down",
            "a node was removed and ended",
            "a removed node came back",
            "a removed node was told so",
            "a person let a node in",
        ],
    ),
    ("addresses", &["a machine got another address"]),
    ("removals-net", &["a node was removed and ended", "a removed node was told so"]),
];

/// Scenarios in which [`ALWAYS`] counts.
const RESTLESS: &[&str] = &["swarm", "everything"];

impl Paths {
    pub fn reached(&mut self, path: &'static str) {
        *self.0.entry(path).or_default() += 1;
    }

    /// The path was reached this number of times, perhaps never.
    pub fn count(&mut self, path: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(path).or_default() += times;
        }
    }

    pub fn sent(&mut self, message: &Message) {
        let path = match message.kind {
            MessageKind::PreVoteAnswer if message.reject => "a pre-vote was refused",
            MessageKind::VoteAnswer if message.reject => "a vote was refused",
            MessageKind::AppendAnswer if message.reject => "an append was refused",
            MessageKind::Campaign => "an owner was called to take over",
            MessageKind::Snapshot => "a snapshot was offered",
            MessageKind::Rest => "a group went to rest",
            _ => return,
        };
        self.reached(path);
    }

    pub fn add(&mut self, other: &Self) {
        for (path, count) in &other.0 {
            *self.0.entry(path).or_default() += count;
        }
    }

    /// The paths of a scenario that were never reached.
    pub fn missing(&self, scenario: &str) -> Vec<&'static str> {
        let of_scenario = OF_SCENARIOS.iter().filter(|(name, _)| *name == scenario);
        let always = if RESTLESS.contains(&scenario) { ALWAYS } else { &[] };
        let all = of_scenario.flat_map(|(_, paths)| *paths).chain(always);
        all.copied().filter(|path| !self.0.contains_key(path)).collect()
    }

    /// One line for each.
    pub fn show(&self) -> String {
        let line = |(path, count): (&&str, &u64)| format!("  {count:>8}  {path}");
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_run_reached_is_named() {
        let mut all = Paths::default();
        let mut one = Paths::default();
        let both = ["timers waited for the next primary", "a timer fired"];
        both.iter().for_each(|path| one.reached(path));
        assert_eq!(all.missing("immortals-kills"), both);
        all.add(&one);
        assert!(all.missing("immortals-kills").is_empty() && all.missing("calm").is_empty());
    }
}
