//! The links that a document holds in some of its fields, for `SELECT_LINKS`.

use protocol::Problem;
use protocol::query::{QueryOption, QuerySpecification};

use crate::candidate::Candidate;
use crate::leaves::{Leaves, walk};
use crate::ordered::Leaf;
use crate::paths::{is_built_in, paths};
use crate::predicate::wrong;
use crate::term::is_at_or_beneath;

/// How many fields of links a query may have.
const LINK_TERMS_MAX: usize = 16;

/// How many links are selected of one document in one field. Behind the last
/// of them an empty one follows, and the query is to be refused.
pub const LINKS_OF_ONE_MAX: usize = 10_000;

/// Fields that hold links, each with its name and its paths.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkFields {
    fields: Vec<(String, Vec<String>)>,
}

impl LinkFields {
    /// # Errors
    /// `BAD_REQUEST` that names the part of the specification that is wrong.
    pub(crate) fn new(specification: &QuerySpecification) -> Result<Option<Self>, Problem> {
        let terms = &specification.link_terms;
        let is_asked = specification.has(QueryOption::SelectLinks);
        if specification.has(QueryOption::ExpandLinks) && !is_asked {
            return wrong("options", "have EXPAND_LINKS, which goes with SELECT_LINKS; add it");
        }
        match (is_asked, terms.len()) {
            (false, 0) => return Ok(None),
            (false, _) => return wrong("linkTerms", "go with the option SELECT_LINKS"),
            (true, 0) => return wrong("linkTerms", "are missing; SELECT_LINKS needs some"),
            (true, 1..=LINK_TERMS_MAX) => {}
            (true, _) => {
                return wrong("linkTerms", &format!("are too many; the limit is {LINK_TERMS_MAX}"));
            }
        }
        if specification.has(QueryOption::Count) || !specification.aggregates.is_empty() {
            return wrong("options", "have SELECT_LINKS, and no document is shown; drop one");
        }
        let field = |(number, name): (usize, &String)| {
            Ok((name.clone(), paths(name, &format!("linkTerms[{number}].propertyName"))?))
        };
        let names: Vec<&String> = terms.iter().map(|term| &term.property_name).collect();
        let fields = names.into_iter().enumerate().map(field).collect::<Result<_, Problem>>()?;
        Ok(Some(Self { fields }))
    }

    /// Of the only value of a field the name is the field's; those of a list have `.item.N` behind
    /// it, as in Xenon.
    pub(crate) fn links_of(&self, candidate: &Candidate<'_>) -> Vec<(String, String)> {
        let mut found = FoundLinks { fields: self, links: vec![Vec::new(); self.fields.len()] };
        for (links, (_, paths)) in found.links.iter_mut().zip(&self.fields) {
            let built_in = paths.iter().filter_map(|path| candidate.built_in(path));
            links.extend(built_in.filter_map(text_of));
        }
        walk(candidate.body, &mut found);
        let mut selected = Vec::new();
        for (links, (name, _)) in found.links.into_iter().zip(&self.fields) {
            let is_list = links.len() > 1 || name.ends_with("Links") || name.ends_with(".item");
            let name = name.strip_suffix(".item").unwrap_or(name);
            for (number, link) in links.into_iter().enumerate() {
                let name = match is_list {
                    true => format!("{name}.item.{number}"),
                    false => name.to_owned(),
                };
                selected.push((name, link));
            }
        }
        selected
    }
}

fn text_of(leaf: Leaf<'_>) -> Option<String> {
    match leaf {
        Leaf::Text(text) if !text.is_empty() => Some(text.to_owned()),
        _ => None,
    }
}

struct FoundLinks<'a> {
    fields: &'a LinkFields,
    links: Vec<Vec<String>>,
}

impl Leaves for FoundLinks<'_> {
    fn wants(&self, path: &str) -> bool {
        let mut all = self.fields.fields.iter().flat_map(|(_, paths)| paths);
        !is_built_in(path) && all.any(|wanted| is_at_or_beneath(wanted, path))
    }

    fn take(&mut self, path: &str, leaf: Leaf<'_>) {
        for (links, (_, paths)) in self.links.iter_mut().zip(&self.fields.fields) {
            if !paths.iter().any(|wanted| wanted == path) {
                continue;
            }
            match links.len() {
                0..LINKS_OF_ONE_MAX => links.extend(text_of(leaf)),
                LINKS_OF_ONE_MAX => links.push(String::new()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::query::QueryTerm;

    use super::*;

    fn fields(names: &[&str]) -> Result<Option<LinkFields>, Problem> {
        LinkFields::new(&QuerySpecification {
            options: vec![QueryOption::SelectLinks],
            link_terms: names.iter().map(|name| QueryTerm::field(name)).collect(),
            ..QuerySpecification::default()
        })
    }

    fn selected(names: &[&str], body: &str) -> Vec<(String, String)> {
        let candidate = Candidate { body: body.as_bytes(), link: "/a/1", ..Candidate::nothing() };
        fields(names).unwrap().unwrap().links_of(&candidate)
    }

    #[test]
    fn links_are_named_as_in_xenon() {
        let body = r#"{"parentLink":"/p/1","groupLinks":["/g/1","","/g/2",7],"a":{"link":"/x"},
            "oneLinks":["/o/1"]}"#;
        let pair = |name: &str, link: &str| (name.to_owned(), link.to_owned());
        assert_eq!(
            selected(&["parentLink", "groupLinks", "a.link", "absent", "documentSelfLink"], body),
            [
                pair("parentLink", "/p/1"),
                pair("groupLinks.item.0", "/g/1"),
                pair("groupLinks.item.1", "/g/2"),
                pair("a.link", "/x"),
                pair("documentSelfLink", "/a/1"),
            ]
        );
        assert_eq!(selected(&["oneLinks.item"], body), [pair("oneLinks.item.0", "/o/1")]);
    }

    #[test]
    fn too_many_links_are_told_by_an_empty_one() {
        let links: Vec<String> = (0..LINKS_OF_ONE_MAX + 5).map(|n| format!("\"/{n}\"")).collect();
        let body = format!(r#"{{"links":[{}]}}"#, links.join(","));
        let found = selected(&["links"], &body);
        assert_eq!(found.len(), LINKS_OF_ONE_MAX + 1);
        assert_eq!(found.last().unwrap().1, "");
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        let refused = |specification: QuerySpecification| {
            LinkFields::new(&specification).unwrap_err().message
        };
        assert!(fields(&[]).unwrap_err().message.contains("linkTerms are missing"));
        let link_terms = vec![QueryTerm::field("a")];
        let without = QuerySpecification { link_terms, ..QuerySpecification::default() };
        assert!(refused(without).contains("go with the option SELECT_LINKS"));
        let options = vec![QueryOption::ExpandLinks];
        let expanded = QuerySpecification { options, ..QuerySpecification::default() };
        assert!(refused(expanded).contains("EXPAND_LINKS, which goes with SELECT_LINKS"));
    }
}
