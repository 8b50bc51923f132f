//! The roles that come with every cluster. A user has one by belonging to its user group, by name
//! or by the query of a document that somebody made at that link.

use protocol::{Method, node_group, subscription};

use crate::paths::{USER_GROUPS, is_of_backups, is_of_rules, name_in};

/// A role that is there without a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltInRole {
    /// Everything.
    Admin,
    /// The nodes, the quorum, metrics, which kinds of documents there are; no data.
    Operator,
    /// All data, reading and writing; defining no kinds.
    Writer,
    /// All data, reading.
    Reader,
}

impl BuiltInRole {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Writer, Self::Reader];

    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Writer => "writer",
            Self::Reader => "reader",
        }
    }

    /// The name of the user group whose members have the role.
    pub fn group(self) -> &'static str {
        match self {
            Self::Admin => "admins",
            Self::Operator => "operators",
            Self::Writer => "writers",
            Self::Reader => "readers",
        }
    }

    pub fn group_link(self) -> String {
        format!("{USER_GROUPS}/{}", self.group())
    }

    pub(crate) fn of_group(link: &str) -> Option<Self> {
        let name = name_in(link, USER_GROUPS)?;
        Self::ALL.into_iter().find(|role| role.group() == name)
    }

    /// Whether the role allows it. Nothing in a document can make a difference.
    pub(crate) fn allows(self, verb: Method, path: &str) -> bool {
        let reads = matches!(verb, Method::Get | Method::Options);
        match self {
            Self::Admin => true,
            Self::Operator => is_of_nodes(path) || is_of_kinds(path),
            Self::Writer if is_of_kinds(path) => reads,
            Self::Writer => is_data(path) || (reads && path == node_group::LINK),
            Self::Reader => reads && (is_data(path) || path == node_group::LINK),
        }
    }
}

/// The paths of the nodes themselves.
const NODES: [&str; 5] =
    ["/core/node-groups", "/core/node-selectors", "/core/management", "/metrics", "/readyz"];

fn is_of_nodes(path: &str) -> bool {
    NODES.iter().any(|top| {
        path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// What kinds of documents there are.
fn is_of_kinds(path: &str) -> bool {
    path.strip_prefix("/core/factories")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Subscriptions have the addresses of others, which may be secrets.
fn is_of_subscriptions(path: &str) -> bool {
    path.strip_prefix(subscription::LINK)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_data(path: &str) -> bool {
    !is_of_subscriptions(path) && !is_of_nodes(path) && !is_of_rules(path) && !is_of_backups(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who attaches there decides what the documents of the kind say.
    #[test]
    fn programs_of_kinds_are_attached_by_who_defines_kinds() {
        let attach = "/core/factories/app:seats/attach";
        for role in BuiltInRole::ALL {
            let may = matches!(role, BuiltInRole::Admin | BuiltInRole::Operator);
            assert_eq!(role.allows(Method::Post, attach), may, "{}", role.name());
        }
    }

    #[test]
    fn of_the_built_in_roles_only_admin_may_have_others_told_outside() {
        for verb in [Method::Get, Method::Post, Method::Delete] {
            for role in BuiltInRole::ALL {
                let may = role == BuiltInRole::Admin;
                assert_eq!(role.allows(verb, subscription::LINK), may, "{}", role.name());
            }
        }
    }

    #[test]
    fn of_the_built_in_roles_only_admin_reaches_backups() {
        for (verb, path) in [
            (Method::Post, "/core/backups"),
            (Method::Get, "/core/backups/ff/1"),
            (Method::Delete, "/core/backups/ff"),
        ] {
            for role in BuiltInRole::ALL {
                assert_eq!(role.allows(verb, path), role == BuiltInRole::Admin, "{path}");
            }
        }
    }
}
