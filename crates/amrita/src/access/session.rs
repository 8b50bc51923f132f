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
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The session that may be shown to all nodes of a client, where these certificates are
    /// believed. A token was made by one cluster, and is for nobody else: it goes to the very
    /// addresses where somebody has logged in, or to nodes that prove that they are of the same
    /// authority. `authority`: the one that the environment names.
    fn of(&self, client: &Client, authority: Option<&str>) -> Option<&Session> {
        let last = self.current.first().and_then(|address| self.nodes.get(address));
        let mut all = client.addresses().map(|address| {
            let known = self.nodes.get(&address.to_string());
            let last = last.filter(|session| address.is_tls() && session.authority.is_some());
            known.or(last)
        });
        let first = all.next()??;
        let is_for_all = all.all(|other| other.is_some_and(|other| other == first));
        let is_believed = authority.is_none() || first.authority.as_deref() == authority;
        (is_for_all && is_believed).then_some(first)
    }

    /// The authority of the nodes at these addresses, if somebody has logged in there.
    fn authority_of(&self, addresses: &[String]) -> Option<String> {
        let address = protocol::Address::parse(addresses.first()?).ok()?;
        self.nodes.get(&address.to_string())?.authority.clone()
    }

    /// Forgets a token, wherever it is kept.
    fn forget(&mut self, token: &str) {
        self.nodes.retain(|_, session| session.token != token);
        let nodes = &self.nodes;
        self.current.retain(|address| nodes.contains_key(address));
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

/// The same of one more node of a cluster, for what every node tells everybody.
pub(crate) fn stranger_at(address: &str) -> Result<Client, Trouble> {
    let address = [address.to_owned()];
    stranger(&address, authority_at(&address)?.as_deref())
}

/// A client of these nodes that shows the token it has for them, if it has one.
pub(crate) fn client_of<A: AsRef<str>>(addresses: &[A]) -> Result<Client, Trouble> {
    let kept = Kept::read();
    let client = Client::new(addresses).map_err(|error| unreachable(&error))?;
    let named = named_authority()?;
    let session = kept.of(&client, named.as_deref());
    let authority = named.or_else(|| session.and_then(|it| it.authority.clone()));
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

/// The authority to believe at a login: the one that the environment names, or the one that was
/// believed there before.
pub(super) fn authority_at(addresses: &[String]) -> Result<Option<String>, Trouble> {
    Ok(named_authority()?.or_else(|| Kept::read().authority_of(addresses)))
}

/// Keeps a session for these addresses.
pub(super) fn keep(client: &Client, session: &Session) -> Result<(), Trouble> {
    let mut kept = Kept::read();
    let addresses: Vec<String> = client.addresses().map(ToString::to_string).collect();
    for address in &addresses {
        kept.nodes.insert(address.clone(), session.clone());
    }
    kept.current = addresses;
    write(&kept)
}

/// The session that is shown to these nodes. None: another token is, or nothing.
pub(super) fn kept(client: &Client) -> Result<Option<Session>, Trouble> {
    if std::env::var(VARIABLE).is_ok_and(|token| !token.is_empty()) {
        return Ok(None);
    }
    let named = named_authority()?;
    Ok(Kept::read().of(client, named.as_deref()).cloned())
}

/// Forgets the session that is shown to these nodes, wherever else it is shown.
pub(super) fn forget(client: &Client) -> Result<(), Trouble> {
    let mut kept = Kept::read();
    let named = named_authority()?;
    if let Some(token) = kept.of(client, named.as_deref()).map(|it| it.token.clone()) {
        kept.forget(&token);
    }
    write(&kept)
}

fn write(kept: &Kept) -> Result<(), Trouble> {
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
        opened.write_all(serde_json::to_string(kept)?.as_bytes())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn session(token: &str, authority: Option<&str>) -> Session {
        Session { token: token.into(), authority: authority.map(str::to_owned) }
    }

    /// Logged in at 10.0.0.1 by TLS last, and before that at two nodes of other clusters.
    fn kept() -> Kept {
        let nodes = [
            ("https://10.0.0.1:8000", session("one", Some("ca-one"))),
            ("https://10.0.0.9:8000", session("nine", Some("ca-nine"))),
            ("http://127.0.0.1:8001", session("local", None)),
        ];
        let nodes = nodes.map(|(address, session)| (address.to_owned(), session)).into();
        Kept { current: vec!["https://10.0.0.1:8000".into()], nodes }
    }

    fn shown(addresses: &[&str], authority: Option<&str>) -> Option<String> {
        let client = Client::new(addresses).unwrap();
        kept().of(&client, authority).map(|session| session.token.clone())
    }

    #[test]
    fn a_token_goes_where_it_was_made_and_to_nodes_that_prove_the_same_authority() {
        assert_eq!(shown(&["https://10.0.0.1:8000"], None).as_deref(), Some("one"));
        assert_eq!(shown(&["https://10.0.0.9:8000"], None).as_deref(), Some("nine"));
        assert_eq!(shown(&["http://127.0.0.1:8001"], None).as_deref(), Some("local"));
        // Only this authority is believed then.
        let both = ["https://10.0.0.1:8000", "https://10.0.0.2:8000"];
        assert_eq!(shown(&both, None).as_deref(), Some("one"));
        assert_eq!(shown(&both, Some("ca-one")).as_deref(), Some("one"));
    }

    #[test]
    fn a_token_goes_nowhere_else() {
        for elsewhere in [
            &["http://10.0.0.1:8000"][..],
            &["http://127.0.0.1:8002"],
            &["https://10.0.0.1:8000", "http://10.0.0.2:8000"],
            &["https://10.0.0.1:8000", "https://10.0.0.9:8000"],
            &["https://10.0.0.9:8000", "https://10.0.0.2:8000"],
            &["http://127.0.0.1:8001", "http://127.0.0.1:8002"],
        ] {
            assert_eq!(shown(elsewhere, None), None, "{elsewhere:?}");
        }
        assert_eq!(shown(&["https://10.0.0.1:8000"], Some("another")), None, "another is believed");
        assert_eq!(shown(&["https://10.0.0.2:8000"], Some("another")), None);
    }

    #[test]
    fn a_session_that_ended_is_kept_nowhere() {
        let mut kept = kept();
        kept.nodes.insert("https://10.0.0.2:8000".into(), session("one", Some("ca-one")));
        kept.forget("one");
        assert_eq!((kept.nodes.len(), kept.current.len()), (2, 0));
        assert!(kept.nodes.values().all(|session| session.token != "one"));
    }
}
