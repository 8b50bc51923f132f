//! `LINK/subscriptions`: who is told of the changes of a document, of the documents of a factory,
//! or of what a query finds from now on. In Xenon's forms.

use access::Thing;
use protocol::hash::hash_parts;
use protocol::query::{Query, QueryOption, QuerySpecification};
use protocol::subscription::{Continuous, KIND, LINK, Progress, Subscription, split_reference};
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response, links};
use serde_json::{Map, Value};

use super::plan::{Plan, parse_body};
use crate::change_token::encode;
use crate::frame::Question;
use crate::pages::Form;
use crate::subscriptions::{
    Target, check_machine, is_query_task, is_subscription, removal, stage_of, target,
};
use crate::view::View;
use crate::watches::now;
use crate::work::{Effects, Purpose, Work};

/// Gives a link that was deleted a new life.
const FORCE: &str = "xn-force-index-update";

/// What a subscriber may say. Typed clients send the counts as well, which are ours.
const KNOWN: [&str; 7] = [
    "reference",
    "replayState",
    "usePublicUri",
    "notificationLimit",
    "documentExpirationTimeMicros",
    "kind",
    "documentKind",
];
const OURS: [&str; 6] = [
    "notificationCount",
    "failedNotificationCount",
    "initialFailedNotificationTimeMicros",
    "documentVersion",
    "documentEpoch",
    "documentUpdateTimeMicros",
];

const EXPIRATION: &str = "documentExpirationTimeMicros";
/// Says to the service that there is no expiration: a 0 in a POST would say nothing.
const NEVER_ENDS: &str = "neverEnds";

/// # Errors
/// What is wrong with the request.
pub(super) fn plan(request: &Request, link: &str, view: &View<'_>) -> Result<Plan, Problem> {
    if is_subscription(link) {
        let text = "subscriptions tell of themselves with each notification, so nobody subscribes \
                    to them";
        return Err(Problem::bad_request(text));
    }
    match request.method {
        Method::Get => Ok(list(link)),
        Method::Delete => {
            let fields = fields_of(request)?;
            let reference = reference_of(&fields)?;
            let gone = removal(&link_of(link, reference, &request.principal), view.now.wall);
            let gone = gone.on_behalf_of(request.principal.clone());
            let group = view.topology().partition_of(&gone.path);
            Ok(Plan::Ask(group, Question::Rest(gone)))
        }
        _ => subscribe(request, link, view),
    }
}

/// Only the cluster writes subscriptions: what they say of whose rights count must be true.
///
/// # Errors
/// That nobody else may.
pub(super) fn check_writer(request: &Request) -> Result<(), Problem> {
    let is_write = matches!(request.method, Method::Post | Method::Put | Method::Patch);
    if !is_write || !is_subscription(&request.path) || request.principal == Principal::System {
        return Ok(());
    }
    let text = "subscriptions are made by POST of LINK/subscriptions, ended by DELETE, and written \
                by nobody but the cluster";
    Err(Problem::new(Code::AccessDenied, text))
}

/// A document for each who is told, by whoever wants it.
fn link_of(link: &str, reference: &str, principal: &Principal) -> String {
    let user = principal.user().map_or("", |user| user);
    let parts = [link.as_bytes(), reference.as_bytes(), user.as_bytes()];
    format!("{LINK}/{:016x}", hash_parts(parts))
}

fn list(link: &str) -> Plan {
    let mut specification = query::factory_query(LINK, Some(KIND));
    let of_link = Query::equal("subscribedLink", link);
    specification.query.boolean_clauses.get_or_insert_default().push(of_link);
    let specification =
        QuerySpecification { options: vec![QueryOption::ExpandContent], ..specification };
    Plan::Query(Box::new(specification), Form::Subscribers { link: link.to_owned() })
}

