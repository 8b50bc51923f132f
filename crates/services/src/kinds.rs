//! Kinds of documents that are defined while the cluster runs: by a document that names a factory
//! and has a JSON Schema for its states. No program is built for them.
//!
//! A definition is a document as any other: replicated, with versions, watched and found by
//! queries. Each node follows the definitions in its own replicas, and makes a service of each
//! ([`crate::Catalogue::define`]).

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::{PatternOptions, Validator};
use protocol::links::{KINDS, kind_name};
use protocol::{Code, Problem, links};
use serde_json::{Map, Value, json};

use crate::merge::Patch;
use crate::service::{Context, Service};
use crate::spec::{Field, FieldType, ServiceOption, Spec};

/// The largest definition, in bytes.
pub(crate) const KIND_BYTES_MAX: usize = 64 << 10;

/// Names under this are the system's.
const SYSTEM: &str = "/core";

/// What a definition may say.
const KNOWN: [&str; 12] = [
    "link",
    "kind",
    "documentation",
    "schema",
    "options",
    "merge",
    "retentionLimit",
    "retentionFloor",
    "expiresAfterSeconds",
    "handlers",
    "actions",
    "version",
];

const OPTIONS: [ServiceOption; 3] =
    [ServiceOption::IdempotentPost, ServiceOption::StrictUpdate, ServiceOption::Immutable];

/// Whether a document is a definition.
pub fn is_kind(link: &str) -> bool {
    link.strip_prefix(KINDS).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether somebody could have defined a factory with that link.
pub fn may_be_defined(factory: &str) -> bool {
    let is_system =
        factory.strip_prefix(SYSTEM).is_some_and(|it| it.is_empty() || it.starts_with('/'));
    links::check(factory).is_ok()
        && factory.len() > 1
        && !is_system
        // Braces are around partition keys, in the names of documents.
        && !factory.contains([':', '{', '}'])
        && factory.split('/').all(|part| !links::UTILITIES.contains(&part))
}

/// A service made of a definition.
pub(crate) struct Kind {
    pub(crate) spec: Spec,
    validator: Validator,
    /// Values for fields that a new state does not have.
    defaults: Defaults,
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
                     without ':' and braces, and without a part named {}",
                    links::UTILITIES.join(", ")
                ),
            ));
        }
        let kind = text(definition, "kind")?.unwrap_or_else(|| kind_name(&factory));
        if kind.chars().any(char::is_whitespace) {
            return Err(wrong("kind", &Value::from(kind), "a name without blanks"));
        }
        let schema = match definition.get("schema") {
            None => json!({"type": "object"}),
            Some(schema @ Value::Object(_)) if may_be_object(schema) => schema.clone(),
            Some(other) => return Err(wrong("schema", other, "a JSON Schema of an object")),
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
        let parts = Parts::of(&schema, &merged)?;
        spec.fields = parts.fields;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| {
                not_a_schema(&error.instance_path().to_string(), &error.to_string())
            })?;
        let kind = Self { spec, validator, defaults: parts.defaults };
        kind.check_defaults()?;
        Ok(kind)
    }

    /// # Errors
    /// The first three things that the schema does not allow, each with its place.
    pub(crate) fn check(&self, state: &Map<String, Value>) -> Result<(), Problem> {
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

    pub(crate) fn fill(&self, state: &mut Map<String, Value>) {
        self.defaults.fill(state);
    }

    /// A default that is not allowed would be found by clients that have not said it.
    fn check_defaults(&self) -> Result<(), Problem> {
        for (name, value) in &self.defaults.values {
            let state = json!({ name: value });
            let place = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let error = self.validator.iter_errors(&state).find(|error| {
                let at = error.instance_path().to_string();
                at == place || at.starts_with(&format!("{place}/"))
            });
            if let Some(error) = error {
                let text = format!("schema has a default for '{name}' that it refuses: {error}");
                return Err(Problem::bad_request(text));
            }
        }
        Ok(())
    }
}

impl Service for Kind {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        self.spec.clone()
    }

    fn create(&self, _: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        self.defaults.fill(state);
        self.check(state)
    }

    fn put(
        &self,
        _: &mut Context<'_>,
        _: &Self::State,
        mut new: Self::State,
    ) -> Result<Self::State, Problem> {
        self.defaults.fill(&mut new);
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
        self.check(&new)?;
        Ok(new)
    }
}

/// Values for the fields of an object that is there, and for objects in it.
#[derive(Default)]
struct Defaults {
    values: Map<String, Value>,
    within: BTreeMap<String, Self>,
}

