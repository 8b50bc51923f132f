//! Kinds of documents that are defined while the cluster runs: by a document that names a factory
//! and has a JSON Schema for its states. No program is built for them.
//!
//! A definition is a document as any other: replicated, with versions, watched and found by
//! queries. Each node follows the definitions in its own replicas, and makes a service of each
//! ([`crate::Catalogue::define`]).

use std::collections::BTreeSet;

use jsonschema::{PatternOptions, Validator};
use protocol::{Code, Problem, links};
use serde_json::{Map, Value, json};

use crate::merge::Patch;
use crate::service::{Context, Service};
use crate::spec::{Field, FieldType, ServiceOption, Spec};

/// The factory of definitions.
pub const KINDS: &str = "/core/factories";

/// The largest definition, in bytes.
pub(crate) const KIND_BYTES_MAX: usize = 64 << 10;

/// Names under this are the system's.
const SYSTEM: &str = "/core";

/// What a definition may say.
const KNOWN: [&str; 9] = [
    "link",
    "kind",
    "documentation",
    "schema",
    "options",
    "merge",
    "retentionLimit",
    "retentionFloor",
    "expiresAfterSeconds",
];

const OPTIONS: [ServiceOption; 3] =
    [ServiceOption::IdempotentPost, ServiceOption::StrictUpdate, ServiceOption::Immutable];

/// Whether a document is a definition.
pub fn is_kind(link: &str) -> bool {
    link.strip_prefix(KINDS).is_some_and(|rest| rest.starts_with('/'))
}

/// The name that the definition of a factory has: `app:seats` for `/app/seats`.
pub fn kind_name(factory: &str) -> String {
    factory.trim_matches('/').replace('/', ":")
}

/// Whether somebody could have defined a factory with that link.
pub fn may_be_defined(factory: &str) -> bool {
    let is_system =
        factory.strip_prefix(SYSTEM).is_some_and(|it| it.is_empty() || it.starts_with('/'));
    links::check(factory).is_ok()
        && factory.len() > 1
        && !is_system
        && !factory.contains(':')
        && factory.split('/').all(|part| !links::UTILITIES.contains(&part))
}

/// A service made of a definition.
pub(crate) struct Kind {
    spec: Spec,
    validator: Validator,
    /// Values for fields that a new state does not have.
    defaults: Map<String, Value>,
    /// Fields that are set when a document is made, and never change.
    fixed: BTreeSet<String>,
}