fn fields_of(request: &Request) -> Result<Map<String, Value>, Problem> {
    let Value::Object(mut fields) = parse_body(&request.body)? else {
        return Err(Problem::internal("a body was no object after it was checked"));
    };
    fields.retain(|_, value| !value.is_null());
    for name in ["kind", "documentKind"] {
        if let Some(kind) = fields.get(name).filter(|kind| *kind != KIND) {
            let text = format!("{name} is {kind}; that of a subscriber is {KIND}");
            return Err(Problem::bad_body(text));
        }
    }
    let is_idle = |name: &str, value: &Value| OURS.contains(&name) && *value == 0;
    let mut unknown = fields
        .iter()
        .filter(|(name, value)| !KNOWN.contains(&name.as_str()) && !is_idle(name, value));
    match unknown.next() {
        None => Ok(fields),
        Some((name, _)) => Err(Problem::bad_body(format!(
            "a subscriber has no field '{name}' that could be set; it has {}",
            KNOWN.join(", ")
        ))),
    }
}

fn reference_of(fields: &Map<String, Value>) -> Result<&str, Problem> {
    let reference = fields.get("reference").and_then(Value::as_str);
    reference.filter(|reference| !reference.is_empty()).ok_or_else(|| {
        let text = "reference is required: who is told, as http://host:port/path or as the link of \
                    a document of this cluster";
        Problem::bad_body(text)
    })
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, Problem> {
    match fields.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            Err(Problem::bad_body(format!("'{name}' must be true or false, not {other}")))
        }
    }
}

fn whole(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, Problem> {
    match fields.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            Problem::bad_body(format!("'{name}' must be a whole number, not {value}"))
        }),
    }
}

fn subscribe(request: &Request, link: &str, view: &View<'_>) -> Result<Plan, Problem> {
    let fields = fields_of(request)?;
    let reference = reference_of(&fields)?.to_owned();
    let notification_limit = whole(&fields, "notificationLimit")?;
    if notification_limit == Some(0) {
        return Err(Problem::bad_body("notificationLimit is 0, so that nothing would be told"));
    }
    let expires = whole(&fields, EXPIRATION)?.filter(|at| *at != 0);
    if expires.is_some_and(|at| at <= view.now.wall.0) {
        return Err(Problem::bad_body(format!("{EXPIRATION} has passed already")));
    }
    let catalogue = view.catalogue();
    let of_children = catalogue.spec(link).is_some();
    let principal = &request.principal;
    if of_children {
        let guard = &view.shard.handlers.guard;
        guard.check(principal, Method::Get, &Thing::Path(link)).map_err(for_a_write)?;
    }
    check_reference(request, (link, of_children), &reference, view)?;
    let user = principal.user().map(|user| user.to_string());
    let policy = &view.shard.handlers.guard.policy;
    let made = Subscription {
        subscribed_link: link.to_owned(),
        of_children,
        replay_state: flag(&fields, "replayState")?,
        use_public_uri: flag(&fields, "usePublicUri")?,
        notification_limit,
        principal_made_micros: user.as_deref().and_then(|user| policy.made_of(user)),
        principal_link: user,
        query_spec: None,
        begun_micros: 0,
        never_ends: false,
        progress: Progress {
            // Before the document is looked at: what changes afterwards is told.
            token: encode(view.topology_name(), &now(view)),
            ..Progress::default()
        },
        reference,
    };
    let place = link_of(link, &made.reference, principal);
    let mut body = serde_json::to_value(&made).expect("plain fields can be written");
    body["documentSelfLink"] = place.as_str().into();
    match expires {
        Some(at) => body[EXPIRATION] = at.into(),
        None => body[NEVER_ENDS] = true.into(),
    }
    let make = Request::new(Method::Post, LINK).with_json(&body);
    let make = Request { pragmas: vec![FORCE.to_owned()], ..make.on_behalf_of(Principal::System) };
    let look = (!of_children).then(|| Request::get(link).on_behalf_of(principal.clone()));
    Ok(Plan::Subscribe { look: look.map(Box::new), make: Box::new(make) })
}

