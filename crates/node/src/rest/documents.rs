//! Documents, their factories, and the utilities of both.

use access::Thing;
use protocol::hash::hash_parts;
use protocol::links::{KINDS, kind_name};
use protocol::query::LINK as QUERY_TASKS;
use protocol::service::Handler;
use protocol::subscription::Continuous;
use protocol::{
    BUILT_IN_FIELDS, Code, Conditions, Document, GroupId, Method, Problem, Request, RequestKey,
    Response, links,
};
use query::{CompiledQuery, factory_specification, parse_specification};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::copies;
use super::explain;
use super::past;
use super::plan::{Plan, action_at, action_in, check_fields, parse_body};
use super::subscriptions;
use super::surface::{Header, QUEUE};
use super::undefine;
use super::watch;
use crate::frame::Question;
use crate::pages::{Form, List, Total, Trail};
use crate::view::View;

/// # Errors
/// What is wrong with the request.
pub(super) fn plan(mut request: Request, fresh: u64, view: &View<'_>) -> Result<Plan, Problem> {
    links::check(&request.path)?;
    subscriptions::check_writer(&request)?;
    asks_for_what_is_so(&mut request, view)?;
    let catalogue = view.catalogue();
    if catalogue.spec(&request.path).is_some() {
        return factory(request, fresh, view);
    }
    if let Some((document, action)) = action_at(&request.path, catalogue) {
        let (document, action) = (document.to_owned(), action.to_owned());
        return act(request, document, action, view);
    }
    let (path, utility) = links::split_utility(&request.path);
    let is_known = catalogue.spec(path).is_some() || catalogue.spec_of(path).is_some();
    if utility == Some("subscriptions") && is_known {
        return subscriptions::plan(&request, path, view);
    }
    if utility.is_some() && catalogue.spec(path).is_some() {
        return factory_utility(request, view);
    }
    if catalogue.spec_of(path).is_none() {
        let factories = factories_of(&request);
        if !factories.is_empty() {
            return Ok(Plan::Seek(Box::new(request), factories));
        }
        return Err(no_service(&request.path, view));
    }
    if watch::is_asked(&request)? {
        request.check_parameters(&["watch", "after", "wait", "before"])?;
        refuse_with(&request, "watch", &[Header::IfMatch, Header::IfNoneMatch])?;
        let one = query::document_query(path);
        return watch::plan(&request, one, path.to_owned(), view);
    }
    let (group, is_document) = (view.topology().partition_of(path), utility.is_none());
    if is_document {
        watch::check_is_asked(&request)?;
        request.check_parameters(&["documentVersion", "consistency", "asOf", "diff", "revert"])?;
        past::check_document(&mut request, view)?;
        if request.parameter("diff").is_some() {
            refuse_with(&request, "diff", &[Header::IfMatch, Header::IfNoneMatch])?;
        }
    }
    if explain::is_unreachable(group, view)
        && let Some(answer) = explain::without_owner(&request, group, view)
    {
        return Ok(Plan::Respond(answer));
    }
    if is_local(&request)? {
        refuse_with(&request, "consistency=local", &[])?;
        check_local(&request)?;
        return local(group, &request, view).map(Plan::Respond);
    }
    if let Some(plan) = undefine::plan_as_permitted(&request, view)? {
        return Ok(plan);
    }
    Ok(Plan::Ask(group, Question::Rest(request)))
}

/// An action is a change of a document, as a PATCH is.
fn act(
    mut request: Request,
    document: String,
    action: String,
    view: &View<'_>,
) -> Result<Plan, Problem> {
    if request.method != Method::Post {
        let text = format!("{} is an action, which is done with POST", request.path);
        return Err(Problem::new(Code::MethodNotAllowed, text));
    }
    let catalogue = view.catalogue();
    let (factory, _) = links::split(&document).expect("it was split before");
    let actions = catalogue.outside(factory).map_or(&[][..], |outside| outside.actions());
    if !actions.contains(&action) {
        return Err(services::no_action(factory, &action, actions));
    }
    let group = view.topology().partition_of(&document);
    (request.method, request.path, request.action) = (Method::Patch, document, Some(action));
    Ok(Plan::Ask(group, Question::Rest(request)))
}

