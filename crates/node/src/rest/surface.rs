//! Every path that a node answers, with its verbs, all that each of them understands, and what a
//! client must have for it. What is not in this table is refused by name: to pass over it would be
//! to do something else than was asked.
//!
//! The reference for people (`docs/reference-rest.md`) has the same table, and a test compares
//! them.

use access::Needs;
use protocol::{BodyType, Code, Method, Problem, Request, WriteQuorum, links, node_group};
use services::{Catalogue, ServiceOption, Spec};

use super::{ambrosia, instance_state};
use crate::pages::PAGE_LINK;

/// A kind of paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// As it is shown to people; what is in capitals stands for a name.
    pub path: &'static str,
    pub verbs: &'static [Verb],
}

/// What a verb does at a path, and what it understands beside its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    pub method: Method,
    /// In a few words.
    pub does: &'static str,
    pub parameters: &'static [&'static str],
    pub pragmas: &'static [&'static str],
    /// Of the headers that change what is done.
    pub headers: &'static [Header],
    /// What a client must have where logins are demanded.
    pub needs: Needs,
}

/// A header that only some requests understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    IfMatch,
    IfNoneMatch,
    Quorum,
    Key,
}

impl Header {
    pub fn name(self) -> &'static str {
        match self {
            Self::IfMatch => "If-Match",
            Self::IfNoneMatch => "If-None-Match",
            Self::Quorum => WriteQuorum::HEADER,
            Self::Key => "Idempotency-Key",
        }
    }
}

const fn verb(method: Method, does: &'static str, needs: Needs) -> Verb {
    Verb { method, does, parameters: &[], pragmas: &[], headers: &[], needs }
}

const fn get(does: &'static str, needs: Needs) -> Verb {
    verb(Method::Get, does, needs)
}

const fn post(does: &'static str, needs: Needs) -> Verb {
    verb(Method::Post, does, needs)
}

const CONDITIONS: &[Header] = &[Header::IfMatch, Header::IfNoneMatch];
const WRITE_HEADERS: &[Header] =
    &[Header::IfMatch, Header::IfNoneMatch, Header::Quorum, Header::Key];
const QUEUE: &str = "xn-queue";
const WRITE_PRAGMAS: &[&str] = &["xn-force-index-update", "xn-no-index-update", QUEUE];

static ROOT: Resource =
    Resource { path: "/", verbs: &[get("the factories there are", Needs::Login)] };

/// Those of a list, and those of a watch.
const FACTORY_PARAMETERS: [&str; 12] = {
    let [a, b, c, d, e, f, g, h] = query::LIST_PARAMETERS;
    [a, b, c, d, e, f, g, h, "watch", "after", "wait", "before"]
};

static FACTORY: Resource = Resource {
    path: "FACTORY",
    verbs: &[
        Verb {
            parameters: &FACTORY_PARAMETERS,
            pragmas: &[QUEUE],
            ..get("lists its documents, or the next changes of them", Needs::Filtered)
        },
        Verb {
            pragmas: &["xn-force-index-update", QUEUE],
            headers: WRITE_HEADERS,
            ..post("makes a document, or a task", Needs::Document)
        },
    ],
};

static CHANGES: Resource = Resource {
    path: "/core/changes",
    verbs: &[Verb {
        parameters: &["after", "wait", "before", "filter", "prefix"],
        ..get("the next changes of documents, as soon as there are some", Needs::Filtered)
    }],
};

static QUERY_TASKS: Resource = Resource {
    path: "/core/query-tasks",
    verbs: &[
        Verb {
            parameters: &FACTORY_PARAMETERS,
            pragmas: &[QUEUE],
            ..get("lists the query tasks that are kept", Needs::Filtered)
        },
        Verb { pragmas: &[QUEUE], headers: WRITE_HEADERS, ..post("asks a query", Needs::Filtered) },
    ],
};

