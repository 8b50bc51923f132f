//! Why something does not go on: what it waits for, since when, and what would free it. The answer
//! to GET on `/explain`.

use serde_json::{Value, json};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Enough nodes that hold a write.
    Quorum,
    /// A node that owns the group.
    Owner,
    /// A node that is away.
    Node,
    /// A program that is attached to an instance.
    Program,
    /// A moment.
    Timer,
    /// Its place in a line.
    Turn,
    /// The instance to which something was sent.
    Destination,
    /// A disk that takes writes, and takes them quickly.
    Disk,
    /// A clock that is right.
    Clock,
    /// The state of a replica that is being filled.
    State,
    /// A program that has a service which those of other nodes have.
    Service,
    /// The code of a service.
    Handler,
    /// The answer to a request that a task has made.
    Call,
    /// That no call of an earlier owner can have an effect any more.
    Fence,
    /// Somebody who decides.
    Person,
}

impl WaitsFor {
    const ALL: [Self; 15] = [
        Self::Quorum,
        Self::Owner,
        Self::Node,
        Self::Program,
        Self::Timer,
        Self::Turn,
        Self::Destination,
        Self::Disk,
        Self::Clock,
        Self::State,
        Self::Service,
        Self::Handler,
        Self::Call,
        Self::Fence,
        Self::Person,
    ];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quorum => "QUORUM",
            Self::Owner => "OWNER",
            Self::Node => "NODE",
            Self::Program => "PROGRAM",
            Self::Timer => "TIMER",
            Self::Turn => "TURN",
            Self::Destination => "DESTINATION",
            Self::Disk => "DISK",
            Self::Clock => "CLOCK",
            Self::State => "STATE",
            Self::Service => "SERVICE",
            Self::Handler => "HANDLER",
            Self::Call => "CALL",
            Self::Fence => "FENCE",
            Self::Person => "PERSON",
        }
    }
}

/// One thing that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub waits_for: WaitsFor,
    /// What is so, in a sentence.
    pub text: String,
    /// What would free it. Without one it goes on by itself.
    pub remedy: Option<String>,
    /// For how long it has been so, in microseconds, as far as that is known.
    pub for_micros: Option<u64>,
    /// Because of it writes of documents are refused, of some or of all of them.
    pub refuses_writes: bool,
}

impl Finding {
    /// It goes on by itself.
    pub fn passing(waits_for: WaitsFor, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { waits_for, text, remedy: None, for_micros: None, refuses_writes: false }
    }

    /// It goes on when that has been done, and not before.
    pub fn stuck(waits_for: WaitsFor, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::passing(waits_for, text) }
    }

    #[must_use]
    pub fn for_micros(self, for_micros: Option<u64>) -> Self {
        Self { for_micros, ..self }
    }

    /// Because of it writes of documents are refused.
    #[must_use]
    pub fn refusing_writes(self) -> Self {
        Self { refuses_writes: true, ..self }
    }

    /// What another node has told, if it is a finding.
    pub fn from_json(shown: &Value) -> Option<Self> {
        let name = shown["waitsFor"].as_str()?;
        let waits_for = WaitsFor::ALL.into_iter().find(|it| it.name() == name)?;
        Some(Self {
            waits_for,
            text: shown["text"].as_str()?.to_owned(),
            remedy: shown["remedy"].as_str().map(str::to_owned),
            for_micros: shown["forMillis"].as_u64().map(|millis| millis.saturating_mul(1_000)),
            refuses_writes: shown["refusesWrites"] == true,
        })
    }

    fn to_json(&self) -> Value {
        let mut shown = json!({ "waitsFor": self.waits_for.name(), "text": self.text });
        if let Some(micros) = self.for_micros {
            shown["forMillis"] = json!(micros / 1_000);
        }
        if let Some(remedy) = &self.remedy {
            shown["remedy"] = json!(remedy);
        }
        if self.refuses_writes {
            shown["refusesWrites"] = json!(true);
        }
        shown
    }
}

/// The answer about what has that link. `told_by` is the node that knows it so.
pub fn explanation(link: &str, told_by: &str, findings: &[Finding]) -> Value {
    json!({
        "about": link,
        "isStuck": findings.iter().any(|finding| finding.remedy.is_some()),
        "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "toldBy": told_by,
        "documentSelfLink": format!("{link}/explain"),
        "documentKind": "amrita:Explanation",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_by_itself_is_not_stuck() {
        let waits = Finding::passing(WaitsFor::Timer, "a pause").for_micros(Some(2_500));
        let shown = explanation("/core/tasks/a", "n1", std::slice::from_ref(&waits));
        assert_eq!(shown["isStuck"], false);
        let finding = json!({ "waitsFor": "TIMER", "text": "a pause", "forMillis": 2 });
        assert_eq!(shown["findings"], json!([finding]));
        assert_eq!(shown["findings"][0].get("refusesWrites"), None);
        let stuck = Finding::stuck(WaitsFor::Quorum, "one of three nodes is up", "start n2");
        let stuck = stuck.refusing_writes();
        for (finding, waits_for) in [&waits, &stuck].into_iter().zip(["TIMER", "QUORUM"]) {
            let shown = finding.to_json();
            let read = Finding::from_json(&shown).unwrap();
            assert_eq!((read.to_json(), read.waits_for.name()), (shown, waits_for));
        }
        assert_eq!(Finding::from_json(&json!({ "waitsFor": "NOTHING", "text": "" })), None);
        let shown = explanation("/core/tasks/a", "n1", &[waits, stuck]);
        assert_eq!(shown["isStuck"], true);
        assert_eq!(shown["findings"][1]["remedy"], "start n2");
        assert_eq!(shown["findings"][1]["refusesWrites"], true);
    }
}
