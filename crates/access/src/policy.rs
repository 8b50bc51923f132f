//! What all the documents of the rules say together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Bearer, Document, Moment};
use query::Candidate;

use crate::lives;
use crate::parsed::{self, Effect, Owners, Role, Selection, TokenBody, User, Verbs};
use crate::paths::{
    CREDENTIALS, INSTANCE_OWNERS, JOIN_TOKENS, RESOURCE_GROUPS, ROLES, TOKENS, USER_GROUPS, USERS,
    is_secret, name_in,
};
use crate::roles::BuiltInRole;
use crate::secrets::is_equal;
use crate::sessions::{Passwords, Session, Standing};

/// After this many tokens were put, those that have expired are thrown away.
const SWEEP_EVERY: u32 = 1_024;

/// What all the documents of the rules say together. Made of a node's own replicas, so it is as new
/// as they are.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    users: BTreeMap<Arc<str>, Known>,
    /// `None`: it has no query, and its members are those that name it.
    user_groups: BTreeMap<String, Option<Selection>>,
    /// `None`: it cannot be read.
    resource_groups: BTreeMap<String, Option<Selection>>,
    roles: BTreeMap<String, Option<Role>>,
    tokens: BTreeMap<String, Token>,
    /// The users that own an instance, by its name, and when that was written.
    owners: BTreeMap<String, (Owners, Moment)>,
    passwords: Passwords,
    has_secrets: bool,
    until_sweep: u32,
}

/// A user, with what follows from its groups.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    document: Document,
    /// When it was made, in microseconds since 1970.
    made: Option<u64>,
    email: String,
    pub(crate) built_in: BTreeSet<BuiltInRole>,
    pub(crate) rules: Vec<Rule>,
}

impl Known {
    /// Whether what has that mark, and was written then, belongs to this user and not to an earlier
    /// one of that name.
    pub(crate) fn is_one_of(&self, mark: Option<u64>, written: Moment) -> bool {
        lives::is_one_of(mark, written, self.made)
    }

    /// By what passwords are known to be this user's: the address, and when the user was made.
    fn names(&self) -> (&str, Option<u64>) {
        (&self.email, self.made)
    }
}

/// A role, as it concerns one user.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) role: String,
    pub(crate) effect: Effect,
    pub(crate) verbs: Verbs,
    /// `None`: nobody knows what is meant. Then it allows nothing, or denies everything.
    pub(crate) resources: Option<Selection>,
}

#[derive(Clone, Debug)]
struct Token {
    user: Arc<str>,
    user_made: Option<u64>,
    digest: String,
    expires: Moment,
    /// If a login has made it.
    session: Option<Box<Session>>,
}

impl Token {
    fn new(body: TokenBody, expires: Moment) -> Self {
        let TokenBody { user_link, digest, user_made_micros: user_made, .. } = body;
        let user: Arc<str> = user_link.into();
        let session = body
            .password_link
            .zip(body.password_mark)
            .map(|(password, mark)| Box::new(Session { user: Arc::clone(&user), password, mark }));
        Self { user, user_made, digest, expires, session }
    }

    fn has_expired(&self, now: Moment) -> bool {
        self.expires.0 != 0 && self.expires <= now
    }
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is no such token here. It may be too new for this replica.
    Token,
    /// Its secret is another one.
    Secret,
    Expired,
    /// Its user is gone.
    User,
    /// A login has made it, and its user's password is another one now.
    Password,
    /// The same by what is known here. The password may be too new for this replica.
    PasswordHere(Box<Session>),
}

impl Policy {
    /// What these documents say.
    pub fn of(documents: impl IntoIterator<Item = Document>) -> Self {
        let mut policy = Self::default();
        for document in documents {
            policy.take(&document);
        }
        policy.join_all();
        policy
    }

    /// A document of the rules has a new version.
    pub fn put(&mut self, document: &Document) {
        self.take(document);
        if let Some((user, _)) = self.users.get_key_value(document.link.as_str()) {
            let user = Arc::clone(user);
            self.join(&user);
        } else if !says_nothing_of_groups(&document.link) {
            self.join_all();
        }
        if self.until_sweep == 0 {
            self.until_sweep = SWEEP_EVERY;
            let now = document.updated;
            self.tokens.retain(|_, token| !token.has_expired(now));
        }
    }

