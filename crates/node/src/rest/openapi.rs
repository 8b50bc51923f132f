//! `/core/openapi.json`: an OpenAPI 3.1 description of all paths, of those of the system and of all
//! kinds that there are at the moment. It is made of the table in `surface`, so it cannot tell
//! something else than what is checked.

use std::collections::BTreeMap;

use access::Needs;
use protocol::{BATCH_LINK, BATCH_REQUESTS_MAX, Method, Response};
use serde_json::{Map, Value, json};
use services::{Catalogue, Field, FieldType, ServiceOption, Spec};

use super::surface::{Header, Resource, SURFACE, Verb};

/// The version of the specification that it follows.
const OPENAPI: &str = "3.1.1";

/// What a reader is told first.
const DESCRIPTION: &str = "Documents, tasks and immortals of a cluster. Any node answers. A \
    parameter, a header, a pragma or a field that is not understood is refused by name. The name \
    of a parameter may begin with '$'.";

/// What stands for a name in the paths of the table, and its name here.
const PLACEHOLDERS: [(&str, &str); 7] = [
    ("NAME", "name"),
    ("NODE", "node"),
    ("TOKEN", "token"),
    ("ID", "id"),
    ("GROUP", "group"),
    ("KIND", "kind"),
    ("ACTION", "action"),
];

/// In the table, the link of any factory.
const FACTORY: &str = "FACTORY";

/// In the table, any path below.
const BELOW: &str = "...";

pub(super) fn answer(catalogue: &Catalogue) -> Response {
    Response::json(200, &description(catalogue))
}

fn description(catalogue: &Catalogue) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let fixed: Vec<String> = SURFACE.into_iter().flat_map(places).collect();
    for resource in SURFACE {
        for place in places(resource) {
            if !place.starts_with(FACTORY) {
                describe(&place, resource, None, catalogue, &mut paths);
                continue;
            }
            for spec in catalogue.specs() {
                let path = place.replacen(FACTORY, &spec.factory, 1);
                if !fixed.contains(&path) {
                    describe(&path, resource, Some(spec), catalogue, &mut paths);
                }
            }
        }
    }
    let mut schemas = common_schemas();
    for spec in catalogue.specs() {
        schemas.insert(schema_name(spec), schema_of(spec));
    }
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Amrita",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
            "description": DESCRIPTION,
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "token": { "type": "apiKey", "in": "header", "name": "x-xenon-auth-token" },
                "cookie": { "type": "apiKey", "in": "cookie", "name": "xenon-auth-cookie" },
            },
        },
        // Of these one is enough. On loopback no login is needed, unless it is asked for.
        "security": [{}, { "bearer": [] }, { "token": [] }, { "cookie": [] }],
    })
}

/// The paths of a row of the table, which may leave out what they have in common:
/// `/a/b, c` are `/a/b` and `/a/c`.
fn places(resource: &Resource) -> Vec<String> {
    let mut parts = resource.path.split(", ");
    let first = parts.next().expect("a text has a first part");
    let within = first.rsplit_once('/').map_or("", |(within, _)| within);
    let is_whole = |part: &str| part.starts_with('/') || part.starts_with(FACTORY);
    let whole = |part: &str| match is_whole(part) {
        true => part.to_owned(),
        false => format!("{within}/{part}"),
    };
    std::iter::once(first.to_owned()).chain(parts.map(whole)).collect()
}

fn describe(
    path: &str,
    resource: &'static Resource,
    spec: Option<&Spec>,
    catalogue: &Catalogue,
    paths: &mut BTreeMap<String, Map<String, Value>>,
) {
    let (shown, names) = with_names(path);
    let item = paths.entry(shown.clone()).or_default();
    if !names.is_empty() {
        let parameters = names.iter().map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
        item.insert("parameters".into(), parameters.collect());
    }
    for verb in resource.verbs_at(path, catalogue) {
        let name = verb.method.name().to_ascii_lowercase();
        item.insert(name, operation(&shown, verb, spec));
    }
}

/// `/core/immortals/NAME` as `/core/immortals/{name}`, and the names.
fn with_names(path: &str) -> (String, Vec<&'static str>) {
    let mut names = Vec::new();
    let parts = path.split('/').map(|part| {
        let found = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == part);
        let name = match found {
            Some((_, name)) => name,
            None if part == BELOW => "below",
            None => return part.to_owned(),
        };
        names.push(name);
        format!("{{{name}}}")
    });
    let shown = parts.collect::<Vec<_>>().join("/");
    (shown, names)
}

