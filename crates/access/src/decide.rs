//! The one place where a permission is decided.

use std::fmt;

use protocol::{Method, Moment, Principal, subscription};
use query::{Candidate, LinkRange};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::parsed::{self, Effect, Selection, TokenBody};
use crate::paths::{
    CREDENTIALS, INSTANCE_OWNERS, INSTANCES, TOKENS, USERS, is_answered_query, is_for_the_cluster,
    is_of_backups, is_of_rules, name_in,
};
use crate::policy::{Known, Policy, Rule};
use crate::roles::BuiltInRole;

/// What somebody wants to do something to.
#[derive(Clone, Copy, Debug)]
pub enum Thing<'a> {
    /// A path behind which there is no document.
    Path(&'a str),
    /// The place of a document that is not there. Who may see only some documents is told the same
    /// as of one that is hidden.
    Missing { link: &'a str, kind: &'a str },
    /// All documents of a factory together: what is said of them tells of each.
    All { factory: &'a str, kind: &'a str },
    /// A document as it is, or as it would be.
    Document(Candidate<'a>),
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub is_allowed: bool,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The cluster itself.
    System,
    /// It is not known who asks.
    NotLoggedIn,
    /// There is no such user.
    NoSuchUser,
    BuiltIn(BuiltInRole),
    /// The link of the role.
    Role(String),
    DeniedBy(String),
    NoRole,
    /// One's own user, credentials or tokens.
    Own,
    /// The instance is somebody else's.
    InstanceOfOthers,
    /// The rules are changed by admins only.
    RulesAreForAdmins,
    /// A backup has the rules and all secrets in it.
    BackupsAreForAdmins,
    /// Nobody but the cluster writes there.
    OnlyTheCluster,
    /// What a query has found was chosen by what its maker may see.
    FoundForAnother,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the cluster itself may do everything"),
            Self::NotLoggedIn => f.write_str("nobody is logged in"),
            Self::NoSuchUser => f.write_str("there is no such user"),
            Self::BuiltIn(role) => write!(f, "the role '{}' allows it", role.name()),
            Self::Role(link) => write!(f, "the role {link} allows it"),
            Self::DeniedBy(link) => write!(f, "the role {link} denies it"),
            Self::NoRole => f.write_str("no role allows it"),
            Self::Own => f.write_str("everybody may do this with what is their own"),
            Self::InstanceOfOthers => f.write_str("the instance belongs to others"),
            Self::RulesAreForAdmins => {
                f.write_str("users, groups, roles, credentials and tokens are for admins only")
            }
            Self::BackupsAreForAdmins => {
                f.write_str("backups are for admins only, as all secrets are in them")
            }
            Self::OnlyTheCluster => f.write_str("only the cluster itself writes there"),
            Self::FoundForAnother => {
                f.write_str("what a query has found is for who asked it, and for admins")
            }
        }
    }
}

impl<'a> Thing<'a> {
    pub fn link(&self) -> &'a str {
        match self {
            Self::Path(link) | Self::Missing { link, .. } => link,
            Self::All { factory, .. } => factory,
            Self::Document(candidate) => candidate.link,
        }
    }
}

/// Whether a principal may do something.
///
/// A role that denies wins over all that allow. The rules themselves ([`crate::is_policy`]) are for
/// admins, whatever other roles say: who could write them could become anybody. So are backups, by
/// which somebody could read them.
pub fn decide(policy: &Policy, who: &Principal, verb: Method, thing: &Thing<'_>) -> Decision {
    let user = match who {
        Principal::System => return allowed(Reason::System),
        Principal::Anonymous | Principal::Bearer(_) => return refused(Reason::NotLoggedIn),
        Principal::User(user) => user,
    };
    let Some(known) = policy.user(user) else { return refused(Reason::NoSuchUser) };
    let link = thing.link();
    if is_of_rules(link) {
        return decide_on_rules(policy, (user, known), verb, thing);
    }
    if let Thing::Document(found) = thing
        && is_answered_query(link)
        && found.author.is_some_and(|author| author != &**user || !is_of_life(found, known))
        && verb != Method::Post
        && !known.built_in.contains(&BuiltInRole::Admin)
    {
        return refused(Reason::FoundForAnother);
    }
    if let Some(decision) = decide_on_subscription((user, known), verb, thing) {
        return decision;
    }
    if is_of_backups(link) && !known.built_in.contains(&BuiltInRole::Admin) {
        return refused(Reason::BackupsAreForAdmins);
    }
    let mut found = None;
    for rule in known.rules.iter().filter(|rule| rule.verbs.has(verb)) {
        let Rule { effect, resources, .. } = rule;
        match effect {
            Effect::Deny if denies(resources.as_ref(), thing) => {
                return refused(Reason::DeniedBy(rule.role.clone()));
            }
            Effect::Allow if found.is_none() && allows(resources.as_ref(), thing) => {
                found = Some(rule);
            }
            Effect::Allow | Effect::Deny => {}
        }
    }
    if found.is_none()
        && let Some(decision) = decide_by_owners(policy, (user, known), verb, link)
    {
        return decision;
    }
    if let Some(role) = known.built_in.iter().find(|role| role.allows(verb, link)) {
        return allowed(Reason::BuiltIn(*role));
    }
    match found {
        Some(rule) => allowed(Reason::Role(rule.role.clone())),
        None => refused(Reason::NoRole),
    }
}

