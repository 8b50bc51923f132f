//! The decision against one that is made the long way round, straight from what was generated.

mod documents;

use access::{Guard, Policy, Thing, decide, shown};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use protocol::{Action, Document, Method, Moment, Principal};
use query::{Candidate, CompiledQuery};
use serde_json::{Map, Value, json};

use documents::document;

const TEAMS: [&str; 3] = ["red", "green", "blue"];
const VERBS: [Method; 5] = [Method::Get, Method::Post, Method::Patch, Method::Delete, Method::Put];
const BUILT_IN: [&str; 4] = ["admins", "operators", "writers", "readers"];
/// When all users were made.
const MADE: u64 = 7;
const FACTORIES: [&str; 3] = ["/core/examples", "/core/notes", "/shop/orders"];

#[derive(Clone, Debug)]
enum Means {
    Factory(usize),
    Tenant(usize),
    NotTenant(usize),
    FactoryAndTenant(usize, usize),
    FactoryOrTenant(usize, usize),
    Kind,
}

#[derive(Clone, Debug)]
struct RoleMade {
    group: usize,
    resources: usize,
    verbs: Vec<usize>,
    denies: bool,
}

#[derive(Clone, Debug)]
struct World {
    /// The team of each user, the groups that it names, and one that comes with the cluster.
    users: Vec<(usize, Vec<usize>, Option<usize>)>,
    /// Members are those that name the group, and those of the team.
    groups: Vec<Option<usize>>,
    resources: Vec<Means>,
    roles: Vec<RoleMade>,
    /// The factory and the tenant.
    documents: Vec<(usize, usize)>,
    /// Of an instance: the user, and whether it is that user or an earlier one of the name. `None`:
    /// the instance is nobody's.
    owners: Option<Vec<(usize, bool)>>,
    order: u64,
}

fn means() -> impl Strategy<Value = Means> {
    prop_oneof![
        (0..3_usize).prop_map(Means::Factory),
        (0..3_usize).prop_map(Means::Tenant),
        (0..3_usize).prop_map(Means::NotTenant),
        (0..3_usize, 0..3_usize).prop_map(|(a, b)| Means::FactoryAndTenant(a, b)),
        (0..3_usize, 0..3_usize).prop_map(|(a, b)| Means::FactoryOrTenant(a, b)),
        Just(Means::Kind),
    ]
}

fn role() -> impl Strategy<Value = RoleMade> {
    (0..3_usize, 0..3_usize, proptest::collection::vec(0..5_usize, 1..4), any::<bool>())
        .prop_map(|(group, resources, verbs, denies)| RoleMade { group, resources, verbs, denies })
}

fn world() -> impl Strategy<Value = World> {
    let user = (
        0..3_usize,
        proptest::collection::vec(0..3_usize, 0..3),
        proptest::option::weighted(0.3, 0..4_usize),
    );
    (
        proptest::collection::vec(user, 1..4),
        proptest::collection::vec(proptest::option::of(0..3_usize), 3),
        proptest::collection::vec(means(), 3),
        proptest::collection::vec(role(), 0..6),
        proptest::collection::vec((0..3_usize, 0..3_usize), 1..6),
        proptest::option::of(proptest::collection::vec((0..3_usize, any::<bool>()), 1..3)),
        any::<u64>(),
    )
        .prop_map(|(users, groups, resources, roles, documents, owners, order)| World {
            users,
            groups,
            resources,
            roles,
            documents,
            owners,
            order,
        })
}

fn term(name: &str, value: &str, how: &str, occurance: &str) -> Value {
    json!({"occurance": occurance,
        "term": {"propertyName": name, "matchValue": value, "matchType": how}})
}