impl Defaults {
    fn fill(&self, state: &mut Map<String, Value>) {
        for (name, value) in &self.values {
            state.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        for (name, within) in &self.within {
            if let Some(Value::Object(fields)) = state.get_mut(name) {
                within.fill(fields);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.within.is_empty()
    }
}

/// What a schema says of the fields, for `/template`, for merging, for the checks that each service
/// has, and for what a validator does not do: defaults, and fields that do not change.
struct Parts {
    fields: Vec<Field>,
    defaults: Defaults,
}

impl Parts {
    fn of(schema: &Value, merged: &[String]) -> Result<Self, Problem> {
        let whole = properties_of(schema, schema, 0)?;
        let mut fields = Vec::new();
        for (name, about) in &whole.properties {
            if name.starts_with("document") {
                return Err(Problem::bad_request(format!(
                    "schema has a field '{name}': names that begin with 'document' are the system's"
                )));
            }
            let mut field = Field::new(name, type_of(&about["type"]));
            field.merge = merged.contains(name);
            field.required = whole.required.contains(name) && about.get("default").is_none();
            if let Some(text) = about["description"].as_str() {
                field = field.about(text);
            }
            if let Some(example) = about["examples"].get(0) {
                field = field.example(example.clone());
            }
            // What refers to other parts means something in the whole schema only.
            field.schema = (!about.to_string().contains("\"$ref\"")).then(|| about.clone());
            field.fixed = about["readOnly"] == true;
            fields.push(field);
        }
        let is_there = |name: &&String| whole.properties.contains_key(*name);
        if let Some(name) = merged.iter().find(|name| !is_there(name)) {
            return Err(Problem::bad_request(format!(
                "merge has '{name}', which is not among the properties of the schema"
            )));
        }
        let defaults = defaults_of(&whole.properties, schema, 0)?;
        Ok(Self { fields, defaults })
    }
}

/// How deep references and objects in a schema are followed.
const DEPTH_MAX: usize = 16;

/// The properties that an object has by a schema, wherever in it they stand.
#[derive(Default)]
struct Properties {
    properties: BTreeMap<String, Value>,
    required: BTreeSet<String>,
}

/// Follows `$ref` within the schema, and `allOf`. (What stands under `anyOf`, `if` and the like is
/// there only sometimes.)
fn properties_of(schema: &Value, root: &Value, depth: usize) -> Result<Properties, Problem> {
    let mut found = Properties::default();
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let parts = schema["allOf"].as_array().into_iter().flatten();
    for part in referred(schema, root).into_iter().chain(parts) {
        let Properties { properties, required } = properties_of(part, root, depth + 1)?;
        found.properties.extend(properties);
        found.required.extend(required);
    }
    for (name, about) in schema["properties"].as_object().into_iter().flatten() {
        found.properties.insert(name.clone(), with_referred(about, root, depth + 1)?);
    }
    let required = schema["required"].as_array().into_iter().flatten();
    found.required.extend(required.filter_map(Value::as_str).map(str::to_owned));
    Ok(found)
}

fn too_deep() -> Problem {
    Problem::bad_request(format!("schema has references in a circle, or over {DEPTH_MAX} deep"))
}

/// What a schema refers to, if that is in the same document.
fn referred<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root.pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
}

/// The keywords of a property together with those of what it refers to; its own win.
fn with_referred(about: &Value, root: &Value, depth: usize) -> Result<Value, Problem> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let Some(other) = referred(about, root) else { return Ok(about.clone()) };
    let mut whole = with_referred(other, root, depth + 1)?;
    if let (Some(whole), Some(own)) = (whole.as_object_mut(), about.as_object()) {
        let own = own.iter().filter(|(name, _)| *name != "$ref");
        whole.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(whole)
}

fn defaults_of(
    properties: &BTreeMap<String, Value>,
    root: &Value,
    depth: usize,
) -> Result<Defaults, Problem> {
    let mut defaults = Defaults::default();
    for (name, about) in properties {
        // A schema may well be recursive; what is that deep has no defaults.
        let inner = if depth < DEPTH_MAX / 4 { properties_of(about, root, 0)? } else { continue };
        let inner = inner.properties;
        if let Some((field, _)) = inner.iter().find(|(_, about)| about["readOnly"] == true) {
            return Err(Problem::bad_request(format!(
                "schema says readOnly of '{name}/{field}': only a field of the document itself can \
                 be readOnly; say it of '{name}'"
            )));
        }
        let within = defaults_of(&inner, root, depth + 1)?;
        if let Some(default) = about.get("default") {
            let mut default = default.clone();
            if let Value::Object(fields) = &mut default {
                within.fill(fields);
            }
            defaults.values.insert(name.clone(), default);
        }
        if !within.is_empty() {
            defaults.within.insert(name.clone(), within);
        }
    }
    Ok(defaults)
}

fn not_a_schema(place: &str, why: &str) -> Problem {
    let hint = if why.contains("regex") {
        ". Patterns are those of the crate regex: without look-around and references back"
    } else if why.contains("resolve") {
        ". Nothing is fetched: put it under $defs, and refer to it as #/$defs/NAME"
    } else {
        ""
    };
    Problem::bad_request(format!("schema is no JSON Schema at '{place}': {why}{hint}"))
}

/// A state is an object.
fn may_be_object(schema: &Value) -> bool {
    match &schema["type"] {
        Value::String(name) => name == "object" || !TYPES.contains(&name.as_str()),
        Value::Array(names) => names.iter().any(|name| name == "object"),
        _ => true,
    }
}

/// The other types of JSON Schema.
const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "null"];

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

pub(crate) fn wrong(name: &str, value: &Value, wanted: &str) -> Problem {
    Problem::bad_request(format!("{name} is {value}; it must be {wanted}"))
}

pub(crate) fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
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

#[cfg(test)]
mod tests {
    use protocol::{Body, Moment, Term};