/// A subscription is its maker's. Only the cluster writes it; the right to POST to the factory
/// itself is that to have somebody told outside of the cluster. `None`: roles decide.
fn decide_on_subscription(
    (user, known): (&str, &Known),
    verb: Method,
    thing: &Thing<'_>,
) -> Option<Decision> {
    name_in(thing.link(), subscription::LINK)?;
    if matches!(verb, Method::Post | Method::Put | Method::Patch) {
        return Some(refused(Reason::OnlyTheCluster));
    }
    let Thing::Document(found) = thing else { return None };
    let made: subscription::Subscription = serde_json::from_slice(found.body).unwrap_or_default();
    let is_own = made.principal_link.as_deref() == Some(user)
        && known.is_one_of(made.principal_made_micros, Moment(made.begun_micros));
    is_own.then(|| allowed(Reason::Own))
}

/// Whether a task was made by this user, and not by an earlier one of that name.
fn is_of_life(task: &Candidate<'_>, known: &Known) -> bool {
    let Task { task_info } = serde_json::from_slice(task.body).unwrap_or_default();
    known.is_one_of(task_info.author_made_micros, Moment(task_info.start_time_micros))
}

/// What of a task says who has made it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Task {
    task_info: TaskInfo,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TaskInfo {
    author_made_micros: Option<u64>,
    start_time_micros: u64,
}

fn decide_on_rules(
    policy: &Policy,
    (user, known): (&str, &Known),
    verb: Method,
    thing: &Thing<'_>,
) -> Decision {
    let link = thing.link();
    if verb.is_write() && is_for_the_cluster(link) {
        return refused(Reason::OnlyTheCluster);
    }
    if known.built_in.contains(&BuiltInRole::Admin) {
        return allowed(Reason::BuiltIn(BuiltInRole::Admin));
    }
    let is_own = if link == user {
        verb == Method::Get
    } else if let Some(name) = name_in(link, CREDENTIALS) {
        let is_of_user = name_in(user, USERS) == Some(name) || policy.is_address_of(name, user);
        is_of_user && matches!(verb, Method::Get | Method::Patch)
    } else if let Some(name) = name_in(link, INSTANCE_OWNERS) {
        // An owner lets others own it as well, and cannot take it from anybody. It writes to
        // documents with the rights of its owner: so nobody gives it away to one who has more.
        let remains = match thing {
            Thing::Document(made) => names_owner(made.body, user),
            _ => true,
        };
        let may = matches!(verb, Method::Put | Method::Patch) && remains || verb == Method::Get;
        policy.owns(user, name) == Some(true) && may
    } else if let Some(name) = name_in(link, TOKENS) {
        let may = matches!(verb, Method::Get | Method::Delete);
        match thing {
            // One that was made just now is in no policy so far.
            Thing::Document(made) if may || verb == Method::Post => {
                let token = token_of(made.body);
                token.is_some_and(|token| {
                    let is_present = known.is_one_of(token.user_made_micros, made.updated);
                    token.user_link == user && (is_present || verb == Method::Post)
                })
            }
            _ => policy.owner_of_token(name) == Some(user) && may,
        }
    } else {
        false
    };
    if is_own { allowed(Reason::Own) } else { refused(Reason::RulesAreForAdmins) }
}

/// An instance that belongs to somebody is its owners': they may do everything with it, and others
/// what a role says that somebody has made for it. Who may read all data sees it, and who may write
/// all data sends it impulses. `None`: ownership has no say.
fn decide_by_owners(
    policy: &Policy,
    (user, known): (&str, &Known),
    verb: Method,
    link: &str,
) -> Option<Decision> {
    let rest = name_in(link, INSTANCES)?;
    let (name, ask) = rest.split_once('/').unwrap_or((rest, ""));
    if policy.owns(user, name)? {
        return Some(allowed(Reason::Own));
    }
    let is_looking = verb == Method::Get && ask.is_empty();
    let is_for_all = is_looking || (verb == Method::Post && ask == "impulses");
    if is_for_all || known.built_in.contains(&BuiltInRole::Admin) {
        return None;
    }
    Some(refused(Reason::InstanceOfOthers))
}

