//! Where the rules are (Xenon's paths, but for tokens and the two questions, which are ours).

use protocol::query;

pub const USERS: &str = "/core/authz/users";
pub const USER_GROUPS: &str = "/core/authz/user-groups";
pub const RESOURCE_GROUPS: &str = "/core/authz/resource-groups";
pub const ROLES: &str = "/core/authz/roles";
pub const CREDENTIALS: &str = "/core/auth/credentials";
pub const TOKENS: &str = "/core/auth/tokens";
/// Tokens of one use, by which nodes join.
pub const JOIN_TOKENS: &str = "/core/auth/join-tokens";
/// Whose an instance of an immortal is. A document has the name of its instance.
pub const INSTANCE_OWNERS: &str = "/core/authz/instance-owners";
/// Who signs the certificates of the cluster's nodes, if the cluster does it itself.
pub const AUTHORITY: &str = "/core/auth/authorities";
/// The one authority there is.
pub const OWN_AUTHORITY: &str = "/core/auth/authorities/cluster";

/// What was done and refused. Not a rule; only the cluster writes it, and only admins read it.
pub const AUDIT: &str = "/core/audit";
/// Where the chain of each node ends.
pub const AUDIT_ENDS: &str = "/core/audit-ends";

/// All of the rules.
pub const FACTORIES: [&str; 9] = [
    USERS,
    USER_GROUPS,
    RESOURCE_GROUPS,
    ROLES,
    CREDENTIALS,
    TOKENS,
    JOIN_TOKENS,
    AUTHORITY,
    INSTANCE_OWNERS,
];

/// Where instances of immortals are.
pub const INSTANCES: &str = "/core/immortals";

/// Backups are begun and read below it.
pub(crate) const BACKUPS: &str = "/core/backups";

/// Where AMBROSIA's bindings look for instances, and erase them.
pub(crate) const AMBROSIA: &str = "/core/ambrosia/";

/// Log in, log out, check a token.
pub const LOGIN: &str = "/core/authn/basic";
/// A node asks to be let in, with a token of one use.
pub const JOIN: &str = "/core/authn/join";
/// Who asks, and what that one's roles are.
pub const WHO_AM_I: &str = "/core/authn/whoami";
/// Whether somebody may do something, and why.
pub const CAN_I: &str = "/core/authz/can-i";

/// The name of a document in a factory; `None` if it is elsewhere.
pub fn name_in<'a>(link: &'a str, factory: &str) -> Option<&'a str> {
    link.strip_prefix(factory)?.strip_prefix('/')
}

/// Whether a document has what a query has found.
pub(crate) fn is_answered_query(link: &str) -> bool {
    [query::LINK, query::GRAPH_LINK].iter().any(|factory| name_in(link, factory).is_some())
}

/// Whether a document is one of the rules.
pub fn is_policy(link: &str) -> bool {
    link.starts_with("/core/auth")
        && FACTORIES.iter().any(|factory| name_in(link, factory).is_some())
}

/// Whether a document holds what a password can be guessed from, or a key. No query finds it.
pub fn is_secret(link: &str) -> bool {
    name_in(link, CREDENTIALS).is_some() || name_in(link, AUTHORITY).is_some()
}

/// Whether a path is for the cluster alone: what is there nobody else writes, an admin neither.
pub(crate) fn is_for_the_cluster(path: &str) -> bool {
    [AUTHORITY, AUDIT, AUDIT_ENDS].iter().any(|top| path == *top || name_in(path, top).is_some())
}

/// Whether a path belongs to the rules: nobody but an admin changes them, whatever roles say.
pub fn is_of_rules(path: &str) -> bool {
    ["/core/auth", "/core/authz", AUDIT, AUDIT_ENDS].iter().any(|top| {
        path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// A backup has everything, the secrets of users included.
pub(crate) fn is_of_backups(path: &str) -> bool {
    path.strip_prefix(BACKUPS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