fn query_of(means: &Means) -> Value {
    let factory = |at: usize| {
        term("documentSelfLink", &format!("{}/", FACTORIES[at]), "PREFIX", "MUST_OCCUR")
    };
    let tenant = |at: usize, occurance: &str| term("tenant", TEAMS[at], "TERM", occurance);
    match means {
        Means::Factory(at) => factory(*at),
        Means::Tenant(at) => tenant(*at, "MUST_OCCUR"),
        Means::NotTenant(at) => json!({"booleanClauses": [tenant(*at, "MUST_NOT_OCCUR")]}),
        Means::FactoryAndTenant(a, b) => {
            json!({"booleanClauses": [factory(*a), tenant(*b, "MUST_OCCUR")]})
        }
        Means::FactoryOrTenant(a, b) => {
            let mut either = factory(*a);
            either["occurance"] = "SHOULD_OCCUR".into();
            json!({"booleanClauses": [either, tenant(*b, "SHOULD_OCCUR")]})
        }
        Means::Kind => term("documentKind", "k", "TERM", "MUST_OCCUR"),
    }
}

fn user_link(n: usize) -> String {
    format!("{}/u{n}", access::USERS)
}

fn group_link(n: usize) -> String {
    format!("{}/g{n}", access::USER_GROUPS)
}

fn resource_link(n: usize) -> String {
    format!("{}/r{n}", access::RESOURCE_GROUPS)
}

impl World {
    fn rules(&self) -> Vec<Document> {
        let mut all = Vec::new();
        for (n, (team, named, built_in)) in self.users.iter().enumerate() {
            let mut links: Vec<String> = named.iter().map(|group| group_link(*group)).collect();
            links.extend(built_in.map(|at| format!("{}/{}", access::USER_GROUPS, BUILT_IN[at])));
            let body = json!({"email": format!("u{n}@x"), "team": TEAMS[*team],
                "madeMicros": MADE, "userGroupLinks": links});
            all.push(document(user_link(n), &body));
        }
        if let Some(owners) = &self.owners {
            let links: Vec<String> = owners.iter().map(|(user, _)| user_link(*user)).collect();
            let marks = owners.iter().map(|(user, is_present)| {
                access::owner_made(&user_link(*user), if *is_present { MADE } else { MADE - 1 })
            });
            let body = json!({"userLinks": links, "userMarks": marks.collect::<Vec<_>>()});
            all.push(document(format!("{}/a", access::INSTANCE_OWNERS), &body));
        }
        for (n, team) in self.groups.iter().enumerate() {
            let query = team.map(|team| term("team", TEAMS[team], "TERM", "MUST_OCCUR"));
            all.push(document(group_link(n), &json!({"query": query})));
        }
        for (n, means) in self.resources.iter().enumerate() {
            all.push(document(resource_link(n), &json!({"query": query_of(means)})));
        }
        for (n, role) in self.roles.iter().enumerate() {
            let verbs: Vec<&str> = role.verbs.iter().map(|verb| VERBS[*verb].name()).collect();
            let body = json!({"userGroupLink": group_link(role.group), "verbs": verbs,
                "resourceGroupLink": resource_link(role.resources),
                "policy": if role.denies { "DENY" } else { "ALLOW" }});
            all.push(document(format!("{}/x{n}", access::ROLES), &body));
        }
        all
    }

    fn documents(&self) -> Vec<Document> {
        let made = self.documents.iter().enumerate().map(|(n, (factory, tenant))| {
            let link = format!("{}/d{n}", FACTORIES[*factory]);
            document(link, &json!({"tenant": TEAMS[*tenant]}))
        });
        made.collect()
    }

    /// The long way round.
    fn may(&self, user: usize, verb: usize, (factory, tenant): (usize, usize)) -> bool {
        let (team, named, built_in) = &self.users[user];
        let is_in = |group: usize| named.contains(&group) || self.groups[group] == Some(*team);
        let is_meant = |means: &Means| match means {
            Means::Factory(at) => *at == factory,
            Means::Tenant(at) => *at == tenant,
            Means::NotTenant(at) => *at != tenant,
            Means::FactoryAndTenant(a, b) => *a == factory && *b == tenant,
            Means::FactoryOrTenant(a, b) => *a == factory || *b == tenant,
            Means::Kind => true,
        };
        let mut allowed = match built_in {
            Some(0 | 2) => true,
            Some(3) => verb == 0,
            _ => false,
        };
        for role in &self.roles {
            let concerns = is_in(role.group)
                && role.verbs.contains(&verb)
                && is_meant(&self.resources[role.resources]);
            if concerns && role.denies {
                return false;
            }
            allowed |= concerns;
        }
        allowed
    }