/// Whether the owners of an instance, as they are or would be, have that user among them.
fn names_owner(body: &[u8], user: &str) -> bool {
    let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    parsed::owners(&fields).is_ok_and(|owners| owners.users.contains(user))
}

/// The token that a document is or would be.
fn token_of(body: &[u8]) -> Option<TokenBody> {
    let fields: Map<_, _> = serde_json::from_slice(body).ok()?;
    parsed::token(&fields).ok()
}

/// What is not known to be meant is not allowed.
fn allows(resources: Option<&Selection>, thing: &Thing<'_>) -> bool {
    resources.is_some_and(|selection| match thing {
        Thing::Document(candidate) => selection.query.evaluate(candidate).is_some(),
        Thing::Missing { link, kind } => selection.is_of_links && selects(selection, link, kind),
        Thing::Path(path) => selection.is_of_links && selects(selection, path, ""),
        Thing::All { factory, kind } => {
            let any = format!("{factory}/{ANY}");
            selection.is_of_links && !selection.has_exceptions && selects(selection, &any, kind)
        }
    })
}

/// What may be meant is denied.
fn denies(resources: Option<&Selection>, thing: &Thing<'_>) -> bool {
    resources.is_none_or(|selection| match thing {
        Thing::Document(candidate) => selection.query.evaluate(candidate).is_some(),
        Thing::Missing { link, kind } => !selection.is_of_links || selects(selection, link, kind),
        Thing::Path(path) => selection.is_of_links && selects(selection, path, ""),
        Thing::All { factory, kind } if selection.is_of_kinds => selects(selection, factory, kind),
        Thing::All { factory, .. } => {
            let range = LinkRange::of(&selection.query);
            let (first, end) = (format!("{factory}/"), format!("{factory}0"));
            range.from < end.into_bytes() && range.to.is_none_or(|to| to > first.into_bytes())
        }
    })
}

/// A name that no document has, and that stands for all names.
const ANY: &str = "\u{1}";

fn selects(selection: &Selection, link: &str, kind: &str) -> bool {
    let candidate = Candidate { link, kind, ..Candidate::nothing() };
    selection.query.evaluate(&candidate).is_some()
}

fn allowed(reason: Reason) -> Decision {
    Decision { is_allowed: true, reason }
}

fn refused(reason: Reason) -> Decision {
    Decision { is_allowed: false, reason }
}

#[cfg(test)]
mod tests {
    use protocol::{Action, Body, Document, Moment, Term};
    use serde_json::json;

    use super::*;

    fn document(link: &str, body: &Value) -> Document {
        Document {
            link: link.into(),
            version: 0,
            epoch: Term(1),
            kind: "k".into(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_text(body.to_string()),
        }
    }

    #[test]
    fn a_subscription_is_its_makers_and_only_the_cluster_writes_it() {
        let user = |name: &str, group: &str| {
            let groups = json!({"email": name, "userGroupLinks": [group]});
            document(&format!("{USERS}/{name}"), &groups)
        };
        let admins = BuiltInRole::Admin.group_link();
        let writers = BuiltInRole::Writer.group_link();
        let users = [user("ann", &writers), user("bob", &writers), user("eve", &admins)];
        let policy = Policy::of(users.to_vec());
        let body = json!({"principalLink": format!("{USERS}/ann"), "reference": "http://h/secret"});
        let own = document("/core/subscriptions/s", &body);
        let may = |name: &str, verb| {
            let who = Principal::User(format!("{USERS}/{name}").into());
            decide(&policy, &who, verb, &Thing::Document((&own).into())).is_allowed
        };
        for (name, reads) in [("ann", true), ("bob", false), ("eve", true)] {
            assert_eq!(may(name, Method::Get), reads, "{name}");
            assert_eq!(may(name, Method::Delete), reads, "{name}");
            for verb in [Method::Post, Method::Put, Method::Patch] {
                assert!(!may(name, verb), "{name} {}", verb.name());
            }
        }
        let thing = Thing::Document((&own).into());
        assert!(decide(&policy, &Principal::System, Method::Put, &thing).is_allowed);
        // Who may be told outside: a right on the factory itself.
        let outside = |name: &str| {
            let who = Principal::User(format!("{USERS}/{name}").into());
            decide(&policy, &who, Method::Post, &Thing::Path("/core/subscriptions")).is_allowed
        };
        assert!(outside("eve") && !outside("ann"));
    }
}
