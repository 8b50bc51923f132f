//! The scenario `rights`: some users get a right and lose it again, act by it in person and by
//! tasks, and nobody tries to do the same. All other clients act for the cluster itself.

use std::fmt;

use access::{BuiltInRole, TOKENS, USERS};
use protocol::{Bearer, Method, Principal, Request};
use random::Random;
use serde_json::{Value, json};

use crate::agenda::MILLISECOND;
use crate::jobs::Making;
use crate::tallies::{TALLIES, WALKS, Walk};

/// How many users there are.
const USERS_COUNT: usize = 2;

/// Of the secret of each user's token.
const DIGEST: &str = "digest";

/// What is done in it.
#[derive(Clone, Debug)]
pub(crate) enum RightsWork {
    /// An admin gives a user the right to write, or takes it away.
    Change { user: usize, is_given: bool },
    /// A user adds an entry to its own tally.
    Act { user: usize, entry: String, shows_token: bool },
    /// A user starts a task that does the same, slowly.
    Walk { user: usize, name: String, pause_millis: u64 },
    /// What was done for a user so far.
    Look { user: usize },
    /// How a task is.
    Task { name: String },
    /// Somebody who shows nothing, or a token that does not count.
    Nobody { way: usize, place: usize },
}

impl RightsWork {
    /// What is there before anything else.
    pub(crate) fn makings() -> Vec<Making> {
        (0..USERS_COUNT)
            .flat_map(|user| {
                let body = json!({"email": format!("u{user}"), "userGroupLinks": []});
                let token = json!({"userLink": user_link(user), "digest": DIGEST});
                [
                    Making::new(USERS, format!("u{user}"), body),
                    Making::new(TOKENS, format!("t{user}"), token),
                    Making::new(TALLIES, format!("u{user}"), json!({})),
                ]
            })
            .collect()
    }

    /// The first client is the admin. One at a time, the changes of a user have an order.
    /// `walk`: a task that the client has started.
    pub(crate) fn choose(
        (client, made): (usize, u64),
        walk: Option<&String>,
        rng: &mut Random,
    ) -> Option<Self> {
        let user = rng.index(USERS_COUNT);
        if client == 0 {
            // Mostly one is given what was taken, and the other way round.
            let is_given = rng.chance(500);
            return rng.chance(150).then_some(Self::Change { user, is_given });
        }
        let name = format!("c{client}-{made}");
        match rng.below(100) {
            0..30 => Some(Self::Act { user, entry: name, shows_token: rng.chance(500) }),
            30..35 => Some(Self::Walk { user, name, pause_millis: rng.between(50, 900) }),
            35..55 => Some(Self::Look { user }),
            55..65 => {
                Some(Self::Nobody { way: rng.index(WAYS.len()), place: rng.index(PLACES.len()) })
            }
            65..75 => walk.cloned().map(|name| Self::Task { name }),
            _ => None,
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Change { .. } | Self::Act { .. } | Self::Walk { .. } => true,
            Self::Nobody { place, .. } => PLACES[*place].0 != Method::Get,
            Self::Look { .. } | Self::Task { .. } => false,
        }
    }

    pub(crate) fn takes_key(&self) -> bool {
        self.is_write() && !matches!(self, Self::Nobody { .. })
    }

    pub(crate) fn request(&self) -> Request {
        let (request, who) = match self {
            Self::Change { user, is_given } => {
                let groups = match is_given {
                    true => vec![BuiltInRole::Writer.group_link()],
                    false => Vec::new(),
                };
                let patch = Request::new(Method::Patch, user_link(*user));
                (patch.with_json(&json!({ "userGroupLinks": groups })), Principal::System)
            }
            Self::Act { user, entry, shows_token } => {
                let add = Request::new(Method::Patch, tally(*user));
                let who = match shows_token {
                    true => token(&format!("t{user}"), DIGEST),
                    false => Principal::User(user_link(*user).as_str().into()),
                };
                (add.with_json(&json!({ "add": entry })), who)
            }
            Self::Walk { user, name, pause_millis } => {
                let walk = Walk {
                    name: name.clone(),
                    tallies: vec![tally(*user)],
                    steps: 20,
                    wide: 1,
                    pause_micros: pause_millis * MILLISECOND,
                    step: 0,
                    route: 0,
                    taken: Vec::new(),
                    skipped: Vec::new(),
                };
                let mut body = serde_json::to_value(walk).expect("a walk is JSON");
                body["documentSelfLink"] = name.as_str().into();
                let who = Principal::User(user_link(*user).as_str().into());
                (Request::new(Method::Post, WALKS).with_json(&body), who)
            }
            Self::Look { user } => (Request::get(&tally(*user)), Principal::System),
            Self::Task { name } => (Request::get(&format!("{WALKS}/{name}")), Principal::System),
            Self::Nobody { way, place } => {
                let (method, path) = PLACES[*place];
                let request = Request::new(method, path);
                let body = json!({"add": "by nobody", "userGroupLinks": [], "name": "nobody"});
                let request = match method {
                    Method::Get | Method::Delete => request,
                    _ => request.with_json(&body),
                };
                (request, WAYS[*way]())
            }
        };
        request.on_behalf_of(who)
    }
}

/// What nobody can show.
const WAYS: [fn() -> Principal; 4] = [
    || Principal::Anonymous,
    || token("made-up", DIGEST),
    || token("t0", "another digest"),
    || Principal::User(format!("{USERS}/gone").as_str().into()),
];

/// Where nobody tries it.
const PLACES: [(Method, &str); 7] = [
    (Method::Patch, "/sim/tallies/u0"),
    (Method::Get, "/sim/tallies/u1"),
    (Method::Delete, "/sim/tallies/t0"),
    (Method::Post, WALKS),
    (Method::Patch, "/core/authz/users/u0"),
    (Method::Delete, protocol::node_group::MANAGEMENT_LINK),
    (Method::Get, "/core/examples"),
];

fn token(name: &str, digest: &str) -> Principal {
    let (name, digest) = (name.to_owned(), digest.to_owned());
    Principal::Bearer(Box::new(Bearer { name, digest, is_checked: false }))
}

fn user_link(user: usize) -> String {
    format!("{USERS}/u{user}")
}

fn tally(user: usize) -> String {
    format!("{TALLIES}/u{user}")
}

/// How many entries a tally has.
pub(crate) fn entries(tally: &Value) -> usize {
    tally["entries"].as_array().map_or(0, Vec::len)
}

impl fmt::Display for RightsWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change { user, is_given: true } => write!(f, "give user {user} the right"),
            Self::Change { user, is_given: false } => write!(f, "take the right of user {user}"),
            Self::Act { user, entry, shows_token } => {
                write!(f, "user {user} adds {entry}, by a token: {shows_token}")
            }
            Self::Walk { user, name, .. } => write!(f, "user {user} starts the walk {name}"),
            Self::Look { user } => write!(f, "what was done for user {user}"),
            Self::Task { name } => write!(f, "how the walk {name} is"),
            Self::Nobody { way, place } => {
                let (method, path) = PLACES[*place];
                write!(f, "nobody asks in way {way}: {} {path}", method.name())
            }
        }
    }
}
