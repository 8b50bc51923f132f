//! Kinds whose handlers are in a program outside the node: what the definition says of them, what
//! the program is asked, and what it says.

use std::collections::BTreeSet;

use protocol::explanation::{Finding, WaitsFor};
use protocol::service::{Answer, Handler};
use protocol::{Code, Problem};
use serde_json::{Map, Value};

use crate::merge::Patch;

/// How many actions a kind may have.
const ACTIONS_MAX: usize = 64;

/// What a program does for a kind. The rest is done by the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    handlers: BTreeSet<Handler>,
    actions: Vec<String>,
}

impl Outside {
    /// # Errors
    /// What is wrong with these parts of a definition.
    pub(crate) fn of(definition: &Map<String, Value>) -> Result<Self, Problem> {
        let mut outside = Self::default();
        for word in words(definition, "handlers")? {
            let known = Handler::VERBS.into_iter().find(|known| known.name() == word);
            let known = known.ok_or_else(|| {
                let names = Handler::VERBS.map(Handler::name).join(", ");
                Problem::bad_request(format!("handlers has '{word}'; it may have {names}"))
            })?;
            if !outside.handlers.insert(known) {
                return Err(Problem::bad_request(format!("handlers has '{word}' twice")));
            }
        }
        for word in words(definition, "actions")? {
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if word.is_empty() || !word.chars().all(is_name) {
                return Err(Problem::bad_request(format!(
                    "actions has '{word}'; a name has letters, digits, '-' and '_'"
                )));
            }
            if outside.actions.iter().any(|other| other == word) {
                return Err(Problem::bad_request(format!("actions has '{word}' twice")));
            }
            outside.actions.push(word.to_owned());
        }
        if outside.actions.len() > ACTIONS_MAX {
            return Err(Problem::bad_request(format!(
                "actions has {} names; the limit is {ACTIONS_MAX}",
                outside.actions.len()
            )));
        }
        Ok(outside)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.handlers.is_empty() && self.actions.is_empty()
    }

    pub fn has(&self, handler: Handler) -> bool {
        self.handlers.contains(&handler)
    }

    pub fn actions(&self) -> &[String] {
        &self.actions
    }
}

fn words<'a>(definition: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a str>, Problem> {
    let wrong = |value: &Value| {
        Problem::bad_request(format!("{name} is {value}; it must be a list of texts"))
    };
    match definition.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list @ Value::Array(items)) => {
            items.iter().map(|item| item.as_str().ok_or_else(|| wrong(list))).collect()
        }
        Some(other) => Err(wrong(other)),
    }
}

/// What a client wants of a document, before the program is asked.
pub(crate) enum Draft<'a> {
    Create(Map<String, Value>),
    Put(Map<String, Value>),
    Patch(&'a protocol::Body, &'a Patch),
}

/// What came of a call to a program.
#[derive(Clone, Debug)]
pub enum Said {
    Answer(Answer),
    /// No program has answered. Nothing was written, whatever the state is.
    Nothing(Problem),
}

/// What the client is told when the program refuses.
pub(crate) fn refusal(status: u16, message: String) -> Problem {
    let code = match status {
        403 => Code::AccessDenied,
        404 => Code::NotFound,
        409 => Code::Refused,
        _ => Code::BadRequest,
    };
    Problem::new(code, message)
}

/// A state that a program gave, as fields.
///
/// # Errors
/// When it is none.
pub(crate) fn state_of(text: &[u8], factory: &str) -> Result<Map<String, Value>, Problem> {
    let failed = |why: String| {
        let text = format!("the program of {factory} has given a state that is none: {why}");
        Problem::new(Code::ProgramFailed, text)
    };
    let mut fields = match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(failed("it must be a JSON object".into())),
        Err(error) => return Err(failed(error.to_string())),
    };
    if let Some(name) = fields.keys().find(|name| name.starts_with("document")) {
        return Err(failed(format!("its field '{name}' is the system's; leave it out")));
    }
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

/// Why documents of a kind are not written whose handlers are in a program, when there is none.
pub fn no_program_attached(factory: &str) -> Finding {
    let text = format!("the handlers of {factory} are in a program, and none is attached");
    let remedy = "start one beside a node, and look at what it prints";
    Finding::stuck(WaitsFor::Program, text, remedy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(definition: &Value) -> Result<Outside, Problem> {
        Outside::of(definition.as_object().expect("an object"))
    }

    #[test]
    fn a_definition_says_what_a_program_does() {
        assert!(of(&json!({"link": "/app/seats"})).unwrap().is_empty());
        let outside = of(&json!({"handlers": ["patch"], "actions": ["hold", "re-lease_2"]}));
        let outside = outside.unwrap();
        assert!(outside.has(Handler::Patch) && !outside.has(Handler::Create));
        assert_eq!(outside.actions(), ["hold", "re-lease_2"]);
    }

    #[test]
    fn a_wrong_list_is_refused_with_its_name() {
        for (definition, why) in [
            (json!({"handlers": "patch"}), "handlers is \"patch\""),
            (json!({"handlers": ["get"]}), "handlers has 'get'; it may have create, put, patch"),
            (json!({"handlers": ["put", "put"]}), "handlers has 'put' twice"),
            (json!({"actions": [5]}), "actions is [5]"),
            (json!({"actions": ["a/b"]}), "actions has 'a/b'"),
            (json!({"actions": [""]}), "actions has ''"),
            (json!({"actions": ["a", "a"]}), "actions has 'a' twice"),
            (
                json!({"actions": (0..=ACTIONS_MAX).map(|n| format!("a{n}")).collect::<Vec<_>>()}),
                "actions has 65 names",
            ),
        ] {
            let problem = of(&definition).unwrap_err();
            assert!(problem.message.starts_with(why), "{why}: {}", problem.message);
        }
    }

    #[test]
    fn a_state_that_is_none_is_named() {
        for (text, why) in [
            ("{", "EOF"),
            ("[]", "a JSON object"),
            (r#"{"documentVersion":3}"#, "'documentVersion' is the system's"),
        ] {
            let problem = state_of(text.as_bytes(), "/app/seats").unwrap_err();
            assert_eq!(problem.code, Code::ProgramFailed);
            assert!(problem.message.contains(why), "{}", problem.message);
        }
        let fields = state_of(br#"{"a":1,"b":null}"#, "/app/seats").unwrap();
        assert_eq!(Value::from(fields), json!({"a": 1}));
    }
}