    /// Whether a user may attach to the instance, which no role of these names.
    fn may_attach(&self, user: usize) -> bool {
        let built_in = self.users[user].2;
        match &self.owners {
            None => matches!(built_in, Some(0 | 2)),
            Some(owners) => built_in == Some(0) || owners.contains(&(user, true)),
        }
    }

    /// The same with one role that says the opposite, and the document that says so.
    fn changed(mut self) -> Option<(Self, Document)> {
        let number = usize::try_from(self.order % 8).expect("it is below 8");
        let role = self.roles.get_mut(number)?;
        role.denies = !role.denies;
        let link = format!("{}/x{number}", access::ROLES);
        let rules = self.rules();
        let rule = rules.into_iter().find(|rule| rule.link == link)?;
        Some((self, rule))
    }
}

fn shuffled(mut rules: Vec<Document>, mut seed: u64) -> Vec<Document> {
    for at in (1..rules.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let other = usize::try_from(seed >> 33).expect("31 bits fit") % (at + 1);
        rules.swap(at, other);
    }
    rules
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_decision_is_the_one_made_the_long_way_round(world in world()) {
        let rules = world.rules();
        let whole = Policy::of(rules.clone());
        let mut one_by_one = Policy::default();
        for rule in shuffled(rules, world.order) {
            one_by_one.put(&rule);
        }
        agrees(&world, &[&whole, &one_by_one])?;
        if let Some((other, rule)) = world.changed() {
            one_by_one.put(&rule);
            agrees(&other, &[&one_by_one])?;
        }
    }
}

fn agrees(world: &World, policies: &[&Policy]) -> Result<(), TestCaseError> {
    let whole = policies[0];
    for user in 0..world.users.len() {
        let who = Principal::User(user_link(user).as_str().into());
        let guard = Guard { is_on: true, policy: whole.clone().into() };
        let filter = guard.filter(&who).expect("a user sees what a role shows");
        let all = json!({"query": term("documentSelfLink", "*", "WILDCARD", "MUST_OCCUR")});
        let all = query::parse_specification(&all).expect("a specification");
        let all = CompiledQuery::new(&all).expect("a query");
        let query = all.filtered(filter);
        for (n, document) in world.documents().iter().enumerate() {
            let candidate = Candidate::from(document);
            for (verb, method) in VERBS.into_iter().enumerate() {
                let expected = world.may(user, verb, world.documents[n]);
                let thing = Thing::Document(candidate);
                for policy in policies {
                    let decision = decide(policy, &who, method, &thing);
                    prop_assert_eq!(decision.is_allowed, expected, "{:?} {}", decision, user);
                }
                if verb == 0 {
                    prop_assert_eq!(query.evaluate(&candidate).is_some(), expected);
                }
                // Of what is missing nobody learns more than of what is hidden.
                let missing = Thing::Missing { link: &document.link, kind: "k" };
                let of_missing = decide(whole, &who, method, &missing);
                let every =
                    (0..3).all(|tenant| world.may(user, verb, (world.documents[n].0, tenant)));
                prop_assert!(!of_missing.is_allowed || every);
            }
        }
        let attach = Thing::Path("/core/immortals/a/attach");
        let attaches = decide(whole, &who, Method::Post, &attach).is_allowed;
        prop_assert_eq!(attaches, world.may_attach(user), "{}", user);
        // What tells of all of them is for who may read each of them.
        for (at, factory) in FACTORIES.into_iter().enumerate() {
            let all = Thing::All { factory, kind: "k" };
            let sees = decide(whole, &who, Method::Get, &all).is_allowed;
            let each = (0..3).all(|tenant| world.may(user, 0, (at, tenant)));
            prop_assert!(!sees || each, "{} {}", user, factory);
        }
    }
    Ok(())
}

