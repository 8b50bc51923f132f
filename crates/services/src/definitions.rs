//! The service of the documents that define kinds: what is checked when one is written, and what a
//! definition that is there says of the next one.

use protocol::links::{KINDS, definition_of};
use protocol::service::Handler;
use protocol::{Code, Problem};
use serde_json::{Map, Value};

use crate::kinds::{KIND_BYTES_MAX, Kind, text, wrong};
use crate::merge::Patch;
use crate::outside::Outside;
use crate::service::{Context, Service};
use crate::spec::{Field, FieldType, ServiceOption, Spec};

/// Documents have the kind that they were written with, and are found by it.
fn check_kind_stays(current: &Map<String, Value>, new: &Map<String, Value>) -> Result<(), Problem> {
    if current.get("kind") == new.get("kind") {
        return Ok(());
    }
    let text = "kind does not change: documents that are there would not be found by it. Define a \
                factory of another name instead";
    Err(Problem::bad_request(text))
}

/// What changes a document of an immutable kind would never be called.
fn check_immutable(spec: &Spec, outside: &Outside) -> Result<(), Problem> {
    if !spec.has(ServiceOption::Immutable) {
        return Ok(());
    }
    if spec.has(ServiceOption::IdempotentPost) {
        let text = "options has IMMUTABLE and IDEMPOTENT_POST: a POST of what is there would \
                    change it. Drop one";
        return Err(Problem::bad_request(text));
    }
    let verb = [Handler::Put, Handler::Patch].into_iter().find(|verb| outside.has(*verb));
    let what = match (verb, outside.actions().first()) {
        (Some(verb), _) => format!("handlers has '{}'", verb.name()),
        (None, Some(action)) => format!("actions has '{action}'"),
        (None, None) => return Ok(()),
    };
    let text = format!("{what}, and options has IMMUTABLE: no document of this kind ever changes");
    Err(Problem::bad_request(text))
}

/// The version of the program that a definition comes from. Programs define their kinds whenever
/// they start, also an old copy that is started again while it is replaced: without this it would
/// take back what the new version has said.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DefinitionVersion(Vec<u64>);

