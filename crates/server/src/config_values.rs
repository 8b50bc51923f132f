//! Values of settings, read from text.

use crate::config::{LogFormat, MachineUsers};
use protocol::node_group::{ASKING, EXPLAIN};

/// The longest node id, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Ids that could not be addressed below `/core/node-groups/default`, and why.
const TAKEN_IDS: [(&str, &str); 4] = [
    (".", "clients take it for the path above"),
    ("..", "clients take it for the path above"),
    (EXPLAIN, "it is where the cluster is explained"),
    (ASKING, "it is where nodes ask to be let in"),
];

pub(crate) fn number<N: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<N, String> {
    let wrong = || format!("'{text}' is not a number from {min} to {max}");
    let value: u64 = text.trim().parse().map_err(|_| wrong())?;
    if value < min || value > max {
        return Err(wrong());
    }
    N::try_from(value).map_err(|_| wrong())
}

pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

pub(crate) fn list<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse).collect()
}

pub(crate) fn join_token(text: &str) -> Result<access::JoinToken, String> {
    let Some(file) = text.strip_prefix('@') else { return access::JoinToken::parse(text) };
    let text = std::fs::read_to_string(file);
    access::JoinToken::parse(&text.map_err(|error| format!("{file} cannot be read: {error}"))?)
}

pub(crate) fn machine_users(text: &str) -> Result<MachineUsers, String> {
    if text.trim() == "*" {
        return Ok(MachineUsers::All);
    }
    list(text, |text| number(text, 0, u64::from(u32::MAX))).map(MachineUsers::These)
}

pub(crate) fn yes(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    }
}

pub(crate) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

pub(crate) fn host_name(text: &str) -> Result<String, String> {
    if text != "*" && text.contains(['/', ':', '*', ' ']) {
        return Err(format!("'{text}' is not a name alone; write it without scheme and port"));
    }
    Ok(text.to_ascii_lowercase())
}

/// A host, with a port or without, or an address with its scheme.
pub(crate) fn callback(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!("'{text}' stands for several; name each host that may be told"));
    }
    protocol::Address::parse(text).map(|_| text.to_ascii_lowercase())
}

pub(crate) fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_origin = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '*', ' ']));
    if text != "*" && !is_origin {
        return Err(format!(
            "'{text}' is not an origin; write it as https://host or http://host:1"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(crate) fn node_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > ID_BYTES_MAX || !text.chars().all(plain) {
        return Err(format!(
            "'{text}' is not a node id; use 1 to {ID_BYTES_MAX} letters, digits, '-', '_' and '.'"
        ));
    }
    if let Some((_, why)) = TAKEN_IDS.into_iter().find(|(id, _)| *id == text) {
        return Err(format!("'{text}' cannot be a node id: {why}; choose another"));
    }
    Ok(text.into())
}

/// A text that says something.
pub(crate) fn some(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.trim().to_owned())
}

/// Sets what may be left out.
pub(crate) fn put<T>(place: &mut Option<T>, read: Result<T, String>) -> Result<(), String> {
    *place = Some(read?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_that_could_not_be_addressed_is_refused() {
        for id in [".", "..", "explain", "asking"] {
            let why = node_id(id).unwrap_err();
            assert!(why.contains(&format!("'{id}' cannot be a node id")), "{why}");
        }
        for id in ["n1", "...", "explain-1", ".hidden"] {
            assert_eq!(node_id(id), Ok(id.to_owned()));
        }
    }
}