static DOCUMENT: Resource = Resource {
    path: "FACTORY/NAME",
    verbs: &[
        Verb {
            parameters: &["documentVersion", "consistency", "watch", "after", "wait", "before"],
            pragmas: &[QUEUE],
            headers: CONDITIONS,
            ..get("shows the document", Needs::Document)
        },
        Verb {
            pragmas: &[QUEUE],
            headers: WRITE_HEADERS,
            ..verb(Method::Put, "replaces its state", Needs::Document)
        },
        Verb {
            pragmas: &[QUEUE],
            headers: WRITE_HEADERS,
            ..verb(Method::Patch, "changes its state", Needs::Document)
        },
        Verb {
            pragmas: &["xn-no-index-update", QUEUE],
            headers: WRITE_HEADERS,
            ..verb(Method::Delete, "deletes it", Needs::Document)
        },
    ],
};

static AVAILABLE: Resource = Resource {
    path: "FACTORY/available, FACTORY/NAME/available",
    verbs: &[Verb {
        pragmas: &[QUEUE],
        ..get("200 when it can be served, else 503", Needs::Login)
    }],
};

static TEMPLATE: Resource = Resource {
    path: "FACTORY/template, FACTORY/NAME/template",
    verbs: &[get("an example, and the description of each field", Needs::Right)],
};

static CONFIG: Resource = Resource {
    path: "FACTORY/config, FACTORY/NAME/config",
    verbs: &[
        get("options and limits; they are part of the service's program", Needs::Right),
        verb(
            Method::Patch,
            "ServiceConfigUpdateRequest: taken if it asks for what is so, else refused",
            Needs::Right,
        ),
    ],
};

static STATS: Resource = Resource {
    path: "FACTORY/stats, FACTORY/NAME/stats",
    verbs: &[get("counters since the owner became owner", Needs::Document)],
};

static QUERY_PAGE: Resource = Resource {
    path: "/core/query-page/TOKEN",
    verbs: &[Verb {
        parameters: &["expand"],
        ..get("a further page: follow the links you get", Needs::Filtered)
    }],
};

static NODE_GROUPS: Resource = Resource {
    path: "/core/node-groups",
    verbs: &[Verb { parameters: &["expand"], ..get("the one node group there is", Needs::Right) }],
};

static NODE_GROUP: Resource = Resource {
    path: "/core/node-groups/default",
    verbs: &[
        get("nodes, quorum, owners", Needs::Right),
        post("JoinPeerRequest: this node joins another cluster", Needs::Right),
        verb(Method::Patch, "UpdateQuorumRequest: sets the membership quorum", Needs::Right),
    ],
};

static SELECTOR: Resource = Resource {
    path: "/core/node-selectors/default",
    verbs: &[
        get("whether a majority is there", Needs::Right),
        post("who owns a link", Needs::Right),
    ],
};

/// What is passed on is looked at again where it goes: it may not take all of this.
const fn forwarding(method: Method, does: &'static str) -> Verb {
    let is_read = matches!(method, Method::Get);
    Verb {
        parameters: &["path", "query", "target", "key", "peer"],
        pragmas: if is_read { &[QUEUE] } else { WRITE_PRAGMAS },
        headers: if is_read { CONDITIONS } else { WRITE_HEADERS },
        ..verb(method, does, Needs::Login)
    }
}

static FORWARDING: Resource = Resource {
    path: "/core/node-selectors/default/forwarding",
    verbs: &[
        forwarding(Method::Get, "passes a GET on to the owner of a link, or to a node"),
        forwarding(Method::Post, "the same for a POST"),
        forwarding(Method::Put, "a PUT"),
        forwarding(Method::Patch, "a PATCH"),
        forwarding(Method::Delete, "a DELETE"),
    ],
};

static MANAGEMENT: Resource = Resource {
    path: "/core/management",
    verbs: &[
        get("about this node", Needs::Right),
        verb(Method::Delete, "stops it in good order", Needs::Right),
    ],
};

static IMMORTALS: Resource = Resource {
    path: "/core/immortals",
    verbs: &[
        Verb { parameters: &["expand"], ..get("lists the instances", Needs::Right) },
        post("registers an instance", Needs::Right),
    ],
};

static IMMORTAL: Resource = Resource {
    path: "/core/immortals/NAME",
    verbs: &[
        get("an instance, as its owner knows it", Needs::Right),
        verb(Method::Patch, "changes its options or its replicas", Needs::Right),
        Verb {
            parameters: &["confirm"],
            ..verb(Method::Delete, "removes it with its log and its checkpoints", Needs::Right)
        },
    ],
};

