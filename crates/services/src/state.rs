//! A state of a service, read from JSON with the wrong field named.

use protocol::{Body, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::lenient::Lenient;
use crate::task::take_out;
use crate::{Numbers, Spec, digits};

/// Reads a state; nulls and built-in fields must be out already, and the types checked. The
/// `numbers` may stand in the fields as texts.
///
/// # Errors
/// `BadBody` that names the field which is not of its type.
pub(crate) fn decode<S: DeserializeOwned>(
    spec: &Spec,
    fields: Map<String, Value>,
    numbers: &Numbers,
) -> Result<S, Problem> {
    let fields = Value::Object(fields);
    S::deserialize(Lenient::new(&fields, numbers)).map_err(|error| {
        let name = wrong_field::<S>(&fields, numbers, &error.to_string());
        match name {
            Some(name) => Problem::bad_body(format!("the field '{name}' is not right: {error}")),
            None => Problem::bad_body(format!("the body is not a state of {}: {error}", spec.kind)),
        }
    })
}

/// # Errors
/// `BadRequest` that names the field which is missing.
pub(crate) fn check_required(spec: &Spec, fields: &Map<String, Value>) -> Result<(), Problem> {
    let missing = spec
        .fields
        .iter()
        .find(|field| field.required && fields.get(&field.name).is_none_or(Value::is_null));
    match missing {
        Some(field) => Err(Problem::bad_request(format!("{} is required", field.name))),
        None => Ok(()),
    }
}

/// Compares what is stored: numbers that are one in a handler may be two there.
///
/// # Errors
/// `BadRequest` that names the field which is set when a document is made, and would change.
pub(crate) fn check_fixed(spec: &Spec, before: &Body, after: &Body) -> Result<(), Problem> {
    let mut fixed = spec.fields.iter().filter(|field| field.fixed);
    match fixed.find(|field| !digits::have_the_same(before, after, &field.name)) {
        None => Ok(()),
        Some(field) => Err(Problem::bad_request(format!(
            "{} is readOnly: it is set when a document is made, and does not change",
            field.name
        ))),
    }
}

/// # Errors
/// `BadBody` that names the field which is not of the type that the service declared.
pub(crate) fn check_types(spec: &Spec, fields: &Map<String, Value>) -> Result<(), Problem> {
    for (name, value) in fields {
        let Some(field) = spec.field_named(name) else { continue };
        if !field.field_type.allows(value) {
            return Err(Problem::bad_body(format!(
                "the field '{name}' must be of type {}, not {}",
                field.field_type.name(),
                shorten(value)
            )));
        }
    }
    Ok(())
}

/// The stored body as a state.
///
/// # Errors
/// When it was stored by another version of the service that this one cannot read.
pub(crate) fn stored<S: DeserializeOwned>(spec: &Spec, body: &Body) -> Result<S, Problem> {
    if !spec.is_task
        && let Ok(state) = serde_json::from_slice(body.as_bytes())
    {
        return Ok(state);
    }
    let mut fields = body.to_map();
    if spec.is_task {
        take_out(&mut fields);
    }
    S::deserialize(Value::Object(fields)).map_err(|error| {
        Problem::internal(format!(
            "the stored state of a {} cannot be read by this version of the service: {error}",
            spec.kind
        ))
    })
}

/// The field without which the state could be read, or would fail otherwise.
fn wrong_field<S: DeserializeOwned>(
    fields: &Value,
    numbers: &Numbers,
    error: &str,
) -> Option<String> {
    let fields = fields.as_object()?;
    fields.keys().find_map(|name| {
        let mut without = fields.clone();
        without.remove(name);
        let differs = match S::deserialize(Lenient::new(&Value::Object(without), numbers)) {
            Ok(_) => true,
            Err(other) => other.to_string() != error,
        };
        differs.then(|| name.clone())
    })
}

/// A value as it is shown in a message.
pub(crate) fn shorten(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}...")
}