fn one_user(groups: &[&str]) -> Policy {
    let links: Vec<String> =
        groups.iter().map(|name| format!("{}/{name}", access::USER_GROUPS)).collect();
    let user = json!({"email": "u0@x", "userGroupLinks": links});
    let secret = json!({"userLink": user_link(0), "digest": "d0"});
    let mut token = document(format!("{}/t0", access::TOKENS), &secret);
    token.expires = Moment(100);
    Policy::of([document(user_link(0), &user), token])
}

fn may(policy: &Policy, verb: Method, path: &str) -> bool {
    let who = Principal::User(user_link(0).as_str().into());
    decide(policy, &who, verb, &Thing::Path(path)).is_allowed
}

#[test]
fn the_roles_that_come_with_the_cluster_reach_as_far_as_they_say() {
    let table = [
        ("/core/examples/one", "admins writers readers", "admins writers"),
        ("/core/management", "admins operators", "admins operators"),
        ("/core/node-groups/default", "admins operators writers readers", "admins operators"),
        ("/metrics", "admins operators", "admins operators"),
        ("/core/authz/roles/x", "admins", "admins"),
        ("/core/auth/credentials/other", "admins", "admins"),
        ("/core/immortals/a", "admins writers readers", "admins writers"),
        ("/core/backups/ff/1", "admins", "admins"),
        ("/core/managementx", "admins writers readers", "admins writers"),
    ];
    for group in BUILT_IN {
        let policy = one_user(&[group]);
        for (path, readers, writers) in table {
            assert_eq!(may(&policy, Method::Get, path), readers.contains(group), "{group} {path}");
            assert_eq!(may(&policy, Method::Put, path), writers.contains(group), "{group} {path}");
        }
    }
}

#[test]
fn a_role_of_ones_own_on_everything_reaches_no_backup() {
    let mut policy = one_user(&["readers"]);
    let everything = term("documentSelfLink", "/*", "WILDCARD", "MUST_OCCUR");
    policy.put(&document(resource_link(0), &json!({"query": everything})));
    let role = json!({"userGroupLink": format!("{}/readers", access::USER_GROUPS),
        "resourceGroupLink": resource_link(0), "verbs": ["GET", "POST", "DELETE"],
        "policy": "ALLOW"});
    policy.put(&document(format!("{}/wide", access::ROLES), &role));
    assert!(may(&policy, Method::Post, "/core/examples"), "the role is there");
    for (verb, path) in [
        (Method::Post, "/core/backups"),
        (Method::Get, "/core/backups/ff/1"),
        (Method::Delete, "/core/backups/ff"),
    ] {
        assert!(!may(&policy, verb, path), "{path}");
    }
    assert!(may(&policy, Method::Get, "/core/backupsx"), "another factory");
}

#[test]
fn everybody_may_look_after_what_is_their_own_and_nothing_else() {
    let policy = one_user(&[]);
    assert!(may(&policy, Method::Get, &user_link(0)));
    assert!(!may(&policy, Method::Patch, &user_link(0)), "or one could make oneself an admin");
    assert!(may(&policy, Method::Patch, "/core/auth/credentials/u0"));
    assert!(!may(&policy, Method::Put, "/core/auth/credentials/u0"));
    assert!(may(&policy, Method::Delete, "/core/auth/tokens/t0"));
    assert!(!may(&policy, Method::Delete, "/core/auth/tokens/t1"));
}

#[test]
fn a_token_is_made_for_oneself_and_by_admins_for_others() {
    let made_by = |policy: &Policy, owner: usize| {
        let body = json!({"userLink": user_link(owner), "digest": "d"});
        let token = document(format!("{}/new", access::TOKENS), &body);
        let who = Principal::User(user_link(0).as_str().into());
        decide(policy, &who, Method::Post, &Thing::Document(Candidate::from(&token))).is_allowed
    };
    let nobody = one_user(&["writers", "operators", "readers"]);
    assert!(made_by(&nobody, 0) && !made_by(&nobody, 1));
    assert!(made_by(&one_user(&["admins"]), 1));
    assert!(!may(&nobody, Method::Post, access::TOKENS), "nobody knows whose it would be");
}