static IMMORTAL_VERB: Resource = Resource {
    path: "/core/immortals/NAME/checkpoint, move, skip, release",
    verbs: &[post("asks something of its owner", Needs::Right)],
};

static IMPULSES: Resource = Resource {
    path: "/core/immortals/NAME/impulses",
    verbs: &[Verb {
        headers: &[Header::Key],
        ..post("puts an impulse from outside into its log", Needs::Right)
    }],
};

static RECORDING: Resource = Resource {
    path: "/core/immortals/NAME/recording",
    verbs: &[Verb {
        parameters: &["base", "chunk", "after"],
        ..get("a checkpoint and the log since, for debugging", Needs::Right)
    }],
};

static AMBROSIA: Resource = Resource {
    path: "/core/ambrosia/...",
    verbs: &[
        Verb {
            parameters: ambrosia::PARAMETERS,
            ..get("registrations where AMBROSIA's JavaScript binding looks for them", Needs::Right)
        },
        Verb {
            parameters: ambrosia::PARAMETERS,
            headers: &[Header::IfMatch],
            ..verb(Method::Delete, "deregisters what a binding erases", Needs::Right)
        },
    ],
};

static LOG_IN: Resource =
    Resource { path: "/core/authn/basic", verbs: &[post("LOGIN, LOGOUT, VERIFY", Needs::Nothing)] };

static JOIN: Resource = Resource {
    path: "/core/authn/join",
    verbs: &[post("a node asks for a certificate, with a token of one use", Needs::Nothing)],
};

static WHO_AM_I: Resource = Resource {
    path: "/core/authn/whoami",
    verbs: &[get("who asks, and that one's roles", Needs::Login)],
};

static CAN_I: Resource = Resource {
    path: "/core/authz/can-i",
    verbs: &[post("whether somebody may do something, and why", Needs::Login)],
};

static ATTACH: Resource = Resource {
    path: "/core/immortals/NAME/attach",
    verbs: &[get(
        "by an upgrade: a program attaches as this instance; the right is that to POST here",
        Needs::Right,
    )],
};

static LINK: Resource = Resource {
    path: "/core/peer-link",
    verbs: &[get("by an upgrade: the link to another node", Needs::Link)],
};

static HEALTH: Resource = Resource {
    path: "/livez, /readyz",
    verbs: &[get("whether the node lives; whether it serves", Needs::Nothing)],
};

static METRICS: Resource = Resource {
    path: "/metrics",
    verbs: &[get("counters of this node, for Prometheus", Needs::Right)],
};

/// All of them, in the order of the reference.
pub static SURFACE: [&Resource; 29] = [
    &ROOT,
    &FACTORY,
    &DOCUMENT,
    &AVAILABLE,
    &TEMPLATE,
    &CONFIG,
    &STATS,
    &QUERY_TASKS,
    &QUERY_PAGE,
    &CHANGES,
    &NODE_GROUPS,
    &NODE_GROUP,
    &SELECTOR,
    &FORWARDING,
    &MANAGEMENT,
    &IMMORTALS,
    &IMMORTAL,
    &IMMORTAL_VERB,
    &IMPULSES,
    &RECORDING,
    &AMBROSIA,
    &LOG_IN,
    &JOIN,
    &WHO_AM_I,
    &CAN_I,
    &ATTACH,
    &LINK,
    &HEALTH,
    &METRICS,
];

