//! What clients ask: which group a request belongs to, and what is answered on the spot.

use bytes::Bytes;
use protocol::node_group::{self, NodeGroupRequest};
use protocol::query::LINK;
use protocol::{Code, Method, Outcome, Problem, Request, Response, links};
use query::{CompiledQuery, factory_specification, parse_specification};
use serde_json::{Value, json};

use crate::edge::{Purpose, fnv};
use crate::frame::{Question, Told};
use crate::node::Node;
use crate::scatter::{Form, PAGE_LINK};

impl Node {
    /// A request has entered the cluster here, from a client or from a task of this node.
    pub(crate) fn client_request(&mut self, purpose: Purpose, request: Request) {
        let writes = request.method.is_write();
        if let Err(mut problem) = self.dispatch(&purpose, request) {
            problem.outcome = problem.outcome.or(writes.then_some(Outcome::NotApplied));
            self.finish(&purpose, Told::Response(problem.into()));
        }
    }

    /// # Errors
    /// What is wrong with the request; nothing was done for it then.
    fn dispatch(&mut self, purpose: &Purpose, mut request: Request) -> Result<(), Problem> {
        if request.path.len() > 1 && request.path.ends_with('/') {
            request.path.pop();
        }
        if self.is_stopping() {
            return Err(Problem::new(Code::Stopping, "this node is stopping: ask another one"));
        }
        if let Some(answered) = self.local_path(purpose, &request) {
            return answered;
        }
        if self.partitions() == 0 || self.me.is_none() {
            let text =
                format!("this node is not part of a cluster yet: {}", self.why_not_serving());
            return Err(Problem::new(Code::NoOwner, text));
        }
        if let Some(token) = request.path.strip_prefix(PAGE_LINK).and_then(|p| p.strip_prefix('/'))
        {
            only(&request, &[Method::Get])?;
            let token = token.to_owned();
            self.run_page(purpose.clone(), &token);
            return Ok(());
        }
        if let Some(rest) = request.path.strip_prefix(crate::immortal_rest::LINK)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return self.immortal_path(purpose, &request);
        }
        if let Some(rest) = request.path.strip_prefix(crate::ambrosia_registry::LINK)
            && rest.starts_with('/')
        {
            return self.ambrosia_path(purpose, &request);
        }
        self.document_path(purpose, request)
    }

    /// Paths that this node answers for itself or for the directory.
    fn local_path(&mut self, purpose: &Purpose, request: &Request) -> Option<Result<(), Problem>> {
        let answered = match request.path.as_str() {
            "/" => only(request, &[Method::Get]).map(|()| Some(self.root())),
            node_group::LINK => self.node_group(purpose, request),
            node_group::SELECTOR_LINK => self.selector(request).map(Some),
            node_group::MANAGEMENT_LINK => self.management(request).map(Some),
            _ => return None,
        };
        Some(answered.map(|response| {
            if let Some(response) = response {
                self.finish(purpose, Told::Response(response));
            }
        }))
    }

    fn document_path(&mut self, purpose: &Purpose, request: Request) -> Result<(), Problem> {
        links::check(&request.path)?;
        if self.catalogue.spec(&request.path).is_some() {
            return self.factory_request(purpose, request);
        }
        let (path, utility) = links::split_utility(&request.path);
        if utility.is_some() && self.catalogue.spec(path).is_some() {
            return self.factory_utility(purpose, request);
        }
        if self.catalogue.spec_of(path).is_none() {
            return Err(Problem::not_found(format!(
                "there is no service at {}; GET / lists the factories",
                request.path
            )));
        }
        let group = links::partition(path, self.partitions());
        if request.method == Method::Get
            && utility.is_none()
            && request.parameter("consistency").as_deref() == Some("local")
        {
            return self.local_read(purpose, group, &request);
        }
        self.submit(purpose.clone(), group, Question::Rest(request));
        Ok(())
    }

    fn factory_request(&mut self, purpose: &Purpose, mut request: Request) -> Result<(), Problem> {
        only(&request, &[Method::Get, Method::Post])?;
        if request.method == Method::Get {
            let factory = request.path.clone();
            let kind = self.catalogue.spec(&factory).map(|spec| spec.kind.clone());
            let listing = factory_specification(&request, &factory, kind.as_deref())?;
            let link = if request.query.is_empty() {
                factory
            } else {
                format!("{factory}?{}", request.query)
            };
            let form = Form::Plain { link, skip: listing.skip };
            self.run_query(purpose.clone(), listing.specification, None, form);
            return Ok(());
        }
        let body: Value = parse_body(&request.body)?;
        if request.path == LINK && body["taskInfo"]["isDirect"] == json!(true) {
            return self.direct_query(purpose, body);
        }
        if request.path == LINK && body["querySpec"].is_object() {
            // What is wrong with it is told now, not by a task that fails later.
            CompiledQuery::new(&parse_specification(&body["querySpec"])?)?;
        }
        request.path = self.child_link(&request, &body)?;
        let group = links::partition(&request.path, self.partitions());
        self.submit(purpose.clone(), group, Question::Rest(request));
        Ok(())
    }

    fn direct_query(&mut self, purpose: &Purpose, body: Value) -> Result<(), Problem> {
        let specification = parse_specification(&body["querySpec"])?;
        self.run_query(purpose.clone(), specification, None, Form::Task(body));
        Ok(())
    }

    /// The link of a new document: as its body says, or made up. With an idempotency key it is made
    /// from the key, so that a repeat means the same document.
    fn child_link(&mut self, request: &Request, body: &Value) -> Result<String, Problem> {
        let factory = &request.path;
        let name = match &body["documentSelfLink"] {
            Value::Null => match &request.idempotency_key {
                Some(key) => format!("{:016x}", fnv([factory.as_bytes(), key.as_bytes()])),
                None => self.new_name(),
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
        if name.contains('/') || links::UTILITIES.contains(&name.as_str()) {
            let text = format!(
                "documentSelfLink '{name}' must be one name without '/', under {factory}, and none of {}",
                links::UTILITIES.join(", ")
            );
            return Err(Problem::new(Code::BadLink, text));
        }
        let link = format!("{factory}/{name}");
        links::check(&link)?;
        Ok(link)
    }

    /// A name that no other node and no other start of this one makes, in order of time.
    fn new_name(&mut self) -> String {
        self.names += 1;
        let me = self.me.unwrap_or_default();
        format!("{:x}-{:x}-{:x}-{:x}", self.now.wall.0, me.0, self.config.boot, self.names)
    }

    fn factory_utility(&mut self, purpose: &Purpose, request: Request) -> Result<(), Problem> {
        let (factory, utility) = links::split_utility(&request.path);
        let spec = self.catalogue.spec(factory);
        let (Some(spec), Method::Get) = (spec, request.method) else {
            // Whatever else there is to say about a utility, the desk says it.
            let group = links::partition(factory, self.partitions());
            self.submit(purpose.clone(), group, Question::Rest(request));
            return Ok(());
        };
        match utility {
            Some("available") => self.ask_available(purpose.clone()),
            Some("stats") => self.ask_stats(purpose.clone(), &request),
            Some("template") => self.tell(purpose, &services::template(spec)),
            Some("config") => self.tell(purpose, &services::config(spec)),
            _ => {
                let group = links::partition(factory, self.partitions());
                self.submit(purpose.clone(), group, Question::Rest(request));
            }
        }
        Ok(())
    }

    fn tell(&mut self, purpose: &Purpose, body: &Value) {
        self.finish(purpose, Told::Response(Response::json(200, body)));
    }

    fn root(&self) -> Response {
        let mut links: Vec<&str> =
            self.catalogue.specs().map(|spec| spec.factory.as_str()).collect();
        links.push(crate::immortal_rest::LINK);
        Response::json(200, &json!({ "documentLinks": links, "documentCount": links.len() }))
    }

    /// `/core/node-groups/default`. None when the answer comes later.
    fn node_group(
        &mut self,
        purpose: &Purpose,
        request: &Request,
    ) -> Result<Option<Response>, Problem> {
        only(request, &[Method::Get, Method::Post, Method::Patch])?;
        if request.method == Method::Get {
            return Ok(Some(self.node_group_state()));
        }
        let unknown = |why: String| {
            let code =
                if why.starts_with("unknown kind") { Code::UnknownKind } else { Code::BadBody };
            Problem::new(code, why)
        };
        match (NodeGroupRequest::parse(&request.body).map_err(unknown)?, request.method) {
            (NodeGroupRequest::Join(join), Method::Post) => {
                self.join_request(purpose, &join.member_group_reference)
            }
            (NodeGroupRequest::UpdateQuorum(update), Method::Patch) => {
                self.update_quorum(purpose, update.membership_quorum)?;
                Ok(None)
            }
            (NodeGroupRequest::Join(_), _) => {
                Err(Problem::new(Code::MethodNotAllowed, "JoinPeerRequest is sent with POST"))
            }
            (NodeGroupRequest::UpdateQuorum(_), _) => {
                Err(Problem::new(Code::MethodNotAllowed, "UpdateQuorumRequest is sent with PATCH"))
            }
        }
    }
}

/// # Errors
/// 405 for any other verb.
pub(crate) fn only(request: &Request, methods: &[Method]) -> Result<(), Problem> {
    if methods.contains(&request.method) {
        return Ok(());
    }
    let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    Err(Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not take {}; it takes {}",
            request.path,
            request.method.name(),
            names.join(", ")
        ),
    ))
}

pub(crate) fn parse_body(body: &Bytes) -> Result<Value, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::BadBody, "a body is needed: a JSON object"));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::BadBody, format!("the body is not JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Problem::new(Code::BadBody, "the body must be a JSON object"))
}
