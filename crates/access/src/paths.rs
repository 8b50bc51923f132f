//! Where the rules are (Xenon's paths, but for tokens and the two questions, which are ours).

pub const USERS: &str = "/core/authz/users";
pub const USER_GROUPS: &str = "/core/authz/user-groups";
pub const RESOURCE_GROUPS: &str = "/core/authz/resource-groups";
pub const ROLES: &str = "/core/authz/roles";
pub const CREDENTIALS: &str = "/core/auth/credentials";
pub const TOKENS: &str = "/core/auth/tokens";

/// All of these.
pub const FACTORIES: [&str; 6] = [USERS, USER_GROUPS, RESOURCE_GROUPS, ROLES, CREDENTIALS, TOKENS];

/// Log in, log out, check a token.
pub const LOGIN: &str = "/core/authn/basic";
/// Who asks, and what that one's roles are.
pub const WHO_AM_I: &str = "/core/authn/whoami";
/// Whether somebody may do something, and why.
pub const CAN_I: &str = "/core/authz/can-i";

/// The name of a document in a factory; `None` if it is elsewhere.
pub fn name_in<'a>(link: &'a str, factory: &str) -> Option<&'a str> {
    link.strip_prefix(factory)?.strip_prefix('/')
}

/// Whether a document is one of the rules.
pub fn is_policy(link: &str) -> bool {
    link.starts_with("/core/auth")
        && FACTORIES.iter().any(|factory| name_in(link, factory).is_some())
}

/// Whether a document holds what a password can be guessed from. No query finds it.
pub fn is_secret(link: &str) -> bool {
    name_in(link, CREDENTIALS).is_some()
}

/// Whether a path belongs to the rules: nobody but an admin changes them, whatever roles say.
pub(crate) fn is_of_rules(path: &str) -> bool {
    ["/core/auth", "/core/authz"].iter().any(|top| {
        path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