/// A role of the group that denies these links to these verbs.
fn denies(policy: &mut Policy, group: &str, links: &str, verbs: &[&str]) {
    let means = term("documentSelfLink", links, "WILDCARD", "MUST_OCCUR");
    policy.put(&document(resource_link(0), &json!({"query": means})));
    let role = json!({"userGroupLink": format!("{}/{group}", access::USER_GROUPS),
        "resourceGroupLink": resource_link(0), "verbs": verbs, "policy": "DENY"});
    policy.put(&document(format!("{}/no", access::ROLES), &role));
}

#[test]
fn who_is_denied_is_denied_also_as_owner_as_admin_and_where_there_is_no_document() {
    let mut policy = one_user(&["readers"]);
    let owned = json!({"userLinks": [user_link(0)]});
    policy.put(&document(format!("{}/a", access::INSTANCE_OWNERS), &owned));
    let (move_it, path) = ("/core/immortals/a/move", "/core/immortals/a");
    assert!(may(&policy, Method::Post, move_it) && may(&policy, Method::Delete, path));
    denies(&mut policy, "readers", "/core/immortals/*", &["POST"]);
    assert!(!may(&policy, Method::Post, move_it), "an owner");
    assert!(may(&policy, Method::Delete, path), "of another verb nothing was said");
    let mut policy = one_user(&["admins"]);
    denies(&mut policy, "admins", "/core/management*", &["DELETE"]);
    assert!(!may(&policy, Method::Delete, "/core/management"), "an admin");
    assert!(may(&policy, Method::Get, "/core/management") && may(&policy, Method::Get, "/metrics"));
}

#[test]
fn a_token_is_taken_with_its_secret_until_it_expires_or_is_revoked() {
    use access::Unknown;
    let mut policy = one_user(&[]);
    let bearer = |name: &str, digest: &str| protocol::Bearer {
        name: name.into(),
        digest: digest.into(),
        is_checked: false,
    };
    let right = bearer("t0", "d0");
    assert_eq!(policy.authenticate(&right, Moment(99)).unwrap().as_ref(), user_link(0));
    assert_eq!(policy.authenticate(&right, Moment(100)), Err(Unknown::Expired));
    assert_eq!(policy.authenticate(&bearer("t0", "d1"), Moment(1)), Err(Unknown::Secret));
    assert_eq!(policy.authenticate(&bearer("t1", "d0"), Moment(1)), Err(Unknown::Token));
    let mut token = document(format!("{}/t0", access::TOKENS), &json!({}));
    token.action = Action::Delete;
    policy.put(&token);
    assert_eq!(policy.authenticate(&right, Moment(1)), Err(Unknown::Token));
    let mut policy = one_user(&[]);
    let mut user = document(user_link(0), &json!({}));
    user.action = Action::Delete;
    policy.put(&user);
    assert_eq!(policy.authenticate(&right, Moment(1)), Err(Unknown::User));
}

fn bearer_of(token: &str) -> protocol::Bearer {
    protocol::Bearer { name: token.into(), digest: "d".into(), is_checked: false }
}

/// The document of a password, under that name.
fn credentials(name: &str, hash: &str) -> Document {
    let body = json!({"userEmail": name, "privateKey": hash});
    document(format!("{}/{name}", access::CREDENTIALS), &body)
}