/// What is not served here may be served by the programs of others.
fn no_service(path: &str, view: &View<'_>) -> Problem {
    let (own, _) = links::split_utility(path);
    let above = links::split(own).map(|(factory, _)| factory);
    let services = &view.control.services;
    let candidates = [Some(own), above].into_iter().flatten();
    let has = |factory: &str| Some((factory.to_owned(), services.who_has(factory)?));
    let Some((factory, id)) = candidates.into_iter().find_map(has) else {
        if services.knows_nobody() && view.members().len() > 1 {
            let text = format!(
                "this node has no service at {path}, and has not heard yet what others have: try \
                 again, or ask another node"
            );
            return Problem::new(Code::NoOwner, text);
        }
        let text = format!("there is no service at {path}; GET / lists the factories");
        return Problem::not_found(text);
    };
    let other = view.topology().members().get(&id);
    let other = other.map_or("another".to_owned(), |it| format!("{} ({})", it.node_id, it.uri));
    let text = format!(
        "the program of node {} has no service at {factory}, and that of node {other} has: ask \
         there, and run the same program on all nodes",
        view.config.node_id
    );
    Problem::new(Code::NoOwner, text)
}

/// The factories that a path may belong to, if somebody has defined them.
fn factories_of(request: &Request) -> Vec<String> {
    let (path, utility) = links::split_utility(&request.path);
    let own = Some(path);
    let above = links::split(path).map(|(factory, _)| factory);
    let order = if request.method == Method::Post { [own, above] } else { [above, own] };
    // A write other than POST goes to a document, and a factory has utilities as well.
    let is_write = request.method.is_write() && request.method != Method::Post;
    let of_action = action_in(path).and_then(|(document, _)| links::split(document));
    let of_action =
        of_action.filter(|_| request.method == Method::Post).map(|(factory, _)| factory);
    let order = of_action
        .into_iter()
        .chain(order.into_iter().flatten())
        .filter(|it| !is_write || utility.is_some() || Some(*it) == above);
    order.filter(|it| services::may_be_defined(it)).map(str::to_owned).collect()
}

/// Refuses what is passed over where a document is read in that way: to wait for one that is not
/// there (`xn-queue`), and these headers.
fn refuse_with(request: &Request, way: &str, headers: &[Header]) -> Result<(), Problem> {
    let Conditions { if_match, if_none_match } = &request.conditions;
    let is_there = |header: &Header| match header {
        Header::IfMatch => if_match.is_some(),
        Header::IfNoneMatch => if_none_match.is_some(),
        Header::Quorum | Header::Key => false,
    };
    let header = headers.iter().find(|header| is_there(header));
    let named = match (header, request.has_pragma(QUEUE)) {
        (Some(header), _) => format!("header {}", header.name()),
        (None, true) => format!("pragma '{QUEUE}'"),
        (None, false) => return Ok(()),
    };
    Err(Problem::bad_request(format!(
        "a GET with {way} does not take the {named}: it would be ignored. Leave it out"
    )))
}

/// Whether a read asks for this node's own replica.
fn is_local(request: &Request) -> Result<bool, Problem> {
    match request.parameter("consistency").as_deref() {
        None | Some("linearizable") => Ok(false),
        Some("local") => Ok(true),
        Some(other) => {
            let text = format!("'consistency' is linearizable or local, not '{other}'");
            Err(Problem::bad_request(text))
        }
    }
}

/// # Errors
/// When a read of this node's replica asks for what only the owner answers.
fn check_local(request: &Request) -> Result<(), Problem> {
    match ["asOf", "diff"].into_iter().find(|name| request.parameter(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(Problem::bad_request(format!(
            "'{name}' is answered by the owner, and consistency=local asks this node; leave one of \
             them out"
        ))),
    }
}

/// A version that is named in a request.
fn version(request: &Request) -> Result<Option<u64>, Problem> {
    let Some(text) = request.parameter("documentVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let text = format!("documentVersion must be a whole number from 0 up, not '{text}'");
        Problem::bad_request(text)
    })
}