fn operation(path: &str, verb: &Verb, spec: Option<&Spec>) -> Value {
    let id: String =
        path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut operation = json!({
        "operationId": format!("{}{id}", verb.method.name().to_ascii_lowercase()),
        "summary": verb.does,
        "parameters": parameters(verb),
        "responses": {
            "2XX": { "$ref": format!("#/components/responses/{}", answered(path, verb, spec)) },
            "304": { "description": "If-None-Match names what is there" },
            "default": { "$ref": "#/components/responses/Error" },
        },
    });
    if let Some(spec) = spec {
        operation["tags"] = json!([spec.factory]);
        if answered(path, verb, Some(spec)) == "Answer" && is_document(path, verb, spec) {
            operation["responses"]["2XX"] = json!({
                "description": "The document",
                "content": json_content(&reference(spec)),
            });
        }
    }
    if let Some(body) = body(path, verb, spec) {
        operation["requestBody"] = body;
    }
    match verb.needs {
        Needs::Nothing => operation["security"] = json!([{}]),
        Needs::Link => operation["description"] = "only for nodes of the cluster".into(),
        Needs::Login | Needs::Right | Needs::Document | Needs::Filtered => {}
    }
    operation
}

/// Of a kind's paths, those that are answered with a document of it.
fn is_document(path: &str, verb: &Verb, spec: &Spec) -> bool {
    let of_document = path == format!("{}/{{name}}", spec.factory);
    let is_made = path == spec.factory && verb.method == Method::Post;
    is_made || (of_document && verb.method != Method::Delete)
}

fn answered(path: &str, verb: &Verb, spec: Option<&Spec>) -> &'static str {
    match path {
        "/metrics" => "Text",
        _ if spec.is_some_and(|spec| spec.factory == path) && verb.method == Method::Get => "List",
        _ => "Answer",
    }
}

fn parameters(verb: &Verb) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let mut parameters: Vec<Value> = verb
        .parameters
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": text }))
        .collect();
    for header in verb.headers {
        let about = match header {
            Header::IfMatch => "only if the ETag is one of these",
            Header::IfNoneMatch => "only if the ETag is none of these",
            Header::Quorum => "how many replicas must have it on disk, or x-xenon-all",
            Header::Key => "a key of your own: a repetition with it is done once",
        };
        parameters.push(json!({
            "name": header.name(), "in": "header", "description": about, "schema": text,
        }));
    }
    if !verb.pragmas.is_empty() {
        let about = format!("one or several of {}, with commas", verb.pragmas.join(", "));
        parameters.push(json!({
            "name": "Pragma", "in": "header", "description": about, "schema": text,
        }));
    }
    parameters
}

fn body(path: &str, verb: &Verb, spec: Option<&Spec>) -> Option<Value> {
    if matches!(verb.method, Method::Get | Method::Delete | Method::Options) {
        return None;
    }
    let object = json!({ "type": "object" });
    let schema = match (spec, verb.method) {
        (Some(spec), Method::Post | Method::Put) if is_document(path, verb, spec) => {
            reference(spec)
        }
        _ if path == BATCH_LINK => json!({ "$ref": "#/components/schemas/Batch" }),
        _ => object.clone(),
    };
    let mut content = json_content(&schema);
    if verb.method == Method::Patch && spec.is_some_and(|spec| is_document(path, verb, spec)) {
        content["application/merge-patch+json"] = json!({ "schema": object });
    }
    // An action without anything to say may leave it out.
    let of_document = spec.is_some_and(|spec| is_document(path, verb, spec));
    let is_required = of_document || path == BATCH_LINK;
    Some(json!({ "required": is_required, "content": content }))
}

fn json_content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn reference(spec: &Spec) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", schema_name(spec)) })
}

/// The link of the factory, as far as a name of a component may have its characters.
fn schema_name(spec: &Spec) -> String {
    // The others are written as numbers, so that two links have two names.
    let is_named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name: Vec<String> = spec
        .factory
        .trim_start_matches('/')
        .chars()
        .map(|c| match c {
            '/' => ".".to_owned(),
            c if is_named(c) => c.to_string(),
            c => format!("-{:x}-", u32::from(c)),
        })
        .collect();
    name.concat()
}