impl Kind {
    /// # Errors
    /// What is wrong with the definition, with the name of the part.
    pub(crate) fn of(definition: &Map<String, Value>) -> Result<Self, Problem> {
        let unknown = definition
            .keys()
            .find(|name| !KNOWN.contains(&name.as_str()) && !name.starts_with("document"));
        if let Some(unknown) = unknown {
            let text =
                format!("a definition has no field '{unknown}'; it has {}", KNOWN.join(", "));
            return Err(Problem::new(Code::BadBody, text));
        }
        let factory = text(definition, "link")?.ok_or_else(|| {
            Problem::bad_request("link is required: where the documents are, such as /app/seats")
        })?;
        if !may_be_defined(&factory) {
            return Err(Problem::new(
                Code::BadLink,
                format!(
                    "link is '{factory}'; it must be a path such as /app/seats, not under {SYSTEM}, \
                     without ':' and without a part named {}",
                    links::UTILITIES.join(", ")
                ),
            ));
        }
        let kind = text(definition, "kind")?.unwrap_or_else(|| kind_name(&factory));
        let schema = match definition.get("schema") {
            None => json!({"type": "object"}),
            Some(schema @ Value::Object(_)) => schema.clone(),
            Some(other) => return Err(wrong("schema", other, "a JSON Schema, which is an object")),
        };
        let mut spec = Spec::new(factory, kind);
        if let Some(documentation) = text(definition, "documentation")? {
            spec = spec.about(documentation);
        }
        for option in words(definition, "options")? {
            let known = OPTIONS.into_iter().find(|known| known.name() == option);
            let known = known.ok_or_else(|| {
                let names: Vec<&str> = OPTIONS.into_iter().map(ServiceOption::name).collect();
                let text = format!("options has '{option}'; it may have {}", names.join(", "));
                Problem::bad_request(text)
            })?;
            spec = spec.option(known);
        }
        let limit = number(definition, "retentionLimit", 1..=1_000_000)?;
        let limit = limit.unwrap_or_else(|| u64::from(spec.retention_limit));
        let floor = number(definition, "retentionFloor", 1..=limit)?;
        let floor = floor.unwrap_or_else(|| limit.div_ceil(2));
        let small = |number: u64| u32::try_from(number).expect("it is at most a million");
        spec = spec.retention(small(limit), small(floor));
        let seconds = number(definition, "expiresAfterSeconds", 1..=3_153_600_000)?;
        if let Some(seconds) = seconds {
            spec = spec.expires_after(seconds * 1_000_000);
        }
        let merged = words(definition, "merge")?;
        let (fields, defaults, fixed) = fields_of(&schema, &merged)?;
        spec.fields = fields;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| {
                let text =
                    format!("schema is no JSON Schema at '{}': {error}", error.instance_path());
                Problem::bad_request(text)
            })?;
        Ok(Self { spec, validator, defaults, fixed })
    }

    /// # Errors
    /// The first three things that the schema does not allow, each with its place.
    fn check(&self, state: &Map<String, Value>) -> Result<(), Problem> {
        let state = Value::Object(state.clone());
        let mut errors = self.validator.iter_errors(&state).map(|error| {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "the document".to_owned() } else { format!("'{at}'") };
            format!("{at}: {error}")
        });
        let first: Vec<String> = errors.by_ref().take(3).collect();
        if first.is_empty() {
            return Ok(());
        }
        let more = if errors.next().is_some() { "; and more" } else { "" };
        let text = format!("{} does not allow this: {}{more}", self.spec.factory, first.join("; "));
        Err(Problem::bad_request(text))
    }

    fn check_fixed(
        &self,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) -> Result<(), Problem> {
        match self.fixed.iter().find(|name| before.get(*name) != after.get(*name)) {
            None => Ok(()),
            Some(name) => Err(Problem::bad_request(format!(
                "{name} is readOnly: it is set when a document is made, and does not change"
            ))),
        }
    }

    fn with_defaults(&self, state: &mut Map<String, Value>) {
        for (name, value) in &self.defaults {
            state.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }
}

impl Service for Kind {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        self.spec.clone()
    }

    fn create(&self, _: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        self.with_defaults(state);
        self.check(state)
    }

    fn put(
        &self,
        _: &mut Context<'_>,
        current: &Self::State,
        mut new: Self::State,
    ) -> Result<Self::State, Problem> {
        self.with_defaults(&mut new);
        self.check_fixed(current, &new)?;
        self.check(&new)?;
        Ok(new)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        patch: &Patch,
    ) -> Result<Self::State, Problem> {
        let new = context.merge(current, patch)?;
        self.check_fixed(current, &new)?;
        self.check(&new)?;
        Ok(new)
    }
}

/// What the schema says of the fields, for `/template`, for merging and for the checks that each
/// service has.
#[expect(clippy::type_complexity, reason = "three things that one walk finds")]
fn fields_of(
    schema: &Value,
    merged: &[String],
) -> Result<(Vec<Field>, Map<String, Value>, BTreeSet<String>), Problem> {
    let (mut fields, mut defaults, mut fixed) = (Vec::new(), Map::new(), BTreeSet::new());
    let properties = schema["properties"].as_object();
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    for (name, about) in properties.into_iter().flatten() {
        if name.starts_with("document") {
            return Err(Problem::bad_request(format!(
                "schema has a field '{name}': names that begin with 'document' are the system's"
            )));
        }
        let mut field = Field::new(name, type_of(&about["type"]));
        field.merge = merged.contains(name);
        field.required = required.contains(&name.as_str()) && about.get("default").is_none();
        if let Some(text) = about["description"].as_str() {
            field = field.about(text);
        }
        if let Some(example) = about["examples"].get(0) {
            field = field.example(example.clone());
        }
        if about["readOnly"] == true {
            fixed.insert(name.clone());
        }
        if let Some(default) = about.get("default") {
            defaults.insert(name.clone(), default.clone());
        }
        fields.push(field);
    }
    let nowhere = merged.iter().find(|name| !fields.iter().any(|field| field.name == **name));
    match nowhere {
        None => Ok((fields, defaults, fixed)),
        Some(name) => Err(Problem::bad_request(format!(
            "merge has '{name}', which is not among the properties of the schema"
        ))),
    }
}

