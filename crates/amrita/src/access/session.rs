//! The sessions of `amrita login`, kept for the next command in a file that only this user reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use client::Client;
use serde::{Deserialize, Serialize};

use crate::arguments::DEFAULT_ADDRESSES;
use crate::outcome::{Trouble, unreachable};

/// A token for all commands, stronger than what was kept.
const VARIABLE: &str = "AMRITA_TOKEN";

/// File with the authority whose certificates are believed, stronger than what was kept.
const CA_FILE: &str = "AMRITA_CA_FILE";

/// What was kept of all logins.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// The addresses of the last login, for commands that name none.
    current: Vec<String>,
    nodes: BTreeMap<String, Session>,
}

/// What is kept for one address.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) token: String,
    /// In PEM: who signs the certificates of these nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authority: Option<String>,
}

impl Kept {
    fn read() -> Self {
        let text = file().and_then(|file| fs::read_to_string(file).ok());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// What is kept for the nodes of a client. A node that nobody has logged in at gets the last
    /// session if that has an authority: only a node of the same cluster is spoken with then.
    fn of(&self, client: &Client) -> Option<&Session> {
        let known = client.addresses().find_map(|address| self.nodes.get(&address.to_string()));
        let is_tls = client.addresses().all(protocol::Address::is_tls);
        let last = self.current.first().and_then(|address| self.nodes.get(address));
        known.or(last.filter(|session| is_tls && session.authority.is_some()))
    }
}

/// The addresses to speak to: those that were named, or those of the last login.
pub(crate) fn chosen(named: &[String]) -> Vec<String> {
    let is_default = named.iter().map(String::as_str).eq(DEFAULT_ADDRESSES.split(','));
    let current = if is_default { Kept::read().current } else { Vec::new() };
    if current.is_empty() { named.to_vec() } else { current }
}

/// The authority that the environment names, in PEM.
pub(super) fn named_authority() -> Result<Option<String>, Trouble> {
    let Some(file) = std::env::var_os(CA_FILE).filter(|file| !file.is_empty()) else {
        return Ok(None);
    };
    let file = PathBuf::from(file);
    let text = fs::read_to_string(&file);
    let wrong = |error| format!("{CA_FILE}: {} cannot be read: {error}", file.display());
    text.map(Some).map_err(|error| wrong(error).into())
}

/// A client of these nodes that shows nothing.
pub(super) fn stranger<A: AsRef<str>>(
    addresses: &[A],
    authority: Option<&str>,
) -> Result<Client, Trouble> {
    let client = Client::new(addresses).map_err(|error| unreachable(&error))?;
    match authority {
        Some(pem) => client.with_ca(pem).map_err(|error| unreachable(&error)),
        None => Ok(client),
    }
}

/// A client of these nodes that shows the token it has for them, if it has one.
pub(crate) fn client_of<A: AsRef<str>>(addresses: &[A]) -> Result<Client, Trouble> {
    let kept = Kept::read();
    let client = Client::new(addresses).map_err(|error| unreachable(&error))?;
    let session = kept.of(&client);
    let authority = named_authority()?;
    let authority = authority.or_else(|| session.and_then(|it| it.authority.clone()));
    let client = stranger(addresses, authority.as_deref())?;
    let token = match std::env::var(VARIABLE) {
        Ok(token) if !token.is_empty() => Some(token),
        _ => session.map(|session| session.token.clone()),
    };
    Ok(match token {
        Some(token) => client.with_token(&token),
        None => client,
    })
}

/// Keeps a session for these addresses, or forgets the one that is there.
pub(super) fn keep(client: &Client, session: Option<&Session>) -> Result<(), Trouble> {
    let mut kept = Kept::read();
    let addresses: Vec<String> = client.addresses().map(ToString::to_string).collect();
    for address in &addresses {
        match session {
            Some(session) => kept.nodes.insert(address.clone(), session.clone()),
            None => kept.nodes.remove(address),
        };
    }
    match session {
        Some(_) => kept.current = addresses,
        None => kept.current.retain(|address| !addresses.contains(address)),
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

fn file() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = named("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| named("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(folder.join("amrita").join("session.json"))
}