/// The fields of a kind, those that the system gives included.
fn schema_of(spec: &Spec) -> Value {
    let mut properties: Map<String, Value> =
        spec.fields.iter().map(|field| (field.name.clone(), schema_of_field(field))).collect();
    if spec.is_task {
        let control = |what: &str| json!({ "type": "boolean", "description": what });
        let info = json!({
            "type": ["object", "null"],
            "properties": {
                "held": control("In a PATCH of its own: hold the task (true), release it (false)"),
                "retry": control("In a PATCH of its own: try now what waits for its next attempt"),
                "skip": control("In a PATCH of its own: give up what is not answered of the step"),
            },
        });
        properties.insert("taskInfo".into(), info);
    }
    let required: Vec<&str> = spec
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name.as_str())
        .collect();
    let mut strict = String::new();
    if spec.has(ServiceOption::StrictUpdate) {
        strict.push_str(" PUT and PATCH must have the documentVersion that is there.");
    }
    json!({
        "description": format!("{}{strict}", spec.documentation),
        "allOf": [{ "$ref": "#/components/schemas/Document" }],
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn schema_of_field(field: &Field) -> Value {
    if let Some(schema) = &field.schema {
        let mut schema = schema.clone();
        without_read_only(&mut schema);
        if field.fixed {
            schema[FIXED] = true.into();
        }
        return schema;
    }
    let mut schema = Map::new();
    let name = match field.field_type {
        FieldType::Long => Some("integer"),
        FieldType::Double => Some("number"),
        FieldType::String | FieldType::Enum => Some("string"),
        FieldType::Boolean => Some("boolean"),
        FieldType::Object | FieldType::Map => Some("object"),
        FieldType::Collection => Some("array"),
        FieldType::Any => None,
    };
    if let Some(name) = name {
        // A field that may be left out may be null as well.
        let types = if field.required { json!(name) } else { json!([name, "null"]) };
        schema.insert("type".into(), types);
    }
    if !field.documentation.is_empty() {
        schema.insert("description".into(), field.documentation.clone().into());
    }
    if let Some(example) = &field.example {
        schema.insert("examples".into(), json!([example]));
    }
    if field.internal {
        schema.insert("readOnly".into(), true.into());
    }
    Value::Object(schema)
}

/// A field that is set when a document is made, and does not change from then on. A definition says
/// `readOnly` of it, which in OpenAPI means that a client does not send it at all.
const FIXED: &str = "x-amrita-fixed";

fn without_read_only(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.retain(|name, value| name != "readOnly" || !value.is_boolean());
            // What stands under these are values, and no schemas.
            let is_schema = |name: &str| !["default", "examples", "enum", "const"].contains(&name);
            let within = keywords.iter_mut().filter(|(name, _)| is_schema(name));
            within.for_each(|(_, value)| without_read_only(value));
        }
        Value::Array(items) => items.iter_mut().for_each(without_read_only),
        _ => {}
    }
}

/// The body of a batch.
fn schema_of_batch() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["requests"],
        "properties": {
            "requests": {
                "type": "array",
                "minItems": 1,
                "maxItems": BATCH_REQUESTS_MAX,
                "items": {
                    "type": "object",
                    "required": ["method", "path"],
                    "properties": {
                        "method": { "enum": ["POST", "PUT", "PATCH", "DELETE"] },
                        "path": text,
                        "body": { "type": "object" },
                        "ifMatch": text,
                        "ifNoneMatch": text,
                        "idempotencyKey": text,
                        "contentType": {
                            "enum": ["application/json", "application/merge-patch+json"],
                        },
                        "pragma": text,
                    },
                },
            },
            "atomic": { "enum": ["partition", "all"] },
        },
    })
}