    use super::*;
    use crate::Numbers;
    use crate::state::check_fixed;

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
            numbers: Numbers::default(),
            sending: crate::Sending::default(),
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
        let body = |row: Value| Body::from_map(fields(json!({ "row": row })));
        let changed = |from, to| check_fixed(&spec, &body(from), &body(to));
        assert_eq!(changed(json!("A"), json!("A")), Ok(()));
        let problem = changed(json!("A"), json!("B")).unwrap_err();
        assert!(problem.message.starts_with("row is readOnly"), "{}", problem.message);
    }

    /// As generators write them.
    #[test]
    fn defaults_and_fixed_fields_count_wherever_the_schema_says_them() {
        let schemas = [
            json!({"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {
                "a": {"type": "string", "readOnly": true},
                "b": {"type": "integer", "default": 3}}}}}),
            json!({"allOf": [{"properties": {"a": {"readOnly": true}}},
                {"properties": {"b": {"default": 3}}}]}),
            json!({"properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/B"}},
                "$defs": {"A": {"type": "string", "readOnly": true}, "B": {"default": 3}}}),
        ];
        for schema in schemas {
            let kind = Kind::of(&fields(json!({"link": "/app/t", "schema": schema}))).unwrap();
            let spec = kind.spec();
            let mut context = context(&spec, "/app/t/A");
            let mut state = fields(json!({"a": "x"}));
            kind.create(&mut context, &mut state).unwrap();
            assert_eq!(state["b"], 3, "{schema}");
            let body = |a: &str| Body::from_map(fields(json!({ "a": a })));
            assert!(check_fixed(&spec, &body("x"), &body("y")).is_err(), "{schema}");
        }
        let open = json!({"properties": {"open": {"type": "object", "default": {}, "properties": {
            "from": {"default": "06:00"}, "to": {"default": "22:00"}}}}});
        let kind = Kind::of(&fields(json!({"link": "/app/t", "schema": open}))).unwrap();
        let spec = kind.spec();
        for (given, from) in [(json!({}), "06:00"), (json!({"open": {"from": "7"}}), "7")] {
            let mut state = fields(given);
            kind.create(&mut context(&spec, "/app/t/A"), &mut state).unwrap();
            assert_eq!(state["open"], json!({"from": from, "to": "22:00"}));
        }
        let tree = json!({"properties": {"left": {"$ref": "#"}, "name": {"default": "x"}}});
        assert!(Kind::of(&fields(json!({"link": "/app/t", "schema": tree}))).is_ok());
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
            ("schema", json!({"type": "string"}), "schema is {\"type\":\"string\"}"),
            (
                "schema",
                json!({"properties": {"a": {"type": "integer", "default": "x"}}}),
                "schema has a default for 'a' that it refuses",
            ),
            (
                "schema",
                json!({"properties": {"a": {"properties": {"b": {"readOnly": true}}}}}),
                "schema says readOnly of 'a/b'",
            ),
            ("schema", json!({"$ref": "#"}), "schema has references in a circle"),
            ("kind", json!("a b"), "kind is \"a b\""),
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
    fn the_system_keeps_its_names() {
        for yes in ["/app/seats", "/a", "/corey/x", "/app/deep/er"] {
            assert!(may_be_defined(yes), "{yes}");
        }
        for no in ["", "/", "/core", "/core/x", "app", "/app/", "/app/a:b", "/app/config"] {
            assert!(!may_be_defined(no), "{no}");
        }
    }
}