impl Resource {
    /// The resource at a path. Without one the path is not found, or its plan says what is wrong.
    pub fn at(path: &str, catalogue: &Catalogue) -> Option<&'static Self> {
        let fixed = match path {
            "/" => Some(&ROOT),
            node_group::FACTORY_LINK => Some(&NODE_GROUPS),
            node_group::LINK => Some(&NODE_GROUP),
            node_group::SELECTOR_LINK => Some(&SELECTOR),
            node_group::FORWARDING_LINK => Some(&FORWARDING),
            node_group::MANAGEMENT_LINK => Some(&MANAGEMENT),
            protocol::query::LINK | protocol::query::LOCAL_LINK => Some(&QUERY_TASKS),
            access::LOGIN => Some(&LOG_IN),
            access::JOIN => Some(&JOIN),
            access::WHO_AM_I => Some(&WHO_AM_I),
            access::CAN_I => Some(&CAN_I),
            node_group::PEER_LINK => Some(&LINK),
            super::watch::LINK => Some(&CHANGES),
            "/livez" | "/readyz" => Some(&HEALTH),
            "/metrics" => Some(&METRICS),
            _ => None,
        };
        let below = |of: &str| super::plan::below(path, of).filter(|rest| !rest.is_empty());
        if fixed.is_some() {
            return fixed;
        }
        if below(PAGE_LINK).is_some() {
            return Some(&QUERY_PAGE);
        }
        if below(ambrosia::LINK).is_some() {
            return Some(&AMBROSIA);
        }
        if let Some(rest) = super::plan::below(path, instance_state::LINK) {
            return Self::of_immortals(rest);
        }
        if catalogue.spec(path).is_some() {
            return Some(&FACTORY);
        }
        let (of, utility) = links::split_utility(path);
        let is_there = catalogue.spec(of).is_some() || catalogue.spec_of(of).is_some();
        match utility {
            _ if !is_there => None,
            None => Some(&DOCUMENT),
            Some("available") => Some(&AVAILABLE),
            Some("template") => Some(&TEMPLATE),
            Some("config") => Some(&CONFIG),
            Some("stats") => Some(&STATS),
            Some(_) => None,
        }
    }

    fn of_immortals(rest: &str) -> Option<&'static Self> {
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(""), None, None) => Some(&IMMORTALS),
            (Some(_), None, None) => Some(&IMMORTAL),
            (Some(_), Some("recording"), None) => Some(&RECORDING),
            (Some(_), Some("attach"), None) => Some(&ATTACH),
            (Some(_), Some("impulses"), None) => Some(&IMPULSES),
            (Some(_), Some("checkpoint" | "move" | "skip" | "release"), None) => {
                Some(&IMMORTAL_VERB)
            }
            _ => None,
        }
    }

    /// The verbs at one path: not every service takes them all.
    pub fn verbs_at(
        &'static self,
        path: &str,
        catalogue: &Catalogue,
    ) -> impl Iterator<Item = &'static Verb> {
        let spec = catalogue.spec_of(path).filter(|_| *self == DOCUMENT);
        let (no_put, no_patch) = match spec {
            Some(spec) => (spec.is_task || is_immutable(spec), is_immutable(spec)),
            None => (false, false),
        };
        self.verbs.iter().filter(move |verb| match verb.method {
            Method::Put => !no_put,
            Method::Patch => !no_patch,
            _ => true,
        })
    }

    /// A merge patch is a way to change a document; elsewhere its nulls would be passed over.
    fn check_type(&'static self, request: &Request) -> Result<(), Problem> {
        let takes = [&DOCUMENT, &FORWARDING].contains(&self);
        let is_patch = takes && request.method == Method::Patch;
        if request.body_type == BodyType::Json || is_patch {
            return Ok(());
        }
        let text = format!(
            "{} {} takes no application/merge-patch+json, only the PATCH of a document does; send \
             Content-Type: application/json",
            request.method.name(),
            request.path
        );
        Err(Problem::new(Code::UnsupportedMediaType, text))
    }

    /// What would not be looked at is refused. Some clients send an empty object with a DELETE.
    fn check_body(&'static self, request: &Request) -> Result<(), Problem> {
        let takes_one = match request.method {
            Method::Get => false,
            Method::Delete => [&DOCUMENT, &FORWARDING].contains(&self),
            _ => true,
        };
        let body = request.body.trim_ascii();
        let is_empty = body.is_empty() || (request.method == Method::Delete && body == b"{}");
        if takes_one || is_empty {
            return Ok(());
        }
        let (method, path) = (request.method.name(), &request.path);
        Err(Problem::bad_request(format!("{method} {path} takes no body; leave it out")))
    }

    /// What a client needs for a request; `None` where nothing answers it.
    pub fn needs(request: &Request, catalogue: &Catalogue) -> Option<Needs> {
        let verbs = Self::at(&request.path, catalogue)?.verbs;
        let verb = verbs.iter().find(|verb| verb.method == request.method)?;
        Some(verb.needs)
    }

    /// # Errors
    /// What the resource does not take: the verb, a parameter, a pragma or a header.
    pub fn check(&'static self, request: &Request, catalogue: &Catalogue) -> Result<(), Problem> {
        let verbs = || self.verbs_at(&request.path, catalogue);
        let Some(verb) = verbs().find(|verb| verb.method == request.method) else {
            let names: Vec<&str> = verbs().map(|verb| verb.method.name()).collect();
            let (path, method) = (&request.path, request.method.name());
            let text = format!("{path} does not take {method}; it takes {}", names.join(", "));
            return Err(Problem::new(Code::MethodNotAllowed, text));
        };
        request.check_parameters(verb.parameters)?;
        request.check_pragmas(verb.pragmas)?;
        verb.check_headers(request)?;
        self.check_type(request)?;
        self.check_body(request)
    }
}