#[test]
fn a_login_ends_with_the_password_by_which_it_was_made_and_another_token_does_not() {
    use access::Unknown;
    let name = access::name_in(&user_link(0), access::USERS).unwrap().to_owned();
    let link = |name: &str| format!("{}/{name}", access::CREDENTIALS);
    let token = |token: &str, by: Option<(&str, &str)>| {
        let mut body = json!({"userLink": user_link(0), "digest": "d"});
        if let Some((name, hash)) = by {
            body["passwordLink"] = link(name).into();
            body["passwordMark"] = access::password_mark(hash).into();
        }
        document(format!("{}/{token}", access::TOKENS), &body)
    };
    let user = document(user_link(0), &json!({"email": "mail"}));
    let tokens = [
        token("own", Some((name.as_str(), "h1"))),
        token("mail", Some(("mail", "h1"))),
        token("other", Some(("other", "h1"))),
        token("service", None),
    ];
    let with = |passwords: &[Document]| {
        let all = [user.clone()].into_iter().chain(tokens.clone());
        Policy::of(all.chain(passwords.iter().cloned()))
    };
    let who = |policy: &Policy, token: &str| policy.authenticate(&bearer_of(token), Moment(60));
    let is_in_doubt = |who: Result<_, Unknown>| matches!(who, Err(Unknown::PasswordHere(_)));
    let mut policy = with(&[credentials(&name, "h1"), credentials("other", "h1")]);
    assert!(who(&policy, "own").is_ok() && who(&policy, "service").is_ok());
    // By a password that is not the user's nobody has logged in, or not any more.
    assert_eq!(who(&policy, "mail"), Err(Unknown::Password));
    assert_eq!(who(&policy, "other"), Err(Unknown::Password));
    policy.put(&credentials(&name, "h2"));
    assert!(is_in_doubt(who(&policy, "own")) && who(&policy, "service").is_ok());
    policy.put(&credentials(&name, "h1"));
    assert!(who(&policy, "own").is_ok());
    let mut gone = credentials(&name, "h1");
    gone.action = Action::Delete;
    policy.put(&gone);
    assert!(is_in_doubt(who(&policy, "own")) && who(&policy, "service").is_ok());
    // Without one of the user's name it is that of the user's address.
    let mut policy = with(&[credentials("mail", "h1")]);
    assert!(who(&policy, "mail").is_ok());
    policy.put(&credentials(&name, "h9"));
    assert_eq!(who(&policy, "mail"), Err(Unknown::Password));
    let mut brief = credentials(&name, "h1");
    brief.expires = Moment(60);
    policy = with(&[credentials("mail", "h1"), brief.clone()]);
    assert!(who(&policy, "mail").is_ok(), "one that has expired is not there for a login either");
    assert_eq!(who(&with(&[brief]), "own"), Err(Unknown::Password), "its time is over");
}

#[test]
fn the_owner_of_a_password_says_whether_a_login_counts() {
    use access::Unknown;
    let name = access::name_in(&user_link(0), access::USERS).unwrap().to_owned();
    let link = format!("{}/{name}", access::CREDENTIALS);
    let token = json!({"userLink": user_link(0), "digest": "d", "passwordLink": link,
        "passwordMark": access::password_mark("h2")});
    // This replica knows neither the token nor the new password.
    let policy = Policy::of([document(user_link(0), &json!({})), credentials(&name, "h1")]);
    let found = policy.authenticate_by(token.as_object().unwrap(), &bearer_of("t"), Moment(1));
    let Err(Unknown::PasswordHere(session)) = found else { panic!("{found:?}") };
    assert_eq!((session.password(), session.user().as_ref()), (link.as_str(), &*user_link(0)));
    let counts = |body: &Value| session.counts_by(body.as_object().unwrap());
    assert!(counts(&json!({"documentSelfLink": link, "privateKey": "h2"})));
    for other in [
        json!({"documentSelfLink": link, "privateKey": "h1"}),
        json!({"documentSelfLink": "/core/auth/credentials/joe", "privateKey": "h2"}),
        json!({"documentSelfLink": link}),
        json!({}),
    ] {
        assert!(!counts(&other), "{other}");
    }
}

