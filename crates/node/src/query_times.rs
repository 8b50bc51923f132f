//! Where the time of a query goes: for whoever asks, and for the log when it was slow.

use std::collections::BTreeMap;

use protocol::GroupId;
use query::{Explained, Page};
use serde_json::{Value, json};
use services::Effort;

/// A query that takes longer is told in the log, in microseconds.
pub(crate) const SLOW_MICROS: u64 = 1_000_000;

/// What was measured of a query, at the node that took it in.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// How much effort the owners may make at present.
    pub(crate) effort: Effort,
    /// When the partitions were asked last.
    asked_at: u64,
    /// When the query began to wait for its turn, if it does.
    queued_at: Option<u64>,
    waited_micros: u64,
    /// For each partition: how much effort it took in the end, and how long its pieces took.
    parts: BTreeMap<GroupId, (Effort, u64)>,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            effort: Effort::Step,
            asked_at: 0,
            queued_at: None,
            waited_micros: 0,
            parts: BTreeMap::new(),
        }
    }
}

impl Times {
    pub(crate) fn ask(&mut self, now: u64) {
        if let Some(queued_at) = self.queued_at.take() {
            self.waited_micros += now.saturating_sub(queued_at);
        }
        self.asked_at = now;
    }

    pub(crate) fn came(&mut self, group: GroupId, now: u64) {
        let part = self.parts.entry(group).or_insert((self.effort, 0));
        part.0 = self.effort;
        part.1 += now.saturating_sub(self.asked_at);
    }

    /// Whether no time has passed since the partitions were asked, as they answered within the
    /// same step.
    pub(crate) fn is_unmeasured(&self, now: u64) -> bool {
        self.asked_at == now
    }

    /// The partitions that answered within the step share the time that it took.
    pub(crate) fn measured(&mut self, now: u64) {
        let took = now.saturating_sub(self.asked_at);
        self.parts.values_mut().filter(|(_, micros)| *micros == 0).for_each(|it| it.1 = took);
    }

    pub(crate) fn queue(&mut self, now: u64) {
        self.queued_at = Some(now);
    }

    /// How long it waited for its turn, in microseconds.
    pub(crate) fn waited_micros(&self) -> u64 {
        self.waited_micros
    }
}

/// The time that a query took, and what is told of how it was run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) took_micros: u64,
    /// Only if it was asked for.
    pub(crate) explained: Option<Value>,
}

/// How a query was run in each partition.
pub(crate) fn explained(times: &Times, parts: &BTreeMap<GroupId, Page>) -> Value {
    let part = |(group, page): (&GroupId, &Page)| {
        let found = page.explained.clone().unwrap_or_default();
        let (effort, micros) = times.parts.get(group).copied().unwrap_or((Effort::Step, 0));
        let Explained { way, entries, documents, bytes, is_hidden } = found;
        let told = |number: u64| (!is_hidden).then_some(number);
        json!({
            "partition": group.0,
            "way": (!is_hidden).then_some(way),
            "entriesRead": told(entries),
            "documentsRead": told(documents),
            "workBytes": told(bytes),
            "ran": in_words(effort),
            "micros": micros,
        })
    };
    let each: Vec<Value> = parts.iter().map(part).collect();
    json!({"waitedMicros": times.waited_micros, "partitions": each})
}

fn in_words(effort: Effort) -> &'static str {
    match effort {
        Effort::Step => "within a step of the owner",
        Effort::Short => "on a thread for short queries",
        Effort::Long => "on a thread for long queries",
    }
}
