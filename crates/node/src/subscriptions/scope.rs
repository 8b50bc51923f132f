//! Whose changes a subscription is about, and what a change is to it.

use documents::Change;
use protocol::query::LINK as QUERY_TASKS;
use protocol::subscription::{Continuous, LINK, Subscription};
use protocol::{Document, Problem, TaskStage, links};
use query::{Candidate, CompiledQuery, HitFilter, parse_specification};
use serde_json::Value;

/// Whose changes.
pub(crate) enum Scope {
    /// Those of one document.
    One(String),
    /// Those of all documents of a factory.
    Children(String),
    /// Those of all documents that match.
    Query(Box<Standing>),
}

/// A query that goes on.
pub(crate) struct Standing {
    /// The link of its task.
    pub(crate) task: String,
    query: CompiledQuery,
    is_told_of_stops: bool,
}

/// What became of a document, as far as a scope is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Changed,
    /// Of a query: it matches from now on, still, or no more.
    Added,
    Updated,
    Deleted,
    /// The query has ended.
    End,
}

impl Scope {
    pub(crate) fn of(state: &Subscription) -> Result<Self, Problem> {
        let link = state.subscribed_link.clone();
        if let Some(continuous) = state.query_spec.as_ref().and_then(Continuous::of) {
            let query = CompiledQuery::of_stored(&parse_specification(&continuous.query_spec)?)?;
            let is_told_of_stops = continuous.is_told_of_stops;
            return Ok(Self::Query(Box::new(Standing { task: link, query, is_told_of_stops })));
        }
        Ok(if state.of_children { Self::Children(link) } else { Self::One(link) })
    }

    /// By what the node finds the subscriptions that a change concerns; `None`: it looks at each
    /// change.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::One(link) | Self::Children(link) => Some(link),
            Self::Query(_) => None,
        }
    }

    /// What is told of a document that a query has found, which is whole JSON: all of it, some
    /// fields, or nothing but its link, as the query says.
    pub(crate) fn told_of(&self, document: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::One(_) | Self::Children(_) => Some(document),
            Self::Query(standing) if standing.query.is_count() => None,
            Self::Query(standing) if !standing.query.is_expanded() => None,
            Self::Query(standing) => Some(standing.query.expanded(document.into()).into()),
        }
    }

    /// How much work it is to look at a byte of a document.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::One(_) | Self::Children(_) => 1,
            Self::Query(standing) => standing.query.weight(),
        }
    }

    /// The factory outside of which no document is concerned.
    pub(crate) fn factory(&self) -> Option<&str> {
        match self {
            Self::One(link) => links::split(link).map(|(factory, _)| factory),
            Self::Children(factory) => Some(factory),
            Self::Query(_) => None,
        }
    }

    /// What the links of all documents that are concerned begin with, and whether it is one link.
    pub(crate) fn prefix(&self) -> (String, bool) {
        match self {
            Self::One(link) => (link.clone(), true),
            Self::Children(factory) => (format!("{factory}/"), false),
            Self::Query(_) => ("/".into(), false),
        }
    }

    /// Whether a change of the document at that link may be of interest.
    pub(crate) fn covers(&self, link: &str) -> bool {
        match self {
            Self::One(one) => one == link,
            Self::Children(factory) => links::split(link).is_some_and(|(of, _)| of == factory),
            // A subscription is written with each notification: it would tell of itself for ever.
            Self::Query(_) => !is_subscription(link),
        }
    }

    /// What a change is to somebody who may see what the filter shows; `None`: nothing.
    pub(crate) fn news(&self, change: &Change, filter: Option<&HitFilter>) -> Option<News> {
        let newest = change.after.as_ref().or(change.before.as_ref())?;
        if !self.covers(&newest.link) {
            return None;
        }
        let sees = |document: &Document| {
            filter.is_none_or(|filter| filter.shows(&Candidate::from(document)))
        };
        let Self::Query(standing) = self else { return sees(newest).then_some(News::Changed) };
        if newest.link == standing.task {
            return is_over(change.after.as_deref()).then_some(News::End);
        }
        let meets = |document: &Document| {
            !document.is_deleted()
                && standing.query.evaluate_for(&document.into(), filter).is_some()
        };
        let is = change.after.as_deref().is_some_and(meets);
        let was = change.before.as_deref().is_some_and(meets);
        let is_gone = change.after.as_ref().is_none_or(|after| after.is_deleted());
        match (was, is) {
            (false, true) => Some(News::Added),
            (true, true) => Some(News::Updated),
            (true, false) if (is_gone || standing.is_told_of_stops) && sees(newest) => {
                Some(News::Deleted)
            }
            (_, false) => None,
        }
    }
}

