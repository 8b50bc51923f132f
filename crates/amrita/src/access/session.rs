//! The tokens of `amrita login`, kept for the next command in a file that only this user reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use client::Client;

use crate::outcome::{Trouble, unreachable};

/// A token for all commands, stronger than what was kept.
const VARIABLE: &str = "AMRITA_TOKEN";

/// File with the authority whose certificates are believed; needed for nodes that speak TLS.
const CA_FILE: &str = "AMRITA_CA_FILE";

/// A client of these nodes that shows nothing.
pub(super) fn stranger<A: AsRef<str>>(addresses: &[A]) -> Result<Client, Trouble> {
    let client = Client::new(addresses).map_err(|error| unreachable(&error))?;
    match std::env::var_os(CA_FILE).filter(|file| !file.is_empty()) {
        Some(file) => client.with_ca_file(Path::new(&file)).map_err(|error| unreachable(&error)),
        None => Ok(client),
    }
}

/// A client of these nodes that shows the token it has for them, if it has one.
pub(crate) fn client_of<A: AsRef<str>>(addresses: &[A]) -> Result<Client, Trouble> {
    let client = stranger(addresses)?;
    let token = match std::env::var(VARIABLE) {
        Ok(token) if !token.is_empty() => Some(token),
        _ => token_for(&client),
    };
    Ok(match token {
        Some(token) => client.with_token(&token),
        None => client,
    })
}

fn token_for(client: &Client) -> Option<String> {
    let kept = read();
    client.addresses().find_map(|address| kept.get(&address.to_string()).cloned())
}

/// Keeps a token for these addresses, or forgets the one that is there.
pub(crate) fn keep(client: &Client, token: Option<&str>) -> Result<(), Trouble> {
    let mut kept = read();
    for address in client.addresses() {
        match token {
            Some(token) => kept.insert(address.to_string(), token.to_owned()),
            None => kept.remove(&address.to_string()),
        };
    }
    let file = file()
        .ok_or("there is no folder for what is kept: set HOME, or AMRITA_TOKEN to the token")?;
    let write = || {
        if let Some(folder) = file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let aside = file.with_extension("new");
        drop(fs::remove_file(&aside));
        let mut options = fs::OpenOptions::new();
        let mut opened = options.write(true).create_new(true).mode(0o600).open(&aside)?;
        opened.write_all(serde_json::to_string(&kept)?.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&aside, &file)
    };
    write()
        .map_err(|error| format!("the token cannot be kept in {}: {error}", file.display()).into())
}

fn read() -> BTreeMap<String, String> {
    let text = file().and_then(|file| fs::read_to_string(file).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn file() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = named("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| named("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(folder.join("amrita").join("session.json"))
}