#[test]
fn a_token_is_of_one_user_and_not_of_a_later_one_of_that_name() {
    use access::Unknown;
    let bearer = protocol::Bearer { name: "t".into(), digest: "d".into(), is_checked: false };
    for (user_made, token_made, counts) in [
        (json!(5), json!(5), true),
        (json!(9), json!(5), false),
        (json!(5), json!(9), false),
        (json!(5), Value::Null, false),
        (Value::Null, json!(5), false),
        // Both from before users said when they were made.
        (Value::Null, Value::Null, true),
    ] {
        let user = document(user_link(0), &json!({"madeMicros": user_made}));
        let token = json!({"userLink": user_link(0), "digest": "d", "userMadeMicros": token_made});
        let token = document(format!("{}/t", access::TOKENS), &token);
        let policy = Policy::of([user.clone(), token]);
        let who = policy.authenticate(&bearer, Moment(1));
        assert_eq!(who.is_ok(), counts, "{user_made} {token_made}");
        assert!(counts || who == Err(Unknown::User));
        assert_eq!(policy.live_tokens_of(&user_link(0), Moment(1)), 1);
        assert_eq!(policy.live_tokens_of(&user_link(1), Moment(1)), 0);
    }
    // A user whose time is over is none, whether or not its document is still there.
    let mut user = document(user_link(0), &json!({}));
    user.expires = Moment(50);
    let token = document(
        format!("{}/t", access::TOKENS),
        &json!({"userLink": user_link(0), "digest": "d"}),
    );
    let policy = Policy::of([user, token]);
    assert!(policy.authenticate(&bearer, Moment(49)).is_ok());
    assert_eq!(policy.authenticate(&bearer, Moment(50)), Err(Unknown::User));
}

#[test]
fn what_a_query_has_found_is_for_its_maker_and_for_admins() {
    let mut found = document("/core/query-tasks/q", &json!({"results": {}}));
    for (group, author, may_see) in [
        ("readers", Some(0), true),
        ("readers", Some(1), false),
        ("writers", Some(1), false),
        ("admins", Some(1), true),
        // It was made while nobody had to log in.
        ("readers", None, true),
    ] {
        found.author = author.map(|n| user_link(n).into());
        let policy = one_user(&[group]);
        let who = Principal::User(user_link(0).as_str().into());
        let thing = Thing::Document((&found).into());
        assert_eq!(decide(&policy, &who, Method::Get, &thing).is_allowed, may_see, "{group}");
        // A DELETE is answered with the last state.
        let may_delete = may_see && group != "readers";
        let deleted = decide(&policy, &who, Method::Delete, &thing).is_allowed;
        assert_eq!(deleted, may_delete, "{group}");
    }
}

#[test]
fn a_query_shows_no_digest() {
    let text = br#"{"userLink":"/core/authz/users/u0","digest":"d0","documentVersion":1}"#;
    for link in ["/core/auth/tokens/t", "/core/auth/join-tokens/t"] {
        let shown = access::without_secrets(link, text).expect("it has one");
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown, json!({"userLink": "/core/authz/users/u0", "documentVersion": 1}));
    }
    assert_eq!(access::without_secrets("/core/examples/one", text), None);
}

#[test]
fn a_role_without_its_resources_allows_nothing_and_denies_everything() {
    for (effect, group) in [("ALLOW", "g0"), ("DENY", "writers")] {
        let mut policy = one_user(&["g0", "writers"]);
        if effect == "ALLOW" {
            policy = one_user(&["g0"]);
        }
        let body = json!({"userGroupLink": format!("{}/{group}", access::USER_GROUPS),
            "resourceGroupLink": resource_link(9), "verbs": ["GET"], "policy": effect});
        policy.put(&document(format!("{}/x0", access::ROLES), &body));
        assert!(!may(&policy, Method::Get, "/core/examples/one"), "{effect}");
    }
}

#[test]
fn nobody_outside_reads_the_hash_of_a_password() {
    let body = json!({"userEmail": "u0@x", "privateKey": "$argon2id$..."});
    let credentials = document("/core/auth/credentials/u0", &body);
    let admin = Principal::User(user_link(0).as_str().into());
    for who in [admin, Principal::Anonymous] {
        let fields: Map<String, Value> = shown(&who, &credentials).body.to_map();
        assert_eq!(fields.get("privateKey"), None);
        assert_eq!(fields["userEmail"], "u0@x");
    }
    assert_eq!(shown(&Principal::System, &credentials).body, credentials.body);
    let guard = Guard { is_on: false, policy: Policy::of([credentials.clone()]).into() };
    let all = json!({"query": term("userEmail", "u0@x", "TERM", "MUST_OCCUR")});
    let all = CompiledQuery::new(&query::parse_specification(&all).unwrap()).unwrap();
    let candidate = Candidate::from(&credentials);
    assert!(all.evaluate(&candidate).is_some());
    let filtered = all.filtered(guard.filter(&Principal::Anonymous).unwrap());
    assert!(filtered.evaluate(&candidate).is_none(), "also while nobody has to log in");
}