/// The schema itself says what is allowed: here a type is told only where there is just one.
fn type_of(name: &Value) -> FieldType {
    match name.as_str() {
        Some("integer") => FieldType::Long,
        Some("number") => FieldType::Double,
        Some("string") => FieldType::String,
        Some("boolean") => FieldType::Boolean,
        Some("object") => FieldType::Map,
        Some("array") => FieldType::Collection,
        _ => FieldType::Any,
    }
}

fn wrong(name: &str, value: &Value, wanted: &str) -> Problem {
    Problem::bad_request(format!("{name} is {value}; it must be {wanted}"))
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(other) => Err(wrong(name, other, "a text that is not empty")),
    }
}

fn words(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, Problem> {
    let wanted = "a list of texts";
    match fields.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(name, item, wanted)))
            .collect(),
        Some(other) => Err(wrong(name, other, wanted)),
    }
}

fn number(
    fields: &Map<String, Value>,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let wanted = format!("a whole number from {} to {}", range.start(), range.end());
                Err(wrong(name, value, &wanted))
            }
        },
    }
}

/// The service of the definitions.
pub(crate) struct Kinds;

impl Kinds {
    fn check(context: &Context<'_>, state: &mut Map<String, Value>) -> Result<(), Problem> {
        let kind = Kind::of(state)?;
        state.insert("kind".into(), kind.spec.kind.clone().into());
        let expected = format!("{KINDS}/{}", kind_name(&kind.spec.factory));
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
        let text = |name: &str| Field::new(name, FieldType::String);
        let list = |name: &str| Field::new(name, FieldType::Collection);
        let number = |name: &str| Field::new(name, FieldType::Long);
        Spec::new(KINDS, "amrita:KindState")
            .about("Kinds of documents that are defined while the cluster runs.")
            .state_bytes_max(KIND_BYTES_MAX)
            .field(text("link").required().about("The factory.").example("/app/seats"))
            .field(
                text("kind").about("documentKind of the documents; made of the link if not said."),
            )
            .field(text("documentation").about("One sentence for people."))
            .field(Field::new("schema", FieldType::Object).about("JSON Schema of a state."))
            .field(list("options").about("IDEMPOTENT_POST, STRICT_UPDATE_CHECKING, IMMUTABLE."))
            .field(list("merge").about("Fields that a PATCH unites with what is there."))
            .field(number("retentionLimit").about("How many versions are kept at most."))
            .field(number("retentionFloor").about("How many stay when old ones go."))
            .field(number("expiresAfterSeconds").about("How long a new document lives."))
    }