    fn take(&mut self, document: &Document) {
        let link = document.link.as_str();
        if document.is_deleted() {
            self.users.remove(link);
            self.user_groups.remove(link);
            self.resource_groups.remove(link);
            self.roles.remove(link);
            self.tokens.remove(name_in(link, TOKENS).unwrap_or_default());
            self.passwords.remove(link);
            self.owners.remove(name_in(link, INSTANCE_OWNERS).unwrap_or_default());
            return;
        }
        let fields = document.body.to_map();
        if name_in(link, USERS).is_some() {
            let (built_in, rules) = (BTreeSet::new(), Vec::new());
            let made = parsed::user(&fields).ok().and_then(|user| user.made_micros);
            let email = fields.get("email").and_then(serde_json::Value::as_str).unwrap_or_default();
            let email = email.to_owned();
            let known = Known { document: document.clone(), made, email, built_in, rules };
            self.users.insert(link.into(), known);
        } else if name_in(link, USER_GROUPS).is_some() {
            let selection = parsed::selection(&fields).unwrap_or(None);
            self.user_groups.insert(link.to_owned(), selection);
        } else if name_in(link, RESOURCE_GROUPS).is_some() {
            let selection = parsed::selection(&fields).unwrap_or(None);
            self.resource_groups.insert(link.to_owned(), selection);
        } else if name_in(link, ROLES).is_some() {
            self.roles.insert(link.to_owned(), parsed::role(&fields).ok());
        } else if let Some(name) = name_in(link, TOKENS)
            && let Ok(token) = parsed::token(&fields)
        {
            self.tokens.insert(name.to_owned(), Token::new(token, document.expires));
            self.until_sweep = self.until_sweep.saturating_sub(1);
        } else if let Some(name) = name_in(link, INSTANCE_OWNERS) {
            // Owners that cannot be read are nobody: then the instance is for admins.
            let owners = parsed::owners(&fields).unwrap_or_default();
            self.owners.insert(name.to_owned(), (owners, document.updated));
        } else if is_secret(link) {
            self.has_secrets = true;
            if name_in(link, CREDENTIALS).is_some() {
                self.passwords.put(document);
            }
        }
    }

    fn join_all(&mut self) {
        for user in self.users.keys().cloned().collect::<Vec<_>>() {
            self.join(&user);
        }
    }

    /// Finds out which groups a user belongs to, and what follows from that.
    fn join(&mut self, user: &str) {
        let Some(known) = self.users.get(user) else { return };
        let groups = self.groups(&known.document);
        let built_in = groups.iter().filter_map(|group| BuiltInRole::of_group(group)).collect();
        let mut rules = Vec::new();
        for (link, role) in &self.roles {
            // What cannot be read was refused when it was written; it says nothing.
            let Some(role) = role.as_ref().filter(|role| groups.contains(&role.user_group)) else {
                continue;
            };
            let resources = self.resource_groups.get(&role.resource_group).cloned().flatten();
            let (effect, verbs) = (role.effect, role.verbs);
            rules.push(Rule { role: link.clone(), effect, verbs, resources });
        }
        let known = self.users.get_mut(user).expect("it was there just now");
        (known.built_in, known.rules) = (built_in, rules);
    }

    fn groups(&self, user: &Document) -> BTreeSet<String> {
        let User { user_group_links, outside_group_links, .. } =
            parsed::user(&user.body.to_map()).unwrap_or_default();
        let candidate = Candidate::from(user);
        let by_query = self.user_groups.iter().filter(|(_, selection)| {
            selection.as_ref().is_some_and(|it| it.query.evaluate(&candidate).is_some())
        });
        let mut groups: BTreeSet<String> = by_query.map(|(link, _)| link.clone()).collect();
        groups.extend(user_group_links);
        groups.extend(outside_group_links);
        groups
    }