/// # Errors
/// Why nobody may be told there.
fn check_reference(
    request: &Request,
    (link, of_children): (&str, bool),
    reference: &str,
    view: &View<'_>,
) -> Result<(), Problem> {
    let told = match target(reference, view) {
        Target::Outside => return check_outside(request, reference, view),
        Target::Link(told) => told,
    };
    links::check(&told)?;
    let spec = view.catalogue().spec_of(&told).filter(|_| !is_subscription(&told));
    let Some(spec) = spec else {
        return Err(Problem::bad_body(format!(
            "the reference {told} is no document of this cluster: one that is told of changes is \
             a document, such as /app/mirror/one"
        )));
    };
    let is_own = if of_children {
        links::split(&told).is_some_and(|(factory, _)| factory == link)
    } else {
        told == link
    };
    if is_own {
        let text = format!("{told} would be changed by each change of {link}, over and over");
        return Err(Problem::bad_body(text));
    }
    // Each notification is checked by the owner of the document; who could send none is told now.
    let (guard, thing) =
        (&view.shard.handlers.guard, Thing::Missing { link: &told, kind: &spec.kind });
    let may = |verb| guard.check(&request.principal, verb, &thing);
    may(Method::Put).or_else(|_| may(Method::Patch)).map_err(|problem| {
        let text = format!(
            "who has a document told must have the right to change it: {}",
            problem.message
        );
        Problem { message: text, ..problem }
    })
}

/// What was refused was asked with a write, and that is not done.
fn for_a_write(problem: Problem) -> Problem {
    problem.with_outcome(Outcome::NotApplied)
}

fn check_outside(request: &Request, reference: &str, view: &View<'_>) -> Result<(), Problem> {
    let (address, _) = split_reference(reference).map_err(Problem::bad_body)?;
    check_machine(&address, view).map_err(Problem::bad_body)?;
    let callbacks = &view.config.permits.callbacks;
    if !callbacks.allow(&address) {
        let text = format!(
            "nobody may be told at {address}: only addresses of the node's own machine are, and \
             those that every node's --callback-allow names. An operator adds {} there",
            address.authority()
        );
        return Err(Problem::new(Code::AccessDenied, text));
    }
    if address.is_tls() && !callbacks.has_authorities {
        let text = "nobody can be told over https: the nodes trust no authority. An operator sets \
                    --callback-ca to a file in PEM of those that sign such certificates";
        return Err(Problem::new(Code::AccessDenied, text));
    }
    let guard = &view.shard.handlers.guard;
    guard.check(&request.principal, Method::Post, &Thing::Path(LINK)).map_err(|problem| {
        let text = format!(
            "who has others told outside of the cluster needs the right to POST {LINK}: {}",
            problem.message
        );
        Problem { message: text, ..problem }
    })
}

/// What somebody wants to be told of has been looked at, with that one's rights: then the
/// subscription is made.
pub(crate) fn seen(
    (purpose, mut make): (Purpose, Request),
    response: Response,
    effects: &mut Effects,
) {
    if !response.is_success() {
        return effects.respond(&purpose, response);
    }
    match with_query(&make, &response) {
        Ok(None) => {}
        Ok(Some(body)) => make = make.with_json(&body),
        Err(problem) => {
            return effects.respond(&purpose, problem.with_outcome(Outcome::NotApplied));
        }
    }
    effects.push(Work::Enter(purpose, make));
}

/// Of a query task that goes on, what it asks is told, as long as it goes on.
fn with_query(make: &Request, response: &Response) -> Result<Option<Value>, Problem> {
    let seen = response.to_json();
    let link = seen["documentSelfLink"].as_str().unwrap_or_default();
    if !is_query_task(link) || Continuous::of(&seen["querySpec"]).is_none() {
        return Ok(None);
    }
    if stage_of(&seen).is_final() {
        return Err(Problem::bad_request(format!("the query {link} has ended: make another one")));
    }
    let mut body: Value = serde_json::from_slice(&make.body)
        .map_err(|error| Problem::internal(format!("a body cannot be read: {error}")))?;
    if body["reference"].as_str().is_some_and(|reference| reference.starts_with('/')) {
        return Err(Problem::bad_body(
            "a query tells nobody inside of the cluster: what it tells a document could match the \
             query. Give an address: http://host:port/path",
        ));
    }
    body["querySpec"] = seen["querySpec"].clone();
    let ends = seen[EXPIRATION].as_u64().filter(|at| *at != 0);
    let asked = body[EXPIRATION].as_u64();
    if let Some(at) = [ends, asked].into_iter().flatten().min() {
        body[EXPIRATION] = at.into();
        body[NEVER_ENDS] = false.into();
    }
    Ok(Some(body))
}
