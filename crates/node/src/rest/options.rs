//! The fields of an instance's body: its name, its ports, its options.

use cluster::InstanceOptions;
use protocol::{Code, Problem};
use serde_json::Value;

use super::plan::check_fields;

pub(super) fn bad(text: &str) -> Problem {
    Problem::new(Code::BadBody, text)
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    if !protocol::is_instance_name(name) {
        return Err(bad(&format!(
            "an instance's name has 1 to {} letters, digits, '-', '_' and '.', and is not '.' or \
             '..'; it cannot be '{name}'",
            protocol::INSTANCE_NAME_BYTES_MAX
        )));
    }
    Ok(())
}

pub(super) fn number(body: &Value, field: &str) -> Result<Option<u64>, Problem> {
    match &body[field] {
        Value::Null => Ok(None),
        value => {
            let found = value.as_u64();
            found
                .map(Some)
                .ok_or_else(|| bad(&format!("'{field}' is a number from 0, not {value}")))
        }
    }
}

pub(super) fn port(body: &Value, field: &str) -> Result<Option<u16>, Problem> {
    let Some(found) = number(body, field)? else { return Ok(None) };
    let port = u16::try_from(found).ok().filter(|port| *port > 0);
    port.map(Some).ok_or_else(|| bad(&format!("'{field}' is a port, 1 to 65535, not {found}")))
}

fn flag(body: &Value, field: &str, into: &mut bool) -> Result<(), Problem> {
    match &body[field] {
        Value::Null => Ok(()),
        Value::Bool(found) => {
            *into = *found;
            Ok(())
        }
        other => Err(bad(&format!("'{field}' is true or false, not {other}"))),
    }
}

/// All fields that an instance's body may have beside its name and its replicas.
pub(super) const OPTIONS: [&str; 9] = [
    "logTriggerBytes",
    "recoveryTargetMillis",
    "programTimeoutMillis",
    "divergenceAlarm",
    "currentVersion",
    "upgradeVersion",
    "activeActive",
    "paused",
    "durability",
];

/// # Errors
/// When the body of a registration has a field that is not known.
pub(super) fn check_registration(body: &Value) -> Result<(), Problem> {
    let mut known = vec!["name", "replicas", "receivePort", "sendPort"];
    known.extend(OPTIONS);
    check_fields(body, "a registration", &known)
}

pub(super) fn change_options(
    mut options: InstanceOptions,
    body: &Value,
) -> Result<InstanceOptions, Problem> {
    if let Some(bytes) = number(body, "logTriggerBytes")? {
        options.checkpoint_bytes = bytes;
    }
    if let Some(millis) = number(body, "recoveryTargetMillis")? {
        options.recovery_micros = millis.saturating_mul(1_000);
    }
    if let Some(millis) = number(body, "programTimeoutMillis")? {
        if millis < 50 {
            return Err(bad("'programTimeoutMillis' is at least 50"));
        }
        options.program_timeout_micros = millis.saturating_mul(1_000);
    }
    if let Some(version) = number(body, "currentVersion")? {
        options.current_version = version;
    }
    if let Some(version) = number(body, "upgradeVersion")? {
        options.upgrade_version = Some(version);
        options.upgrade_wish += 1;
    }
    flag(body, "divergenceAlarm", &mut options.divergence_alarm)?;
    flag(body, "activeActive", &mut options.active_active)?;
    flag(body, "paused", &mut options.paused)?;
    match &body["durability"] {
        Value::Null => {}
        Value::String(text) if text == "disk" => options.memory = false,
        Value::String(text) if text == "memory" => options.memory = true,
        other => return Err(bad(&format!("'durability' is \"disk\" or \"memory\", not {other}"))),
    }
    Ok(options)
}
