//! Every path that answers, with what it needs. A path that is not here is refused.

use protocol::Method::{Delete, Get, Patch, Post, Put};
use protocol::{Method, links};

use Needs::{Document, Filtered, Link, Login, Nothing, Right};

/// What a request must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It answers everybody.
    Nothing,
    /// Somebody must be logged in.
    Login,
    /// The router decides, by the path and the verb.
    Right,
    /// The owner of the document decides, on the state as it is then.
    Document,
    /// Somebody must be logged in, and sees what a role allows that one to see.
    Filtered,
    /// Another node of the cluster.
    Link,
}

/// One path, or all that have one form.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `{name}` stands for one part, `{...}` at the end for any number of them.
    pub path: &'static str,
    pub verbs: &'static [Method],
    pub needs: Needs,
    pub about: &'static str,
}

const fn row(
    path: &'static str,
    verbs: &'static [Method],
    needs: Needs,
    about: &'static str,
) -> Row {
    Row { path, verbs, needs, about }
}

/// Every path that answers. The first row that has the path and the verb counts.
pub const TABLE: [Row; 31] = [
    row("/", &[Get], Login, "the list of factories"),
    row("/livez", &[Get], Nothing, "the process is there"),
    row("/readyz", &[Get], Nothing, "it serves"),
    row("/metrics", &[Get], Right, "counters of the node"),
    row("/core/peer-link", &[Get], Link, "the link to another node"),
    row("/core/authn/basic", &[Post], Nothing, "log in, log out, check a token"),
    row("/core/authn/whoami", &[Get], Login, "who asks"),
    row("/core/authz/can-i", &[Post], Login, "whether somebody may do something"),
    row("/core/node-groups/default", &[Get, Post, Patch], Right, "nodes, quorum, joining"),
    row("/core/node-selectors/default", &[Get, Post], Right, "who owns a link"),
    row("/core/node-selectors/default/{...}", &[Get, Post], Right, "who owns a link"),
    row("/core/management", &[Get, Delete], Right, "the node, and its stop"),
    row("/core/management/{...}", &[Get, Post, Patch, Delete], Right, "the node"),
    row("/core/query-page/{token}", &[Get], Filtered, "a further page of a query"),
    row("/core/query-tasks", &[Get, Post], Filtered, "a query, or the list of query tasks"),
    row("/core/immortals", &[Get, Post], Right, "the list of instances, registration"),
    row("/core/immortals/{name}", &[Get, Patch, Delete], Right, "an instance"),
    row("/core/immortals/{name}/attach", &[Get, Post], Right, "a program attaches"),
    row("/core/immortals/{name}/{...}", &[Get, Post, Put, Patch], Right, "an instance"),
    row("/core/ambrosia/{...}", &[Get], Right, "what AMBROSIA's bindings look up"),
    row("/{...}/template", &[Get], Right, "the form of a document"),
    row("/{...}/config", &[Get], Right, "the options of a service"),
    row("/{...}/available", &[Get], Login, "whether owners are at work"),
    row("/{...}/stats", &[Get], Document, "counters of a service"),
    row("/{...}/subscriptions", &[Get, Post, Delete], Document, "subscriptions"),
    row("/{...}/ui", &[Get], Right, "a page of a service"),
    row("/core/auth/credentials", &[Get, Post], Document, "passwords"),
    row("/core/auth/tokens", &[Get], Filtered, "tokens"),
    row("/core/auth/tokens/{name}", &[Get, Delete], Document, "a token"),
    row("/{...}", &[Get], Filtered, "the list of a factory; a document, which its owner checks"),
    row("/{...}", &[Post, Put, Patch, Delete], Document, "a document"),
];

/// What a request needs. `None`: there is nothing that answers it.
pub fn needs(verb: Method, path: &str) -> Option<Needs> {
    if verb == Method::Options {
        return Some(Nothing);
    }
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let has_row = |row: &&Row| row.verbs.contains(&verb) && has_form(path, row.path);
    let found = TABLE.iter().find(has_row)?;
    // A verb that is not known at a path of the cluster is refused. Nobody would check it, as no
    // document's owner answers there.
    let is_for_documents = found.path.starts_with("/{");
    (!is_for_documents || !is_of_cluster(path)).then_some(found.needs)
}

/// Whether something else than documents answers at a path and below it.
fn is_of_cluster(path: &str) -> bool {
    let is_other = |row: &&Row| matches!(row.needs, Nothing | Login | Right | Link);
    TABLE.iter().filter(is_other).any(|row| {
        let base = row.path.split("/{").next().unwrap_or_default();
        let rest = path.strip_prefix(base);
        base.len() > 1 && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn has_form(path: &str, form: &str) -> bool {
    let mut parts = path.split('/').peekable();
    let mut forms = form.split('/').peekable();
    while let Some(form) = forms.next() {
        if form == "{...}" {
            let rest = parts.by_ref().collect::<Vec<_>>();
            // What stands behind the dots is a utility.
            return match forms.next() {
                None => !rest.is_empty(),
                Some(last) => rest.len() > 1 && rest.last() == Some(&last),
            };
        }
        match parts.next() {
            Some(part) if form.starts_with('{') && !part.is_empty() => {}
            Some(part) if part == form => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// The link that a right on a path is looked up for: a utility belongs to what it tells of.
pub fn link_of(path: &str) -> &str {
    links::split_utility(path).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_needs_what_the_table_says() {
        for (verb, path, expected) in [
            (Get, "/", Login),
            (Get, "/livez", Nothing),
            (Post, "/core/authn/basic", Nothing),
            (Get, "/core/management", Right),
            (Delete, "/core/management/", Right),
            (Patch, "/core/node-groups/default", Right),
            (Get, "/core/examples", Filtered),
            (Post, "/core/examples", Document),
            (Delete, "/core/examples/one", Document),
            (Get, "/core/examples/template", Right),
            (Get, "/core/examples/one/stats", Document),
            (Get, "/core/query-page/abc", Filtered),
            (Post, "/core/query-tasks", Filtered),
            (Get, "/core/peer-link", Link),
            (Get, "/core/immortals/a/attach", Right),
            (Post, "/core/immortals/a/impulse", Right),
        ] {
            assert_eq!(needs(verb, path), Some(expected), "{} {path}", verb.name());
        }
        for (verb, path) in [
            (Post, "/metrics"),
            (Put, "/core/management"),
            (Delete, "/core/node-groups/default"),
            (Get, "/core/node-groups/default/x"),
            (Delete, "/core/authn/basic"),
        ] {
            assert_eq!(needs(verb, path), None, "{} {path}", verb.name());
        }
    }
}