    /// Whose token that is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn authenticate(&self, bearer: &Bearer, now: Moment) -> Result<Arc<str>, Unknown> {
        let token = self.tokens.get(&bearer.name).ok_or(Unknown::Token)?;
        self.hold(token, bearer, now)
    }

    /// The same, with the token's document as its owner has it.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn authenticate_by(
        &self,
        document: &serde_json::Map<String, serde_json::Value>,
        bearer: &Bearer,
        now: Moment,
    ) -> Result<Arc<str>, Unknown> {
        let body = parsed::token(document).map_err(|_| Unknown::Token)?;
        let expires = document.get("documentExpirationTimeMicros");
        let expires = Moment(expires.and_then(serde_json::Value::as_u64).unwrap_or(0));
        self.hold(&Token::new(body, expires), bearer, now)
    }

    fn hold(&self, token: &Token, bearer: &Bearer, now: Moment) -> Result<Arc<str>, Unknown> {
        if !is_equal(token.digest.as_bytes(), bearer.digest.as_bytes()) {
            return Err(Unknown::Secret);
        }
        if token.has_expired(now) {
            return Err(Unknown::Expired);
        }
        let (user, known) = self.users.get_key_value(&*token.user).ok_or(Unknown::User)?;
        if known.document.is_expired(now) || known.made != token.user_made {
            return Err(Unknown::User);
        }
        let Some(session) = &token.session else { return Ok(Arc::clone(user)) };
        match self.passwords.standing(session, known.names(), now) {
            Standing::Counts => Ok(Arc::clone(user)),
            Standing::Over => Err(Unknown::Password),
            Standing::InDoubt => Err(Unknown::PasswordHere(session.clone())),
        }
    }

    /// How many tokens of a user count.
    pub fn live_tokens_of(&self, user: &str, now: Moment) -> usize {
        let names = self.users.get(user).map_or(("", None), Known::names);
        let counts =
            |session: &Session| self.passwords.standing(session, names, now) == Standing::Counts;
        let own = self.tokens.values().filter(|token| *token.user == *user);
        own.filter(|token| !token.has_expired(now) && token.session.as_deref().is_none_or(counts))
            .count()
    }

    /// Whether there is such a user.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// When a user was made, in microseconds since 1970; `None` if that is not known.
    pub fn made_of(&self, user: &str) -> Option<u64> {
        self.users.get(user).and_then(|known| known.made)
    }

    pub(crate) fn user(&self, link: &str) -> Option<&Known> {
        self.users.get(link)
    }

    pub(crate) fn owner_of_token(&self, name: &str) -> Option<&str> {
        self.tokens.get(name).map(|token| &*token.user)
    }

    /// Whether a user is the one of that name to whom something belongs, by its mark, or by when it
    /// was written (see [`crate::is_one_of`]). Of a user who is not known here that is not known
    /// either: whoever decides about that user finds out.
    pub fn is_one_of(&self, user: &str, mark: Option<u64>, written: Moment) -> bool {
        self.users.get(user).is_none_or(|known| known.is_one_of(mark, written))
    }

    /// Whether a user owns an instance; `None` for one that belongs to nobody.
    pub fn owns(&self, user: &str, instance: &str) -> Option<bool> {
        let (owners, written) = self.owners.get(instance)?;
        if !owners.users.contains(user) {
            return Some(false);
        }
        let mut marks = owners.marks.iter().filter(|(link, _)| link == user).peekable();
        Some(match marks.peek() {
            Some(_) => marks.any(|(_, made)| self.is_one_of(user, Some(*made), *written)),
            None => self.is_one_of(user, None, *written),
        })
    }

    /// Its owners that count, by name.
    pub fn owners_of(&self, instance: &str) -> impl Iterator<Item = &str> {
        let users = self.owners.get(instance).map(|(owners, _)| owners.users.iter());
        let counts = move |user: &&String| self.owns(user, instance) == Some(true);
        users.into_iter().flatten().filter(counts).map(String::as_str)
    }

    /// Whether a password of that name is this user's, by the address: no user has that name, and
    /// no other one the address.
    pub(crate) fn is_address_of(&self, name: &str, user: &str) -> bool {
        let mut of_address = self.users.iter().filter(|(_, known)| known.email == name);
        let only = of_address.next().filter(|_| of_address.next().is_none());
        only.is_some_and(|(link, _)| **link == *user)
            && !self.users.contains_key(format!("{USERS}/{name}").as_str())
    }

    /// The roles that come with the cluster, as far as a user has them.
    pub fn built_in_roles(&self, user: &str) -> Vec<BuiltInRole> {
        self.users
            .get(user)
            .map(|known| known.built_in.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The links of the other roles of a user.
    pub fn roles(&self, user: &str) -> Vec<String> {
        let rules = self.users.get(user).map(|known| known.rules.iter());
        rules.into_iter().flatten().map(|rule| rule.role.clone()).collect()
    }

    /// Whether anybody is known at all.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether there is anything that queries must hide even when the rules do not count.
    pub(crate) fn has_secrets(&self) -> bool {
        self.has_secrets || !self.tokens.is_empty()
    }
}

/// A change of such a document changes nobody's groups, or only its own user's.
fn says_nothing_of_groups(link: &str) -> bool {
    let others = [TOKENS, JOIN_TOKENS, INSTANCE_OWNERS, USERS];
    is_secret(link) || others.iter().any(|factory| name_in(link, factory).is_some())
}