impl Verb {
    fn check_headers(&self, request: &Request) -> Result<(), Problem> {
        let conditions = &request.conditions;
        for (header, is_there) in [
            (Header::IfMatch, conditions.if_match.is_some()),
            (Header::IfNoneMatch, conditions.if_none_match.is_some()),
            (Header::Quorum, request.quorum.is_some()),
            // A task's calls have keys wherever they go.
            (Header::Key, request.idempotency_key.is_some() && request.source.is_none()),
        ] {
            if is_there && !self.headers.contains(&header) {
                let (method, path) = (request.method.name(), &request.path);
                return Err(Problem::bad_request(format!(
                    "{method} {path} does not take the header {}: it would be ignored. Leave it out",
                    header.name()
                )));
            }
        }
        Ok(())
    }
}

fn is_immutable(spec: &Spec) -> bool {
    spec.has(ServiceOption::Immutable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of each kind.
    fn example(resource: &Resource) -> String {
        let first = resource.path.split(", ").next().expect("there is one");
        first
            .replace("FACTORY", "/core/query-tasks")
            .replace("NAME", "one")
            .replace("TOKEN", "x")
            .replace("...", "x")
    }

    /// Query tasks have a factory of their own.
    fn is_shadowed(resource: &Resource) -> bool {
        *resource == FACTORY
    }

    #[test]
    fn each_kind_of_paths_is_found_by_an_example_of_it() {
        let catalogue = Catalogue::new();
        for resource in SURFACE.into_iter().filter(|it| !is_shadowed(it)) {
            let path = example(resource);
            assert_eq!(Resource::at(&path, &catalogue), Some(resource), "{path}");
        }
        for nothing in ["/core", "/core/nothing", "/core/nothing/one", "/core/immortals/a/b", "/x"]
        {
            assert_eq!(Resource::at(nothing, &catalogue), None, "{nothing}");
        }
    }

    #[test]
    fn each_verb_refuses_by_name_what_it_does_not_know() {
        let catalogue = Catalogue::new();
        for resource in SURFACE.into_iter().filter(|it| !is_shadowed(it)) {
            let path = example(resource);
            for verb in resource.verbs_at(&path, &catalogue) {
                let request = || Request::new(verb.method, path.clone());
                let refused = |request: Request, name: &str| {
                    let problem = resource.check(&request, &catalogue).unwrap_err();
                    assert_eq!(problem.status(), 400, "{name} at {path}");
                    assert!(problem.message.contains(name), "{path}: {problem}");
                };
                assert!(resource.check(&request(), &catalogue).is_ok(), "{path}");
                refused(Request { query: "nonsense=1".into(), ..request() }, "'nonsense'");
                refused(Request { query: "$nonsense".into(), ..request() }, "'nonsense'");
                refused(Request { pragmas: vec!["xn-other".into()], ..request() }, "'xn-other'");
                for name in verb.parameters {
                    let twice = format!("{name}=1&${name}=2");
                    refused(Request { query: twice, ..request() }, &format!("'{name}'"));
                }
                for header in [Header::IfMatch, Header::IfNoneMatch, Header::Quorum, Header::Key] {
                    let mut request = request();
                    match header {
                        Header::Key => request.idempotency_key = Some("k".into()),
                        Header::IfMatch => request.conditions.if_match = "*".parse().ok(),
                        Header::IfNoneMatch => request.conditions.if_none_match = "*".parse().ok(),
                        Header::Quorum => request.quorum = Some(WriteQuorum::All),
                    }
                    if verb.headers.contains(&header) {
                        assert!(resource.check(&request, &catalogue).is_ok(), "{path}");
                    } else {
                        refused(request, header.name());
                    }
                }
                if verb.method == Method::Get {
                    refused(Request { body: "{}".into(), ..request() }, "body");
                }
                let takes_one = [&DOCUMENT, &FORWARDING].contains(&resource);
                if verb.method == Method::Delete && !takes_one {
                    refused(Request { body: r#"{"a":1}"#.into(), ..request() }, "body");
                }
                let merges = Request { body_type: BodyType::MergePatch, ..request() };
                let is_taken = takes_one && verb.method == Method::Patch;
                let status = resource.check(&merges, &catalogue).map_err(|it| it.status());
                assert_eq!(status, if is_taken { Ok(()) } else { Err(415) }, "{path}");
            }
        }
    }

    /// As the reference explains it.
    fn in_words(needs: Needs) -> &'static str {
        match needs {
            Needs::Nothing => "nothing",
            Needs::Login => "login",
            Needs::Right => "right",
            Needs::Document => "document",
            Needs::Filtered => "filtered",
            Needs::Link => "node",
        }
    }

    /// The table for people: a row for each verb of each path.
    fn reference() -> String {
        let named = |names: &[&str]| {
            let quoted = names.iter().map(|name| format!("`{name}`"));
            quoted.collect::<Vec<_>>().join(", ")
        };
        let mut rows = Vec::new();
        for resource in SURFACE {
            for (number, verb) in resource.verbs.iter().enumerate() {
                let path = if number == 0 { format!("`{}`", resource.path) } else { String::new() };
                let headers: Vec<&str> = verb.headers.iter().map(|header| header.name()).collect();
                rows.push(format!(
                    "| {path} | {} | {} | {} | {} | {} | {} |",
                    verb.method.name(),
                    verb.does,
                    named(verb.parameters),
                    named(&headers),
                    named(verb.pragmas),
                    in_words(verb.needs)
                ));
            }
        }
        rows.join("\n")
    }

    #[test]
    fn the_reference_has_this_table() {
        let text = include_str!("../../../../docs/reference-rest.md");
        let reference = reference();
        assert!(text.contains(&reference), "docs/reference-rest.md must have:\n{reference}");
    }

    /// What changes the cluster has no owner of a document who would check it.
    #[test]
    fn what_is_no_document_is_decided_by_the_router() {
        let catalogue = Catalogue::new();
        let of_documents = [&FACTORY, &DOCUMENT, &STATS, &QUERY_TASKS, &QUERY_PAGE, &CHANGES];
        for resource in SURFACE {
            for verb in resource.verbs {
                let is_left = matches!(verb.needs, Needs::Document | Needs::Filtered);
                let is_of_documents = of_documents.contains(&resource);
                assert_eq!(is_left, is_of_documents, "{} {}", verb.method.name(), resource.path);
                let is_open = verb.needs == Needs::Nothing;
                assert_eq!(
                    is_open,
                    [&LOG_IN, &JOIN, &HEALTH].contains(&resource),
                    "{}",
                    resource.path
                );
            }
        }
        for (method, path) in [
            (Method::Put, "/core/management"),
            (Method::Delete, "/core/node-groups/default"),
            (Method::Get, "/core/node-groups/default/x"),
            (Method::Delete, access::LOGIN),
            (Method::Post, "/core/nothing/one"),
        ] {
            let needs = Resource::needs(&Request::new(method, path), &catalogue);
            assert_eq!(needs, None, "{} {path}", method.name());
        }
    }

    #[test]
    fn a_verb_that_is_not_there_is_answered_with_those_that_are() {
        let catalogue = Catalogue::new();
        for (path, method, takes) in [
            ("/core/query-tasks/one", Method::Put, "GET, PATCH, DELETE"),
            ("/core/query-tasks/one", Method::Post, "GET, PATCH, DELETE"),
            ("/core/query-tasks", Method::Delete, "GET, POST"),
            ("/core/management", Method::Patch, "GET, DELETE"),
        ] {
            let resource = Resource::at(path, &catalogue).unwrap();
            let problem = resource.check(&Request::new(method, path), &catalogue).unwrap_err();
            assert_eq!(problem.status(), 405);
            assert!(problem.message.ends_with(&format!("it takes {takes}")), "{problem}");
        }
    }
}
