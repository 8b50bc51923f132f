//! Which verbs there are at a path, for the header `Allow`: as far as the path's shape tells. What
//! is true of one document only, its service says when it is asked.

use hyper::Method as Verb;
use hyper::header::HeaderValue;
use services::Catalogue;

/// Verbs in the order in which they are shown.
const LOOK: &[&str] = &["GET", "HEAD", "OPTIONS"];
const FACTORY: &[&str] = &["GET", "HEAD", "POST", "DELETE", "OPTIONS"];
const DOCUMENT: &[&str] = &["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];
const INSTANCES: &[&str] = &["GET", "HEAD", "POST", "OPTIONS"];
const INSTANCE: &[&str] = &["GET", "HEAD", "PATCH", "DELETE", "OPTIONS"];
const ANYTHING: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The verbs of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed(&'static [&'static str]);

impl Allowed {
    /// Of what the shell itself answers.
    pub(crate) const LOOK: Self = Self(LOOK);

    /// Of what the node answers at this path, which is decoded.
    pub(crate) fn at(path: &str, catalogue: &Catalogue) -> Self {
        let verbs = match path.strip_prefix("/core/immortals") {
            Some("") => INSTANCES,
            Some(rest) if rest.starts_with('/') && !rest[1..].contains('/') => INSTANCE,
            _ if catalogue.spec(path).is_some() => FACTORY,
            _ if catalogue.spec_of(path).is_some() => DOCUMENT,
            _ => ANYTHING,
        };
        Self(verbs)
    }

    /// The header; without the verb that was refused.
    pub(crate) fn header(self, refused: Option<&Verb>) -> HeaderValue {
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
        let at = |path, refused: &Verb| Allowed::at(path, &catalogue).header(Some(refused));
        assert_eq!(at("/core/immortals", &Verb::GET), "HEAD, POST, OPTIONS");
        assert_eq!(at("/core/immortals/one", &Verb::PUT), "GET, HEAD, PATCH, DELETE, OPTIONS");
        assert_eq!(at("/core/immortalsx", &Verb::PUT), "GET, HEAD, POST, PATCH, DELETE, OPTIONS");
    }
}
