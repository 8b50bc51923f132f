//! The documents of the rules, read. What cannot be read is refused when it is written.

use std::collections::BTreeSet;

use protocol::query::{Occurance, Query, QuerySpecification};
use protocol::{Method, Problem};
use query::{ALL_FIELDS, CompiledQuery};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::lives;
use crate::paths::{RESOURCE_GROUPS, USER_GROUPS, USERS, name_in};

/// The fields of a document that every document of its factory shares, or that its link says.
const OF_THE_KIND: &str = "documentKind";
const OF_THE_LINK: [&str; 2] = ["documentSelfLink", OF_THE_KIND];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct User {
    pub(crate) user_group_links: Vec<String>,
    /// Those that the issuer of an outside user names.
    pub(crate) outside_group_links: Vec<String>,
    pub(crate) made_micros: Option<u64>,
}

/// The field of a user that says when it was made, in microseconds since 1970. It tells one user
/// from an earlier one of that name.
pub const MADE: &str = "madeMicros";

/// The same of its user, in a token and in a password.
pub const USER_MADE: &str = "userMadeMicros";

/// The field of an instance's owners that says when each was made: see [`crate::owner_made`].
pub const OWNERS_MADE: &str = "userMarks";

/// The fields of a token that was made by a login: the link of the password's document, and its
/// [`crate::password_mark`].
pub const PASSWORD_LINK: &str = "passwordLink";
pub const PASSWORD_MARK: &str = "passwordMark";

/// Which documents or users somebody means.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) query: CompiledQuery,
    /// The link and the kind say it all.
    pub(crate) is_of_links: bool,
    /// The kind alone does.
    pub(crate) is_of_kinds: bool,
    /// Some clause says what must not be.
    pub(crate) has_exceptions: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Effect {
    #[default]
    Allow,
    Deny,
}

/// A few verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verbs(u8);

impl Verbs {
    pub(crate) fn has(self, verb: Method) -> bool {
        self.0 & Self::bit(verb) != 0
    }

    fn bit(verb: Method) -> u8 {
        1 << match verb {
            Method::Get => 0,
            Method::Post => 1,
            Method::Put => 2,
            Method::Patch => 3,
            Method::Delete => 4,
            Method::Options => 5,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) user_group: String,
    pub(crate) resource_group: String,
    pub(crate) verbs: Verbs,
    pub(crate) effect: Effect,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TokenBody {
    pub(crate) user_link: String,
    pub(crate) digest: String,
    /// When its user was made, in microseconds since 1970.
    pub(crate) user_made_micros: Option<u64>,
    /// Both, if a login has made it.
    pub(crate) password_link: Option<String>,
    pub(crate) password_mark: Option<String>,
}

fn bad(text: impl Into<String>) -> Problem {
    Problem::bad_request(text)
}

fn read<T: for<'a> Deserialize<'a>>(fields: &Map<String, Value>, what: &str) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields.clone()))
        .map_err(|error| bad(format!("{what} cannot be read: {error}")))
}

fn linked(link: &str, factory: &str, field: &str) -> Result<(), Problem> {
    match name_in(link, factory) {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(bad(format!("{field} is '{link}'; it must be a link below {factory}"))),
    }
}

pub(crate) fn user(fields: &Map<String, Value>) -> Result<User, Problem> {
    let user: User = read(fields, "the user")?;
    for link in &user.user_group_links {
        linked(link, USER_GROUPS, "userGroupLinks")?;
    }
    for link in &user.outside_group_links {
        linked(link, USER_GROUPS, "outsideGroupLinks")?;
    }
    Ok(user)
}

/// The `query` of a group; `None` when there is none.
pub(crate) fn selection(fields: &Map<String, Value>) -> Result<Option<Selection>, Problem> {
    let Some(query) = fields.get("query").filter(|query| !query.is_null()) else { return Ok(None) };
    // Read as in a query, so that what is misspelt is named.
    let specification = Value::Object(Map::from_iter([("query".to_owned(), query.clone())]));
    let QuerySpecification { mut query, .. } = query::parse_specification(&specification)?;
    of_fields_only(&mut query);
    let has_exceptions = has_exceptions(&query);
    let specification = QuerySpecification { query, ..QuerySpecification::default() };
    let query = CompiledQuery::of_stored(&specification)?;
    let is_of_links = query.names_only(&OF_THE_LINK);
    let is_of_kinds = query.names_only(&[OF_THE_KIND]);
    Ok(Some(Selection { query, is_of_links, is_of_kinds, has_exceptions }))
}

/// The same of one that comes in: it must not be too much work. What was taken by an earlier
/// release goes on to hold, or a role that denies would allow.
fn new_selection(fields: &Map<String, Value>) -> Result<Option<Selection>, Problem> {
    let selection = selection(fields)?;
    if let Some(selection) = &selection {
        selection.query.check_weight()?;
    }
    Ok(selection)
}