#[test]
fn an_instance_belongs_to_its_owners_and_to_whom_a_role_names() {
    let link = format!("{}/a", access::INSTANCE_OWNERS);
    let owned = |by: usize| document(link.clone(), &json!({"userLinks": [user_link(by)]}));
    let verbs = |policy: &Policy| {
        [
            may(policy, Method::Get, "/core/immortals/a"),
            may(policy, Method::Post, "/core/immortals/a/impulses"),
            may(policy, Method::Post, "/core/immortals/a/move"),
            may(policy, Method::Post, "/core/immortals/a/attach"),
            may(policy, Method::Get, "/core/immortals/a/recording"),
            may(policy, Method::Delete, "/core/immortals/a"),
        ]
    };
    for (groups, owner, expected) in [
        (&["writers"][..], 1, [true, true, false, false, false, false]),
        (&["readers"], 1, [true, false, false, false, false, false]),
        (&["operators"], 1, [false; 6]),
        (&["admins"], 1, [true; 6]),
        (&[], 0, [true; 6]),
        (&["readers"], 0, [true; 6]),
        (&[], 1, [false; 6]),
    ] {
        let mut policy = one_user(groups);
        policy.put(&owned(owner));
        assert_eq!(verbs(&policy), expected, "{groups:?} {owner}");
        assert!(
            may(&policy, Method::Post, "/core/immortals/b/move") == groups.contains(&"writers")
                || groups.contains(&"admins"),
            "another one, that is nobody's"
        );
    }
    let mut policy = one_user(&["g0"]);
    policy.put(&owned(1));
    let means = term("documentSelfLink", "/core/immortals/a*", "WILDCARD", "MUST_OCCUR");
    policy.put(&document(resource_link(0), &json!({"query": means})));
    let role = json!({"userGroupLink": group_link(0), "resourceGroupLink": resource_link(0),
        "verbs": ["POST"]});
    policy.put(&document(format!("{}/x0", access::ROLES), &role));
    assert_eq!(verbs(&policy), [false, true, true, true, false, false], "as the role says");
    // An owner hands it over; a stranger does not take it.
    assert!(!may(&policy, Method::Patch, &link));
    policy.put(&owned(0));
    assert!(may(&policy, Method::Patch, &link) && !may(&policy, Method::Delete, &link));
    let mut gone = owned(0);
    gone.action = Action::Delete;
    policy.put(&gone);
    assert_eq!(policy.owns(&user_link(0), "a"), None);
}

#[test]
fn where_only_the_cluster_writes_an_admin_does_not_and_others_do_not_even_read() {
    for (groups, reads) in [(&["admins"][..], true), (&["writers", "operators"], false)] {
        let policy = one_user(groups);
        for path in [
            "/core/audit",
            "/core/audit/n1-1",
            "/core/audit-ends",
            "/core/audit-ends/n1",
            "/core/auth/authorities/cluster",
        ] {
            assert_eq!(may(&policy, Method::Get, path), reads, "{path}");
            for verb in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
                assert!(!may(&policy, verb, path), "{path}");
            }
        }
    }
    let body = json!({"certificate": "public", "privateKey": "secret"});
    let authority = document(access::OWN_AUTHORITY, &body);
    let admin = Principal::User(user_link(0).as_str().into());
    let fields = shown(&admin, &authority).body.to_map();
    assert_eq!((fields.get("privateKey"), &fields["certificate"]), (None, &json!("public")));
    let policy = Policy::of([authority.clone()]);
    let guard = Guard { is_on: false, policy: policy.into() };
    let all = json!({"query": term("certificate", "public", "TERM", "MUST_OCCUR")});
    let all = CompiledQuery::new(&query::parse_specification(&all).unwrap()).unwrap();
    assert!(all.evaluate(&Candidate::from(&authority)).is_some());
    let filtered = all.filtered(guard.filter(&Principal::Anonymous).unwrap());
    assert!(filtered.evaluate(&Candidate::from(&authority)).is_none());
}