impl DefinitionVersion {
    fn of(definition: &Map<String, Value>) -> Result<Option<Self>, Problem> {
        let Some(said) = text(definition, "version")? else { return Ok(None) };
        let is_number = |part: &&str| {
            (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let parts: Vec<&str> = said.split('.').collect();
        if parts.len() > 4 || !parts.iter().all(is_number) {
            let wanted = "a text of up to four numbers with dots between, such as \"2.1\"";
            return Err(wrong("version", &Value::from(said), wanted));
        }
        let number = |part: &&str| part.parse().expect("it has at most nine digits");
        let mut numbers: Vec<u64> = parts.iter().map(number).collect();
        // 2.0 is 2.
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        Ok(Some(Self(numbers)))
    }
}

fn check_not_older(current: &Map<String, Value>, new: &Map<String, Value>) -> Result<(), Problem> {
    // What an earlier release took as a version goes.
    let (Ok(Some(now)), new_version) =
        (DefinitionVersion::of(current), DefinitionVersion::of(new)?)
    else {
        return Ok(());
    };
    if new_version.is_some_and(|version| version >= now) {
        return Ok(());
    }
    let shown = |fields: &Map<String, Value>| match fields.get("version") {
        Some(Value::String(version)) => format!("version {version}"),
        _ => "none".to_owned(),
    };
    let text = format!(
        "{} is defined by {} of a program, and this definition is of {}: it changes nothing",
        current.get("link").and_then(Value::as_str).unwrap_or_default(),
        shown(current),
        shown(new)
    );
    Err(Problem::new(Code::OlderDefinition, text))
}

/// The service of the definitions.
pub(crate) struct Kinds;

impl Kinds {
    fn check(context: &Context<'_>, state: &mut Map<String, Value>) -> Result<(), Problem> {
        let kind = Kind::of(state)?;
        check_immutable(&kind.spec, &Outside::of(state)?)?;
        DefinitionVersion::of(state)?;
        state.insert("kind".into(), kind.spec.kind.clone().into());
        let expected = definition_of(&kind.spec.factory);
        if context.link != expected {
            return Err(Problem::new(
                Code::BadLink,
                format!(
                    "the definition of {} is {expected}, not {}; leave documentSelfLink out",
                    kind.spec.factory, context.link
                ),
            ));
        }
        if context.expires.0 != 0 {
            let text = "a definition does not expire: delete it when its documents are gone";
            return Err(Problem::bad_request(text));
        }
        Ok(())
    }
}

impl Service for Kinds {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        let words = |name: &str| Field::new(name, FieldType::String);
        let list = |name: &str| Field::new(name, FieldType::Collection);
        let number = |name: &str| Field::new(name, FieldType::Long);
        Spec::new(KINDS, "amrita:KindState")
            .about("Kinds of documents that are defined while the cluster runs.")
            .state_bytes_max(KIND_BYTES_MAX)
            .field(words("link").required().about("The factory.").example("/app/seats"))
            .field(
                words("kind").about("documentKind of the documents; made of the link if not said."),
            )
            .field(words("documentation").about("One sentence for people."))
            .field(Field::new("schema", FieldType::Object).about("JSON Schema of a state."))
            .field(list("options").about("IDEMPOTENT_POST, STRICT_UPDATE_CHECKING, IMMUTABLE."))
            .field(list("merge").about("Fields that a PATCH unites with what is there."))
            .field(number("retentionLimit").about("How many versions are kept at most."))
            .field(number("retentionFloor").about("How many stay when old ones go."))
            .field(number("expiresAfterSeconds").about("How long a new document lives."))
            .field(list("handlers").about("What a program does: create, put, patch, delete."))
            .field(list("actions").about("Names of what a program does beside these."))
            .field(words("version").about("Of the program that defines it; it does not go back."))
    }

    fn create(&self, context: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        Self::check(context, state)
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        mut new: Self::State,
    ) -> Result<Self::State, Problem> {
        Self::check(context, &mut new)?;
        check_kind_stays(current, &new)?;
        check_not_older(current, &new)?;
        Ok(new)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        patch: &Patch,
    ) -> Result<Self::State, Problem> {
        // A schema is one thing: what a PATCH names replaces what was there.
        let mut new = current.clone();
        new.extend(patch.fields.clone());
        new.retain(|_, value| !value.is_null());
        Self::check(context, &mut new)?;
        check_kind_stays(current, &new)?;
        // Who takes the version away means it.
        if patch.fields.get("version").is_none_or(|version| !version.is_null()) {
            check_not_older(current, &new)?;
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{BodyType, Moment, Term};
    use serde_json::json;

    use super::*;
    use crate::Numbers;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not an object: {value}") };
        fields
    }

    fn patch(fields: Value) -> Patch {
        let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
        Patch { fields, body_type: BodyType::Json, kind: None }
    }

    fn seats() -> Map<String, Value> {
        fields(json!({"link": "/app/seats", "schema": {"type": "object"}}))
    }

    fn context<'a>(spec: &'a Spec, link: &'a str) -> Context<'a> {
        Context {
            link,
            version: 0,
            epoch: Term(1),
            now: Moment(5),
            node_id: "n1",
            spec,
            expires: Moment(0),
            numbers: Numbers::default(),
            sending: crate::Sending::default(),
        }
    }

    #[test]
    fn a_definition_stands_where_its_factory_says_and_does_not_expire() {
        let spec = Kinds.spec();
        let mut right = context(&spec, "/core/factories/app:seats");
        let mut state = seats();
        Kinds.create(&mut right, &mut state).unwrap();
        assert_eq!(state["kind"], "app:seats");
        right.expires = Moment(7);
        assert!(Kinds.create(&mut right, &mut seats()).is_err());
        let mut wrong = context(&spec, "/core/factories/seats");
        let problem = Kinds.create(&mut wrong, &mut seats()).unwrap_err();
        assert!(problem.message.contains("/core/factories/app:seats"), "{}", problem.message);
    }

    #[test]
    fn what_changes_a_document_does_not_go_with_immutable() {
        let spec = Kinds.spec();
        for (more, refused) in [
            (json!({"actions": ["hold"]}), Some("actions has 'hold'")),
            (json!({"handlers": ["create", "patch"]}), Some("handlers has 'patch'")),
            (json!({"handlers": ["put"]}), Some("handlers has 'put'")),
            (json!({"handlers": ["create", "delete"]}), None),
        ] {
            let mut definition = fields(json!({"link": "/app/t", "options": ["IMMUTABLE"]}));
            definition.extend(fields(more.clone()));
            let mut context = context(&spec, "/core/factories/app:t");
            let checked = Kinds.create(&mut context, &mut definition);
            let message = checked.err().map(|problem| problem.message);
            let is_as_expected = match (&message, refused) {
                (None, None) => true,
                (Some(message), Some(part)) => message.starts_with(part),
                _ => false,
            };
            assert!(is_as_expected, "{more}: {message:?}");
        }
    }

    fn with_version(version: Value) -> Map<String, Value> {
        let mut definition = seats();
        definition.insert("kind".into(), "app:seats".into());
        definition.insert("version".into(), version);
        definition.retain(|_, value| !value.is_null());
        definition
    }

    #[test]
    fn a_definition_does_not_go_back_to_an_older_version() {
        let spec = Kinds.spec();
        for (now, new, is_older) in [
            (json!("2"), json!("1"), true),
            (json!("2.10"), json!("2.9"), true),
            (json!("2.1"), json!("2"), true),
            (json!("2"), Value::Null, true),
            (json!("2"), json!("2"), false),
            (json!("2"), json!("2.0"), false),
            (json!("2.0"), json!("2"), false),
            (json!("2.9"), json!("2.10"), false),
            (json!("9"), json!("10"), false),
            (Value::Null, json!("1"), false),
            (Value::Null, Value::Null, false),
        ] {
            let mut context = context(&spec, "/core/factories/app:seats");
            let (before, after) = (with_version(now.clone()), with_version(new.clone()));
            let put = Kinds.put(&mut context, &before, after);
            let code = put.err().map(|problem| problem.code);
            assert_eq!(code, is_older.then_some(Code::OlderDefinition), "{now} {new}");
            if new.is_null() {
                continue;
            }
            let patched = Kinds.patch(&mut context, &before, &patch(json!({ "version": new })));
            assert_eq!(patched.is_err(), is_older, "{now} {new}");
        }
        let mut context = context(&spec, "/core/factories/app:seats");
        let before = with_version(json!("2"));
        let other = Kinds.patch(&mut context, &before, &patch(json!({"retentionLimit": 7})));
        assert_eq!(other.unwrap()["version"], "2", "what does not name it leaves it");
        let taken = Kinds.patch(&mut context, &before, &patch(json!({"version": null})));
        assert!(!taken.unwrap().contains_key("version"), "who takes it away means it");
    }

    #[test]
    fn a_version_is_numbers() {
        for (version, why) in [
            (json!(2), "version is 2"),
            (json!("v2"), "version is \"v2\""),
            (json!("1..2"), "version is \"1..2\""),
            (json!("1.2.3.4.5"), "version is \"1.2.3.4.5\""),
        ] {
            let problem = DefinitionVersion::of(&with_version(version)).unwrap_err();
            assert!(problem.message.starts_with(why), "{why}: {}", problem.message);
        }
    }
}
