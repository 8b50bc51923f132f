//! Who asks, and what somebody may do.

use access::{BuiltInRole, CAN_I, Guard, Needs, Reason, Thing, WHO_AM_I, decide};
use protocol::{Code, Method, Principal, Problem, Request, Response};
use serde_json::{Value, json};

use super::plan::{check_fields, parse_body};
use super::surface::Resource;
use crate::view::View;

/// # Errors
/// What is wrong with the request. `None`: it is not about that.
pub(super) fn plan(request: &Request, view: &View<'_>) -> Result<Option<Response>, Problem> {
    let body = match request.path.as_str() {
        WHO_AM_I => who_am_i(request, &view.shard.handlers.guard),
        CAN_I => can_i(request, view)?,
        _ => return Ok(None),
    };
    Ok(Some(Response::json(200, &body)))
}

fn who_am_i(request: &Request, guard: &Guard) -> Value {
    let user = request.principal.user();
    let (built_in, roles) = match user {
        Some(user) => (guard.policy.built_in_roles(user), guard.policy.roles(user)),
        None => (Vec::new(), Vec::new()),
    };
    let built_in: Vec<&str> = built_in.into_iter().map(BuiltInRole::name).collect();
    json!({
        "userLink": user.map(|user| user.to_string()),
        "isLoggedIn": user.is_some(),
        "isSecurityOn": guard.is_on,
        "builtInRoles": built_in,
        "roleLinks": roles,
    })
}

fn can_i(request: &Request, view: &View<'_>) -> Result<Value, Problem> {
    let guard = &view.shard.handlers.guard;
    let body = parse_body(&request.body)?;
    check_fields(&body, "the question whether one may", &["verb", "link", "as"])?;
    if let Some(other) = Some(&body["as"]).filter(|it| !it.is_null() && !it.is_string()) {
        return Err(Problem::bad_request(format!("'as' is the name of a user, not {other}")));
    }
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (Some(verb), Some(link)) = (text("verb"), text("link")) else {
        return Err(Problem::bad_request("'verb' and 'link' are needed: GET, /core/examples/one"));
    };
    let verb = Method::parse(&verb)
        .ok_or_else(|| Problem::bad_request(format!("there is no verb '{verb}'")))?;
    let asker = &request.principal;
    let is_admin = !guard.is_on
        || asker
            .user()
            .is_some_and(|user| guard.policy.built_in_roles(user).contains(&BuiltInRole::Admin));
    let who = match text("as") {
        None => asker.clone(),
        Some(user) => {
            let user = if user.contains('/') { user } else { format!("{}/{user}", access::USERS) };
            let user = Principal::User(user.as_str().into());
            if user != *asker && !is_admin {
                let text = "only an admin may ask about others";
                return Err(Problem::new(Code::AccessDenied, text));
            }
            user
        }
    };
    let decision = on(&who, verb, &link, view)?;
    let reason = match &decision.reason {
        // To others the difference would tell what is hidden.
        Reason::DeniedBy(_) | Reason::NoRole if !is_admin => {
            "no role allows it, or one denies it".to_owned()
        }
        reason => reason.to_string(),
    };
    let shown = who.shown();
    Ok(json!({ "isAllowed": decision.is_allowed, "reason": reason, "verb": verb.name(),
        "link": link, "as": shown, "isSecurityOn": guard.is_on }))
}

/// The decision as it would be made now, by this node's own replicas.
pub(super) fn on(
    who: &Principal,
    verb: Method,
    link: &str,
    view: &View<'_>,
) -> Result<access::Decision, Problem> {
    let policy = &view.shard.handlers.guard.policy;
    let (path, utility) = protocol::links::split_utility(link);
    if let (Some("stats"), Some(spec)) = (utility, view.catalogue().spec(path)) {
        let thing = Thing::All { factory: &spec.factory, kind: &spec.kind };
        return Ok(decide(policy, who, verb, &thing));
    }
    let is_document = view.catalogue().spec_of(path).is_some();
    let needs = Resource::needs(&Request::new(verb, link), view.catalogue());
    if !is_document || matches!(needs, Some(Needs::Right | Needs::Login | Needs::Nothing)) {
        return Ok(decide(policy, who, verb, &Thing::Path(path)));
    }
    let group = view.topology().partition_of(path);
    let document = match view.shard.partitions.get(&group) {
        None => None,
        Some(replica) => {
            let latest = replica.machine().partition().latest(&*view.shard.store, path);
            latest.map_err(|error| Problem::new(Code::Storage, error.to_string()))?
        }
    };
    let live = document.as_deref().filter(|it| !it.is_deleted() && !it.is_expired(view.now.wall));
    let kind = view.catalogue().spec_of(path).map_or("", |spec| spec.kind.as_str());
    let thing = match live {
        Some(document) => Thing::Document(document.into()),
        None => Thing::Missing { link: path, kind },
    };
    Ok(decide(policy, who, verb, &thing))
}
