//! A subscription: who is to be told of the changes of a link (Xenon's `ServiceSubscriber`), and
//! how far that one has been told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Address;

/// Where all of them are. Only the cluster writes there.
pub const LINK: &str = "/core/subscriptions";
pub const KIND: &str = "com:vmware:xenon:common:ServiceSubscriptionState:ServiceSubscriber";
/// What Xenon calls the list of those of one link.
pub const LIST_KIND: &str = "com:vmware:xenon:common:ServiceSubscriptionState";

/// The pragma of every notification, and of one before which something may be missing (Xenon's).
pub const NOTIFICATION: &str = "xn-nt";
pub const SKIPPED: &str = "xn-nt-skipped";

/// The options of a query task that goes on.
const CONTINUOUS: &str = "CONTINUOUS";
const STOP_MATCH: &str = "CONTINUOUS_STOP_MATCH";

/// The state of a document of [`LINK`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subscription {
    /// Whose changes: a document, a factory, or a continuous query task.
    pub subscribed_link: String,
    /// The link is a factory, and its documents are meant.
    pub of_children: bool,
    /// Who is told: `http://host:port/path`, or the link of a document of this cluster.
    pub reference: String,
    /// The state as it is comes first.
    pub replay_state: bool,
    pub use_public_uri: bool,
    /// It ends after this many notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_limit: Option<u64>,
    /// The user who has made it, whose rights count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_link: Option<String>,
    /// When that user was made: another one of the same name has no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_made_micros: Option<u64>,
    /// Of a continuous query task: what it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_spec: Option<Value>,
    /// When it was made, or asked for again, in microseconds since 1970.
    pub begun_micros: u64,
    /// Asks that it does not expire. It is not kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_ends: bool,
    #[serde(flatten)]
    pub progress: Progress,
}

/// How far the subscriber has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// All changes before it were taken.
    pub token: String,
    /// The state as it was at the beginning was taken.
    pub is_replayed: bool,
    pub notification_count: u64,
    /// How many notifications were not taken since the last one that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_notification_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_failed_notification_time_micros: Option<u64>,
    /// Why the last one was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// The letters of a token that say of which cluster it is: a byte for its form, and the eight of
/// the cluster's name.
const CLUSTER_LETTERS: usize = 12;

/// Whether two tokens are of the same cluster. A restored backup is another one, and in its log the
/// places of the first one mean nothing.
pub fn are_of_one_cluster(one: &str, other: &str) -> bool {
    let of = |token: &str| token.as_bytes().first_chunk::<CLUSTER_LETTERS>().copied();
    of(one).is_some() && of(one) == of(other)
}

/// Which addresses outside may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `host`, `host:port` or `http://host:port`, beside the loopback interface.
    pub allowed: Vec<String>,
    /// The nodes know who signs the certificates of https there.
    pub has_authorities: bool,
    /// Where the node itself listens.
    pub own_port: Option<u16>,
}

impl Callbacks {
    /// Whether somebody at this address may be told.
    pub fn allow(&self, address: &Address) -> bool {
        address.is_loopback() || self.names(address)
    }

    /// Whether what is sent to this port of the loopback interface comes back to the node itself.
    pub fn is_own(&self, port: u16) -> bool {
        self.own_port == Some(port)
    }

    /// Whether a person has allowed this very address.
    pub fn names(&self, address: &Address) -> bool {
        let (authority, whole) = (address.authority(), address.to_string());
        let is_it = |name: &String| {
            let name = name.trim_end_matches('/').to_ascii_lowercase();
            [address.host(), &authority, &whole].contains(&name.as_str())
        };
        self.allowed.iter().any(is_it)
    }
}

/// The address and the path of a reference outside.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn split_reference(reference: &str) -> Result<(Address, String), String> {
    let Some((scheme @ ("http" | "https"), rest)) = reference.split_once("://") else {
        return Err(format!("'{reference}' is no address: write it as http://host:port/path"));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('#') {
        return Err(format!("'{reference}' has a '#', and what follows it is never sent"));
    }
    if path.bytes().any(|byte| byte <= b' ' || byte >= 127) {
        return Err(format!("'{reference}' has a character that must be escaped in an address"));
    }
    let address = Address::parse(&format!("{scheme}://{authority}"))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((address, format!("{slash}{path}")))
}

/// What a query asks that goes on, without the options that say so.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuous {
    pub query_spec: Value,
    /// A document that matches no more is told as well.
    pub is_told_of_stops: bool,
}

impl Continuous {
    /// `None` for a query that is asked once.
    pub fn of(query_spec: &Value) -> Option<Self> {
        let options = query_spec["options"].as_array()?;
        let has = |name: &str| options.iter().any(|option| option == name);
        let is_told_of_stops = has(STOP_MATCH);
        if !has(CONTINUOUS) && !is_told_of_stops {
            return None;
        }
        let mut query_spec = query_spec.clone();
        if let Some(options) = query_spec["options"].as_array_mut() {
            options.retain(|option| option != CONTINUOUS && option != STOP_MATCH);
        }
        Some(Self { query_spec, is_told_of_stops })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_loopback_interface_and_what_is_named_may_be_told() {
        let allowed = ["hooks.example", "10.0.0.7:9000", "https://safe.example:443/"];
        let callbacks = Callbacks {
            allowed: allowed.map(str::to_owned).to_vec(),
            has_authorities: true,
            own_port: None,
        };
        let may = |text: &str| callbacks.allow(&split_reference(text).unwrap().0);
        for good in [
            "http://127.0.0.1:9/x",
            "http://localhost/x",
            "http://[::1]:80/",
            "http://hooks.example/x",
            "https://HOOKS.example:8443/x?y=z",
            "http://10.0.0.7:9000/",
            "https://safe.example/hook",
        ] {
            assert!(may(good), "{good}");
        }
        for bad in [
            "http://169.254.169.254/latest",
            "http://10.0.0.7/",
            "http://10.0.0.8:9000/",
            "http://safe.example:443/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://hooks.example.org/",
        ] {
            assert!(!may(bad), "{bad}");
        }
        for none in
            ["", "/x", "ftp://h/x", "http://", "http://u:p@h/x", "http://h/a b", "http://h/#x"]
        {
            assert!(split_reference(none).is_err(), "{none}");
        }
        assert_eq!(split_reference("http://h:1?x").unwrap().1, "/?x");
    }

    #[test]
    fn a_query_goes_on_only_if_it_says_so() {
        assert_eq!(Continuous::of(&json!({"options": ["COUNT"]})), None);
        let asked = json!({"options": ["EXPAND_CONTENT", "CONTINUOUS_STOP_MATCH"], "query": {}});
        let found = Continuous::of(&asked).unwrap();
        assert!(found.is_told_of_stops);
        assert_eq!(found.query_spec, json!({"options": ["EXPAND_CONTENT"], "query": {}}));
    }

    #[test]
    fn a_subscription_comes_back_as_it_was() {
        let progress = Progress { token: "t".into(), notification_count: 3, ..Progress::default() };
        let made = Subscription { reference: "/a/b".into(), progress, ..Subscription::default() };
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Subscription>(&text).unwrap(), made);
    }
}
