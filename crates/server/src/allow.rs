//! Which verbs there are at a path, for the header `Allow`: the node's own table says so.

use hyper::Method as Verb;
use hyper::header::HeaderValue;
use node::Resource;
use protocol::Method;
use services::Catalogue;

/// In the order in which they are shown.
const ALL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The verbs of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed(Vec<&'static str>);

impl Allowed {
    /// Of what the shell itself answers.
    pub(crate) fn look() -> Self {
        Self(vec!["GET", "HEAD", "OPTIONS"])
    }

    pub(crate) fn all() -> Self {
        Self(ALL.to_vec())
    }

    /// Of what the node answers at this path, which is decoded; `None` where there is nothing.
    pub(crate) fn at(path: &str, catalogue: &Catalogue) -> Option<Self> {
        let resource = Resource::at(path, catalogue)?;
        let mut verbs = vec!["OPTIONS"];
        for verb in resource.verbs_at(path, catalogue) {
            verbs.push(verb.method.name());
            if verb.method == Method::Get {
                verbs.push("HEAD");
            }
        }
        Some(Self(ALL.into_iter().filter(|verb| verbs.contains(verb)).collect()))
    }

    /// The header; without the verb that was refused.
    pub(crate) fn header(&self, refused: Option<&Verb>) -> HeaderValue {
        let refused = refused.map_or("", Verb::as_str);
        let left = self.0.iter().copied().filter(|verb| *verb != refused);
        let text = left.collect::<Vec<_>>().join(", ");
        HeaderValue::from_str(&text).expect("names of verbs are plain ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_was_refused_is_not_allowed() {
        let catalogue = Catalogue::new();
        let at = |path, refused: &Verb| {
            let allowed = Allowed::at(path, &catalogue).expect("there is something");
            allowed.header(Some(refused))
        };
        assert_eq!(at("/core/immortals", &Verb::PUT), "GET, HEAD, POST, OPTIONS");
        assert_eq!(at("/core/immortals/one", &Verb::PUT), "GET, HEAD, PATCH, DELETE, OPTIONS");
        assert_eq!(at("/core/query-tasks/one", &Verb::PUT), "GET, HEAD, PATCH, DELETE, OPTIONS");
        assert_eq!(at("/core/management", &Verb::PATCH), "GET, HEAD, DELETE, OPTIONS");
        for nothing in ["/core/immortalsx", "/core/query-tasks/one/replication"] {
            assert_eq!(Allowed::at(nothing, &catalogue), None, "{nothing}");
        }
    }
}