/// Whether a query task goes on no more.
fn is_over(task: Option<&Document>) -> bool {
    let Some(task) = task.filter(|task| !task.is_deleted()) else { return true };
    let body: Value = serde_json::from_slice(task.body.as_bytes()).unwrap_or_default();
    stage_of(&body).is_final()
}

/// The stage of a task.
pub(crate) fn stage_of(task: &Value) -> TaskStage {
    serde_json::from_value(task["taskInfo"]["stage"].clone()).unwrap_or_default()
}

/// Whether the link is that of a query task.
pub(crate) fn is_query_task(link: &str) -> bool {
    links::split(link).is_some_and(|(factory, _)| factory == QUERY_TASKS)
}

/// Whether the link is where subscriptions are, or that of one.
pub(crate) fn is_subscription(link: &str) -> bool {
    link.strip_prefix(LINK).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use access::{Guard, Policy};
    use documents::Place;
    use protocol::{Action, Body, Moment, Position, Principal, Term};
    use serde_json::json;

    use super::*;

    fn document(link: &str, body: &Value) -> Document {
        Document {
            link: link.to_owned(),
            version: 0,
            epoch: Term(1),
            kind: String::new(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_text(body.to_string()),
        }
    }

    fn change(before: Option<Document>, after: Option<Document>) -> Change {
        let place = Place { position: Position(7), taken: 1 };
        Change { place, before: before.map(Arc::new), after: after.map(Arc::new) }
    }

    fn standing(field: &str, value: &str) -> Scope {
        let spec = json!({"options": ["CONTINUOUS"], "query": {"term":
            {"propertyName": field, "matchType": "WILDCARD", "matchValue": value}}});
        let link = format!("{QUERY_TASKS}/q");
        Scope::of(&Subscription {
            subscribed_link: link,
            query_spec: Some(spec),
            ..Subscription::default()
        })
        .unwrap()
    }

    #[test]
    fn a_query_tells_of_a_document_what_it_shows() {
        let told = |options: Value, more: Value| {
            let mut spec = json!({"options": options,
                "query": {"term": {"propertyName": "n", "matchValue": 1}}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let state = Subscription {
                subscribed_link: format!("{QUERY_TASKS}/q"),
                query_spec: Some(spec),
                ..Subscription::default()
            };
            let told = Scope::of(&state).unwrap().told_of(br#"{"n":1,"m":2}"#.to_vec());
            told.map(|told| String::from_utf8(told).unwrap())
        };
        let whole = Some(r#"{"n":1,"m":2}"#.to_owned());
        assert_eq!(told(json!(["CONTINUOUS", "EXPAND_CONTENT"]), json!({})), whole);
        assert_eq!(told(json!(["CONTINUOUS"]), json!({})), None);
        assert_eq!(told(json!(["CONTINUOUS", "COUNT", "EXPAND_CONTENT"]), json!({})), None);
        let some = json!({"selectTerms": [{"propertyName": "m"}]});
        let selected = told(json!(["CONTINUOUS", "EXPAND_SELECTED_FIELDS"]), some);
        assert_eq!(selected, Some(r#"{"m":2}"#.to_owned()));
    }

    #[test]
    fn a_standing_query_finds_nothing_by_what_is_hidden() {
        let link = format!("{}/t", access::TOKENS);
        let token = document(&link, &json!({"userLink": "/core/authz/users/j", "digest": "abc"}));
        let guard = Guard { is_on: false, policy: Policy::of([token.clone()]).into() };
        let filter = guard.filter(&Principal::Anonymous).expect("there is something to hide");
        let news = |field, value, filter| {
            standing(field, value).news(&change(None, Some(token.clone())), filter)
        };
        assert_eq!(news("digest", "a*", None), Some(News::Added), "the field is there");
        assert_eq!(news("digest", "a*", Some(&filter)), None, "and tells nobody its letters");
        assert_eq!(news("userLink", "*/j", Some(&filter)), Some(News::Added));
    }

    #[test]
    fn what_goes_out_of_sight_of_a_standing_query_is_deleted_or_unsaid() {
        let of = |name: &str| document("/core/examples/x", &json!({"name": name}));
        let query = standing("name", "a*");
        let changed = |before: Option<&str>, after: &str| {
            query.news(&change(before.map(of), Some(of(after))), None)
        };
        assert_eq!(changed(None, "ab"), Some(News::Added));
        assert_eq!(changed(Some("ab"), "ac"), Some(News::Updated));
        assert_eq!(changed(Some("ab"), "b"), None, "that it matches no more was not asked for");
        assert_eq!(changed(None, "b"), None);
        let expired = query.news(&change(Some(of("ab")), None), None);
        assert_eq!(expired, Some(News::Deleted));
        let hides = HitFilter::new(|_| false);
        assert_eq!(query.news(&change(None, Some(of("ab"))), Some(&hides)), None);
    }
}