/// A read of this node's own replica, however old that is.
fn local(group: GroupId, request: &Request, view: &View<'_>) -> Result<Response, Problem> {
    let Some(replica) = view.shard.partitions.get(&group) else {
        return Err(Problem::new(Code::NoOwner, "this node has no replica of it yet"));
    };
    if view.shard.is_astray(group) {
        let text = "the state of this node's replica was wrong and is being filled anew; ask \
                    another node, or without consistency=local";
        return Err(Problem::new(Code::NoOwner, text));
    }
    let partition = replica.machine().partition();
    let failed = |error: storage::StoreError| Problem::new(Code::Storage, error.to_string());
    let store = &*view.shard.store;
    let latest = partition.latest(store, &request.path).map_err(failed)?;
    let latest = latest.filter(|document| !document.is_expired(view.now.wall));
    let shown = match (latest, version(request)?) {
        (Some(_), Some(version)) => {
            partition.version(store, &request.path, version).map_err(failed)?.map(Into::into)
        }
        (latest, None) => latest.filter(|document| !document.is_deleted()),
        (None, Some(_)) => None,
    };
    let thing = match shown.as_deref() {
        Some(document) => Thing::Document(document.into()),
        None => {
            let kind = view.catalogue().spec_of(&request.path).map_or("", |spec| &spec.kind);
            Thing::Missing { link: &request.path, kind }
        }
    };
    let principal = &request.principal;
    view.shard.handlers.guard.check(principal, Method::Get, &thing)?;
    let mut response = match shown {
        Some(document) => shown_here(&document, request, view)?,
        None => {
            let text = format!("{} is not known to this replica", request.path);
            Problem::not_found(text).into()
        }
    };
    response.behind = Some(view.staleness(group));
    Ok(response)
}

fn shown_here(
    document: &Document,
    request: &Request,
    view: &View<'_>,
) -> Result<Response, Problem> {
    let group = view.topology().partition_of(&request.path);
    let owner = view.owner_of(group).and_then(|owner| view.node_id(owner));
    let response = Response::document(
        200,
        &access::shown(&request.principal, document),
        owner.unwrap_or(&document.owner),
    );
    let held = request.conditions.check(response.etag.as_deref(), false);
    held.map_err(|header| {
        let etag = response.etag.as_deref().unwrap_or_default();
        let text = format!("{}: {header}, found {etag} here; read it again", request.path);
        Problem::new(Code::PreconditionFailed, text)
    })?;
    Ok(response)
}

fn factory(mut request: Request, fresh: u64, view: &View<'_>) -> Result<Plan, Problem> {
    if request.method == Method::Get {
        return listing(&request, view);
    }
    let mut body: Value = parse_body(&request.body)?;
    if request.path == QUERY_TASKS {
        check_query_task(&body)?;
        if let Some(copy) = copies::plan(&request, &body)? {
            return Ok(copy);
        }
        if is_direct(&body) {
            body["taskInfo"]["isDirect"] = true.into();
        }
        take_exact_numbers(&mut body, &request.body)?;
    }
    if request.path == QUERY_TASKS && is_direct(&body) && !is_awaited(&body) {
        check_ends(&body)?;
        check_direct(&request, &body, view)?;
        let specification = parse_specification(&body["querySpec"])?;
        past::check_query(&specification, view)?;
        body["documentOwner"] = view.config.node_id.as_str().into();
        return Ok(Plan::Query(Box::new(specification), Form::Task(body)));
    }
    if request.path == QUERY_TASKS
        && let Some(continuous) = Continuous::of(&body["querySpec"])
    {
        check_ends(&body)?;
        check_continuous(&body["querySpec"])?;
        CompiledQuery::new(&parse_specification(&continuous.query_spec)?)?.check_standing()?;
    } else if request.path == QUERY_TASKS && body["querySpec"].is_object() {
        // A wrong query is refused now, rather than by a task that fails later.
        let specification = parse_specification(&body["querySpec"])?;
        CompiledQuery::new(&specification)?;
        past::check_query(&specification, view)?;
    }
    if request.path == KINDS {
        check_place(&body, view)?;
    }
    request.path = child_link(&request, &body, || new_name(fresh, view))?;
    let group = view.topology().partition_of(&request.path);
    Ok(Plan::Ask(group, Question::Rest(request)))
}