    fn create(&self, context: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        Self::check(context, state)
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        _: &Self::State,
        mut new: Self::State,
    ) -> Result<Self::State, Problem> {
        Self::check(context, &mut new)?;
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
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Moment, Term};

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not an object: {value}") };
        fields
    }

    fn seats() -> Map<String, Value> {
        fields(json!({
            "link": "/app/seats",
            "options": ["STRICT_UPDATE_CHECKING"],
            "merge": ["tags"],
            "retentionLimit": 10,
            "expiresAfterSeconds": 60,
            "schema": {
                "type": "object",
                "required": ["row"],
                "properties": {
                    "row": {"type": "string", "readOnly": true, "pattern": "^[A-Z]$"},
                    "price": {"type": "number", "minimum": 0, "default": 10},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "additionalProperties": false,
            },
        }))
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
        }
    }

    #[test]
    fn a_definition_becomes_a_service() {
        let kind = Kind::of(&seats()).unwrap();
        let spec = kind.spec();
        assert_eq!((spec.factory.as_str(), spec.kind.as_str()), ("/app/seats", "app:seats"));
        assert!(spec.has(ServiceOption::StrictUpdate));
        assert_eq!((spec.retention_limit, spec.retention_floor), (10, 5));
        assert_eq!(spec.expiration_micros, 60_000_000);
        assert!(spec.field_named("row").unwrap().required);
        assert!(spec.field_named("tags").unwrap().merge);
        assert_eq!(spec.field_named("price").unwrap().field_type, FieldType::Double);
    }

    #[test]
    fn what_the_schema_does_not_allow_is_named_with_its_place() {
        let kind = Kind::of(&seats()).unwrap();
        let spec = kind.spec();
        let mut context = context(&spec, "/app/seats/A");
        let mut state = fields(json!({"row": "A"}));
        kind.create(&mut context, &mut state).unwrap();
        assert_eq!(state["price"], 10);
        for (wrong, why) in [
            (json!({"row": "a"}), "'/row'"),
            (json!({"row": "A", "price": -1}), "'/price': -1 is less than the minimum of 0"),
            (json!({"row": "A", "tags": ["a", 5]}), "'/tags/1'"),
            (json!({"row": "A", "colour": 1}), "'colour' was unexpected"),
            (json!({}), "\"row\" is a required property"),
        ] {
            let problem = kind.create(&mut context, &mut fields(wrong)).unwrap_err();
            assert!(problem.message.contains(why), "{why}: {}", problem.message);
            assert_eq!(problem.status(), 400);
        }
        let other = fields(json!({"row": "B"}));
        let problem = kind.put(&mut context, &state, other).unwrap_err();
        assert!(problem.message.starts_with("row is readOnly"), "{}", problem.message);
    }

    #[test]
    fn a_wrong_definition_is_refused_with_the_name_of_its_part() {
        for (part, value, why) in [
            ("colour", json!(1), "a definition has no field 'colour'"),
            ("link", json!("/core/seats"), "link is '/core/seats'"),
            ("link", json!("seats"), "link is 'seats'"),
            ("link", json!("/app/a:b"), "link is '/app/a:b'"),
            ("link", json!("/app/stats"), "link is '/app/stats'"),
            ("link", Value::Null, "link is required"),
            ("schema", json!("text"), "schema is \"text\""),
            ("schema", json!({"type": "objct"}), "schema is no JSON Schema at '/type'"),
            ("schema", json!({"properties": {"a": {"pattern": "("}}}), "schema is no JSON Schema"),
            ("schema", json!({"$ref": "http://example.com/x"}), "schema is no JSON Schema"),
            ("schema", json!({"properties": {"documentX": {}}}), "schema has a field 'documentX'"),
            ("options", json!(["FAST"]), "options has 'FAST'"),
            ("merge", json!(["nothing"]), "merge has 'nothing'"),
            ("retentionLimit", json!(0), "retentionLimit is 0"),
            ("expiresAfterSeconds", json!("x"), "expiresAfterSeconds is \"x\""),
        ] {
            let mut definition = seats();
            if part == "schema" {
                definition.remove("merge");
            }
            definition.insert(part.into(), value);
            let problem = Kind::of(&definition).err().expect(why);
            assert!(problem.message.starts_with(why), "{why}: {}", problem.message);
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
    fn the_system_keeps_its_names() {
        for yes in ["/app/seats", "/a", "/corey/x", "/app/deep/er"] {
            assert!(may_be_defined(yes), "{yes}");
        }
        for no in ["", "/", "/core", "/core/x", "app", "/app/", "/app/a:b", "/app/config"] {
            assert!(!may_be_defined(no), "{no}");
        }
    }
}