fn has_exceptions(query: &Query) -> bool {
    query.occurance == Occurance::MustNotOccur
        || query.boolean_clauses.iter().flatten().any(has_exceptions)
}

/// A term of a rule asks for the field itself. What lies within an object there was put in by
/// somebody who may write the document, and gives nobody a right.
fn of_fields_only(query: &mut Query) {
    if let Some(term) = &mut query.term
        && term.property_name != ALL_FIELDS
    {
        term.within.get_or_insert(false);
    }
    query.boolean_clauses.iter_mut().flatten().for_each(of_fields_only);
}

pub(crate) fn role(fields: &Map<String, Value>) -> Result<Role, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Body {
        user_group_link: String,
        resource_group_link: String,
        verbs: Vec<String>,
        policy: Effect,
    }
    let body: Body = read(fields, "the role")?;
    linked(&body.user_group_link, USER_GROUPS, "userGroupLink")?;
    linked(&body.resource_group_link, RESOURCE_GROUPS, "resourceGroupLink")?;
    if body.verbs.is_empty() {
        return Err(bad("verbs is empty; name at least one of GET, POST, PUT, PATCH, DELETE"));
    }
    let mut verbs = Verbs::default();
    for name in &body.verbs {
        let all = [
            Method::Get,
            Method::Post,
            Method::Put,
            Method::Patch,
            Method::Delete,
            Method::Options,
        ];
        let Some(verb) = all.into_iter().find(|verb| verb.name() == name) else {
            return Err(bad(format!(
                "verbs has '{name}'; there are GET, POST, PUT, PATCH, DELETE and OPTIONS"
            )));
        };
        verbs.0 |= Verbs::bit(verb);
    }
    Ok(Role {
        user_group: body.user_group_link,
        resource_group: body.resource_group_link,
        verbs,
        effect: body.policy,
    })
}

pub(crate) fn token(fields: &Map<String, Value>) -> Result<TokenBody, Problem> {
    let token: TokenBody = read(fields, "the token")?;
    linked(&token.user_link, USERS, "userLink")?;
    if token.digest.is_empty() {
        return Err(bad("a token is made by POST /core/authn/basic or `amrita token create`"));
    }
    if token.password_link.is_some() != token.password_mark.is_some() {
        return Err(bad("passwordLink and passwordMark belong together"));
    }
    Ok(token)
}

/// Whose an instance is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    pub(crate) users: BTreeSet<String>,
    /// When they were made; more than once for one that was named in several lives.
    pub(crate) marks: BTreeSet<(String, u64)>,
}

pub(crate) fn owners(fields: &Map<String, Value>) -> Result<Owners, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Body {
        user_links: BTreeSet<String>,
        user_marks: BTreeSet<String>,
    }
    let body: Body = read(fields, "the owners")?;
    for link in &body.user_links {
        linked(link, USERS, "userLinks")?;
    }
    if body.user_links.is_empty() {
        return Err(bad("userLinks is empty; name at least one user"));
    }
    let mark = |mark: &String| {
        let read = lives::read_owner_made(mark).map(|(link, made)| (link.to_owned(), made));
        read.ok_or_else(|| bad(format!("{OWNERS_MADE} has '{mark}': leave it out")))
    };
    let marks = body.user_marks.iter().map(mark).collect::<Result<_, _>>()?;
    Ok(Owners { users: body.user_links, marks })
}

/// # Errors
/// What is wrong with the owners of an instance.
pub fn check_owners(fields: &Map<String, Value>) -> Result<(), Problem> {
    owners(fields).map(drop)
}

/// # Errors
/// What is wrong with the fields of a user.
pub fn check_user(fields: &Map<String, Value>) -> Result<(), Problem> {
    user(fields).map(drop)
}

/// # Errors
/// What is wrong with the fields of a group of users.
pub fn check_user_group(fields: &Map<String, Value>) -> Result<(), Problem> {
    new_selection(fields).map(drop)
}

/// # Errors
/// What is wrong with the fields of a group of resources.
pub fn check_resource_group(fields: &Map<String, Value>) -> Result<(), Problem> {
    match new_selection(fields)? {
        Some(_) => Ok(()),
        None => Err(bad("query is missing; say which resources are meant")),
    }
}

/// # Errors
/// What is wrong with the fields of a role.
pub fn check_role(fields: &Map<String, Value>) -> Result<(), Problem> {
    role(fields).map(drop)
}

/// # Errors
/// What is wrong with the fields of a token.
pub fn check_token(fields: &Map<String, Value>) -> Result<(), Problem> {
    token(fields).map(drop)
}