/// A factory below another one would hide a document of that one, and two factories with one kind
/// would be found together.
fn check_place(definition: &Value, view: &View<'_>) -> Result<(), Problem> {
    let Some(link) = definition["link"].as_str() else { return Ok(()) };
    let catalogue = view.catalogue();
    let refused = |text: String| Err(Problem::new(Code::Refused, text));
    let above = links::split(link).map_or("", |(above, _)| above);
    if catalogue.spec(above).is_some() {
        return refused(format!(
            "{link} would be a document of the factory {above}; choose a link that is not right \
             below a factory"
        ));
    }
    let below = catalogue
        .specs()
        .find(|spec| links::split(&spec.factory).is_some_and(|(above, _)| above == link));
    if let Some(below) = below {
        return refused(format!(
            "{} is a factory already, and would be a document of {link}; choose another link",
            below.factory
        ));
    }
    let kind = definition["kind"].as_str().map_or_else(|| kind_name(link), str::to_owned);
    let same = catalogue.specs().find(|spec| spec.kind == kind && spec.factory != link);
    match same {
        None => Ok(()),
        Some(same) => refused(format!(
            "the documents of {} have the kind {kind} already; choose another kind",
            same.factory
        )),
    }
}

/// Whether a task is to be answered at its end. Xenon's clients may write it as a text.
pub(super) fn is_direct(body: &Value) -> bool {
    match &body["taskInfo"]["isDirect"] {
        Value::Bool(is_direct) => *is_direct,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Whether a query is to be asked until it finds as many as are expected: that takes a task, which
/// a direct one waits for.
fn is_awaited(body: &Value) -> bool {
    let expected = &body["querySpec"]["expectedResultCount"];
    !expected.is_null() && *expected != 0 && *expected != "0"
}

/// What a query that goes on cannot tell of each change.
fn check_continuous(query_spec: &Value) -> Result<(), Problem> {
    let options = query_spec["options"].as_array().into_iter().flatten();
    let mut options = options.filter_map(Value::as_str);
    let other = ["GROUP_BY", "SELECT_LINKS", "EXPAND_LINKS"];
    if let Some(name) = options.find(|name| other.contains(name)) {
        return Err(Problem::bad_request(format!(
            "options have CONTINUOUS and {name}: each change is told of one document, without groups \
             and links; drop one"
        )));
    }
    if !query_spec["expectedResultCount"].is_null() && query_spec["expectedResultCount"] != 0 {
        return Err(Problem::bad_request(
            "expectedResultCount says when a query has found enough, and one that is CONTINUOUS goes \
             on; leave it out",
        ));
    }
    Ok(())
}

/// A direct query makes no document, of which a header or a pragma could say something.
fn check_direct(request: &Request, body: &Value, view: &View<'_>) -> Result<(), Problem> {
    let conditions = &request.conditions;
    let named = [
        (Header::IfMatch, conditions.if_match.is_some()),
        (Header::IfNoneMatch, conditions.if_none_match.is_some()),
        (Header::Quorum, request.quorum.is_some()),
        // A task's calls have keys wherever they go.
        (Header::Key, request.idempotency_key.is_some() && request.source().is_none()),
    ];
    if let Some((header, _)) = named.into_iter().find(|(_, is_there)| *is_there) {
        return Err(Problem::bad_request(format!(
            "a direct query does not take the header {}: it makes no document, so it would be \
             ignored. Leave it out, or leave out taskInfo.isDirect",
            header.name()
        )));
    }
    // There is nothing to wait for.
    request.check_pragmas(&[QUEUE])?;
    let path = child_link(request, body, || "one".into())?;
    let spec = view.catalogue().spec(QUERY_TASKS);
    let spec = spec.ok_or_else(|| Problem::internal("query tasks have no factory"))?;
    services::check_task(spec, &Request { path, ..request.clone() }, view.now.wall)
}

/// Gives the query those numbers back that have more digits than a number of JSON keeps here. A
/// task that is not direct is a document, which would lose them.
fn take_exact_numbers(body: &mut Value, text: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw<'a> {
        #[serde(borrow)]
        query_spec: Option<&'a RawValue>,
    }
    if !query::has_long_number(text) {
        return Ok(());
    }
    let raw = serde_json::from_slice::<Raw<'_>>(text).ok().and_then(|raw| raw.query_spec);
    let Some(exact) = raw.map(query::exact_value).filter(|it| *it != body["querySpec"]) else {
        return Ok(());
    };
    if !is_direct(body) || is_awaited(body) {
        return Err(Problem::bad_request(
            "a number of querySpec has more digits than a task keeps: write it as a text, or ask \
             with taskInfo.isDirect",
        ));
    }
    body["querySpec"] = exact;
    Ok(())
}

/// # Errors
/// When a query that goes on is to be answered at its end.
fn check_ends(body: &Value) -> Result<(), Problem> {
    if !is_direct(body) || Continuous::of(&body["querySpec"]).is_none() {
        return Ok(());
    }
    Err(Problem::bad_request(
        "a query that is CONTINUOUS has no end, and so no direct answer: leave out \
         taskInfo.isDirect, and subscribe to the task",
    ))
}

/// A query task is run over all documents, or not at all.
fn check_query_task(body: &Value) -> Result<(), Problem> {
    const KNOWN: [&str; 8] = [
        "taskInfo",
        "querySpec",
        "results",
        "kind",
        "indexLink",
        "nodeSelectorLink",
        "tenantLinks",
        "failureMessage",
    ];
    let known: Vec<&str> = KNOWN.into_iter().chain(BUILT_IN_FIELDS).collect();
    check_fields(body, "a query task", &known)?;
    query::check_places("", body)?;
    Ok(())
}

fn listing(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let factory = request.path.clone();
    let kind = view.catalogue().spec(&factory).map(|spec| spec.kind.clone());
    if watch::is_asked(request)? {
        request.check_parameters(&watch::PARAMETERS)?;
        let all = query::factory_query(&factory, kind.as_deref());
        return watch::plan(request, all, format!("{factory}/"), view);
    }
    watch::check_is_asked(request)?;
    let listing = factory_specification(request, &factory, kind.as_deref())?;
    past::check_query(&listing.specification, view)?;
    let link =
        if request.query.is_empty() { factory } else { format!("{factory}?{}", request.query) };
    let total = if listing.is_odata { Total::IfWhole } else { Total::Unasked };
    let form = Form::Plain(List { link, skip: listing.skip, total, trail: Trail::default() });
    let specification = Box::new(listing.specification);
    Ok(if listing.total {
        Plan::Counted(specification, form)
    } else {
        Plan::Query(specification, form)
    })
}

/// The link of a new document: as its body says, or made up. With an idempotency key it is made
/// from the key, so that a repeat means the same document.
fn child_link(
    request: &Request,
    body: &Value,
    new_name: impl FnOnce() -> String,
) -> Result<String, Problem> {
    let factory = &request.path;
    let name = match &body["documentSelfLink"] {
        Value::Null if factory == KINDS => kind_name(body["link"].as_str().ok_or_else(|| {
            let text = "link is required: where the documents are, such as /app/seats";
            Problem::bad_request(text)
        })?),
        Value::Null => match &request.idempotency_key {
            Some(key) => {
                // Another user's key is another key, though it be spelled the same.
                let is_task = request.source().is_some();
                let own = RequestKey::owned_by(key, &request.principal, is_task);
                format!("{:016x}", hash_parts([factory.as_bytes(), own.as_bytes()]))
            }
            None => new_name(),
        },
        Value::String(link) => {
            let prefix = format!("{factory}/");
            link.strip_prefix(&prefix).unwrap_or(link).to_owned()
        }
        other => {
            let text = format!("documentSelfLink must be a string, not {other}");
            return Err(Problem::new(Code::BadLink, text));
        }
    };
    let last = match name.split_once('/') {
        Some((key, last)) if links::is_key(key) => last,
        _ => &name,
    };
    if last.contains('/') || links::UTILITIES.contains(&last) {
        let text = format!(
            "documentSelfLink '{name}' must be one name without '/', under {factory}, with a \
             partition key before it or not ({{KEY}}/NAME), and none of {}",
            links::UTILITIES.join(", ")
        );
        return Err(Problem::new(Code::BadLink, text));
    }
    let link = format!("{factory}/{name}");
    links::check(&link)?;
    Ok(link)
}

/// A name that no other node and no other start of this one makes, in order of time.
fn new_name(fresh: u64, view: &View<'_>) -> String {
    format!("{:x}-{:x}-{:x}-{fresh:x}", view.now.wall.0, view.me().0, view.config.sandbox.boot)
}

/// A PATCH of `/config` is answered as a GET, if nothing would be changed by it: the configuration
/// is part of the service's program, the same on all nodes.
fn asks_for_what_is_so(request: &mut Request, view: &View<'_>) -> Result<(), Problem> {
    let (path, utility) = links::split_utility(&request.path);
    if request.method != Method::Patch || utility != Some("config") {
        return Ok(());
    }
    let catalogue = view.catalogue();
    let Some(spec) = catalogue.spec(path).or_else(|| catalogue.spec_of(path)) else {
        return Ok(());
    };
    services::check_config(spec, &parse_body(&request.body)?)?;
    (request.method, request.body) = (Method::Get, bytes::Bytes::new());
    Ok(())
}

/// With the programs outside, of a kind that has its handlers there.
fn config(spec: &services::Spec, view: &View<'_>) -> Value {
    let mut body = services::config(spec);
    let Some(outside) = view.catalogue().outside(&spec.factory) else { return body };
    let handlers = Handler::VERBS.into_iter().filter(|handler| outside.has(*handler));
    body["handlers"] = handlers.map(Handler::name).collect();
    body["actions"] = json!(outside.actions());
    let programs = view.control.services.outside.get(&spec.factory).cloned().unwrap_or_default();
    let here = programs.here.into_iter().map(
        |(version, calls)| json!({"node": view.config.node_id, "version": version, "calls": calls}),
    );
    let elsewhere = programs.nodes.into_iter().filter_map(|id| view.node_id(id));
    body["programs"] = here.chain(elsewhere.map(|node| json!({ "node": node }))).collect();
    body
}

fn factory_utility(request: Request, view: &View<'_>) -> Result<Plan, Problem> {
    let (factory, utility) = links::split_utility(&request.path);
    let spec = view.catalogue().spec(factory);
    let told = |body: &Value| Ok(Plan::Respond(Response::json(200, body)));
    match (spec, request.method, utility) {
        (Some(_), Method::Get, Some("available")) => Ok(Plan::Available),
        (Some(_), Method::Get, Some("stats")) => Ok(Plan::Stats(request)),
        (Some(_), Method::Get, Some("explain")) => {
            Ok(Plan::Respond(explain::of_factory(factory, view)))
        }
        (Some(spec), Method::Get, Some("template")) => told(&services::template(spec)),
        (Some(spec), Method::Get, Some("config")) => told(&config(spec, view)),
        // For the other utilities the leader of the partition is asked.
        _ => Ok(Plan::Ask(view.topology().partition_of(factory), Question::Rest(request))),
    }
}