fn common_schemas() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer" });
    let schemas = json!({
        "Error": {
            "type": "object",
            "required": ["message", "statusCode", "code"],
            "properties": {
                "message": text,
                "statusCode": number,
                "code": text,
                "outcome": {
                    "enum": ["notApplied", "unknown"],
                    "description": "of a write: whether it was done",
                },
            },
        },
        "Batch": schema_of_batch(),
        "Document": {
            "type": "object",
            "properties": {
                "documentSelfLink": text,
                "documentKind": text,
                "documentVersion": number,
                "documentEpoch": number,
                "documentUpdateTimeMicros": number,
                "documentExpirationTimeMicros": number,
                "documentUpdateAction": text,
                "documentOwner": { "type": ["string", "null"] },
            },
        },
        "List": {
            "type": "object",
            "required": ["documentLinks"],
            "properties": {
                "documentLinks": { "type": "array", "items": text },
                "documentCount": number,
                "documents": { "type": "object" },
                "nextPageLink": text,
                "prevPageLink": text,
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => unreachable!("it is an object"),
    }
}

fn responses() -> Value {
    let of = |about: &str, schema: &str| {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        json!({ "description": about, "content": json_content(&schema) })
    };
    json!({
        "Error": of("It was refused, or failed: the message says why", "Error"),
        "List": of("The links, and the documents when asked for", "List"),
        "Answer": { "description": "It was done, or is told" },
        "Text": {
            "description": "Text for Prometheus",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn catalogue() -> Catalogue {
        super::super::world::catalogue()
    }

    /// All `$ref`s anywhere in it.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "$ref" {
                        found.insert(value.as_str().expect("a reference is a text").to_owned());
                    }
                    references(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn it_has_each_verb_of_the_table_once_and_its_references_lead_somewhere() {
        let described = description(&catalogue());
        let paths = described["paths"].as_object().unwrap();
        let mut ids = BTreeSet::new();
        for (path, item) in paths {
            let names = path.matches('{').count();
            let parameters = item.get("parameters").and_then(Value::as_array);
            assert_eq!(parameters.map_or(0, Vec::len), names, "{path}");
            for (verb, operation) in item.as_object().unwrap() {
                if verb != "parameters" {
                    let id = operation["operationId"].as_str().unwrap();
                    assert!(ids.insert(id.to_owned()), "{id} stands for two operations");
                }
            }
        }
        for resource in SURFACE {
            for place in places(resource) {
                let (path, _) = with_names(&place.replace(FACTORY, "/core/things"));
                for verb in resource.verbs {
                    let name = verb.method.name().to_ascii_lowercase();
                    assert!(paths[&path].get(&name).is_some(), "{name} {path}");
                }
            }
        }
        let mut found = BTreeSet::new();
        references(&described, &mut found);
        assert!(found.contains("#/components/schemas/core.things"), "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(described.pointer(pointer).is_some(), "{reference}");
        }
    }

    /// In OpenAPI `readOnly` says that a client does not send a field, and generated clients do
    /// not.
    #[test]
    fn a_field_that_is_set_once_is_one_that_clients_send() {
        let about: Value = serde_json::json!({
            "type": "string",
            "readOnly": true,
            "default": { "readOnly": true },
            "anyOf": [{ "readOnly": true, "minLength": 1 }],
        });
        let mut field = Field::new("row", FieldType::String);
        (field.fixed, field.schema) = (true, Some(about));
        let expected = serde_json::json!({
            "type": "string",
            "default": { "readOnly": true },
            "anyOf": [{ "minLength": 1 }],
            "x-amrita-fixed": true,
        });
        assert_eq!(schema_of_field(&field), expected);
    }

    #[test]
    fn the_paths_of_a_row_may_leave_out_what_they_share() {
        let resource = |path| Resource { path, verbs: &[] };
        assert_eq!(places(&resource("/a/NAME/x, y")), ["/a/NAME/x", "/a/NAME/y"]);
        assert_eq!(places(&resource("/livez, /readyz")), ["/livez", "/readyz"]);
        assert_eq!(
            with_names("/a/NAME/b/..."),
            ("/a/{name}/b/{below}".into(), vec!["name", "below"])
        );
    }

    #[test]
    fn two_links_have_two_names() {
        let names = ["/a/b", "/a_b", "/a__b", "/a.b", "/a b", "/a-b", "/ä"];
        let names: BTreeSet<String> =
            names.iter().map(|link| schema_name(&Spec::new(*link, "k"))).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        let is_allowed =
            |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        assert!(names.iter().all(is_allowed), "{names:?}");
    }
}
