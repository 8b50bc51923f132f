//! Every path that a node answers, with its verbs, all that each of them understands, and what a
//! client must have for it. What is not in this table is refused by name: to pass over it would be
//! to do something else than was asked.
//!
//! The reference for people (`docs/reference-rest.md`) has the same table, and a test compares
//! them.

use access::Needs;
use protocol::{BodyType, Code, Method, Problem, Request, WriteQuorum, links, node_group};
use services::{Catalogue, ServiceOption, Spec};

use super::{ambrosia, backups, instance_state};
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
/// Waits for what is not there.
pub(crate) const QUEUE: &str = "xn-queue";
const WRITE_PRAGMAS: &[&str] = &["xn-force-index-update", "xn-no-index-update", QUEUE];

static ROOT: Resource =
    Resource { path: "/", verbs: &[get("the factories there are", Needs::Login)] };

/// Those of a list, and those of a watch.
const FACTORY_PARAMETERS: [&str; 15] = {
    let [a, b, c, d, e, f, g, h, i, j, k] = query::LIST_PARAMETERS;
    [a, b, c, d, e, f, g, h, i, j, k, "watch", "after", "wait", "before"]
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

static SQL: Resource =
    Resource { path: "/core/sql", verbs: &[post("answers a SELECT, as rows", Needs::Filtered)] };

static ODATA: Resource = Resource {
    path: "/core/odata-queries",
    verbs: &[Verb {
        parameters: &query::LIST_PARAMETERS,
        pragmas: &[QUEUE],
        ..get("asks a query by `$filter`, and answers as a query task", Needs::Filtered)
    }],
};

static DOCUMENT_INDEX: Resource = Resource {
    path: "/core/document-index",
    verbs: &[Verb {
        parameters: &[
            "documentSelfLink",
            "documentVersion",
            "expand",
            "includeDeleted",
            "capability",
        ],
        pragmas: &[QUEUE],
        ..get("shows a document by its link, or lists what a prefix finds", Needs::Filtered)
    }],
};

static CHANGES: Resource = Resource {
    path: "/core/changes",
    verbs: &[Verb {
        parameters: &["after", "wait", "before", "filter", "prefix", "querySpec"],
        ..get("the next changes of documents, as soon as there are some", Needs::Filtered)
    }],
};

static BATCH: Resource = Resource {
    path: protocol::BATCH_LINK,
    verbs: &[Verb {
        headers: &[Header::Quorum, Header::Key],
        ..post("writes many documents, those of a partition all or none", Needs::Document)
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
            parameters: &[
                "documentVersion",
                "asOf",
                "diff",
                "consistency",
                "watch",
                "after",
                "wait",
                "before",
            ],
            pragmas: &[QUEUE],
            headers: CONDITIONS,
            ..get("shows the document, as it is or was, or what changed", Needs::Document)
        },
        Verb {
            parameters: &["revert"],
            pragmas: &[QUEUE],
            headers: WRITE_HEADERS,
            ..verb(
                Method::Put,
                "replaces its state, by that of an old version too",
                Needs::Document,
            )
        },
        Verb {
            pragmas: &[QUEUE],
            headers: WRITE_HEADERS,
            ..verb(Method::Patch, "changes its state", Needs::Document)
        },
        Verb {
            pragmas: WRITE_PRAGMAS,
            headers: WRITE_HEADERS,
            ..verb(Method::Delete, "deletes it", Needs::Document)
        },
    ],
};

static ACTION: Resource = Resource {
    path: "FACTORY/NAME/actions/ACTION",
    verbs: &[Verb {
        headers: WRITE_HEADERS,
        ..post("has a program do this with it; the right is that to PATCH it", Needs::Document)
    }],
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
    verbs: &[
        get("counters since the owner became owner", Needs::Document),
        post("sets a value beside them, for as long", Needs::Document),
    ],
};

/// Where this node and the cluster are explained.
pub(super) const EXPLAIN_NODE: &str = "/core/management/explain";
pub(super) const EXPLAIN_CLUSTER: &str = "/core/node-groups/default/explain";

static EXPLAIN: Resource = Resource {
    path: "FACTORY/NAME/explain",
    verbs: &[get("what it waits for, and what would free it", Needs::Document)],
};

static SUBSCRIPTIONS: Resource = Resource {
    path: "FACTORY/subscriptions, FACTORY/NAME/subscriptions",
    verbs: &[
        get("who is told of its changes, as far as one may see that", Needs::Filtered),
        // A repeated one changes the subscription that is there, so neither needs a key.
        post("tells somebody of its changes from now on", Needs::Document),
        verb(Method::Delete, "ends that", Needs::Document),
    ],
};

static EXPLAIN_FACTORY: Resource = Resource {
    path: "FACTORY/explain",
    verbs: &[get(
        "whether its partitions have owners, and what would give them some",
        Needs::Right,
    )],
};

static EXPLAIN_OTHER: Resource = Resource {
    path: "/core/management/explain, /core/node-groups/default/explain, \
           /core/immortals/NAME/explain",
    verbs: &[get("the same of this node, of the cluster, of an instance", Needs::Right)],
};

static QUERY_PAGE: Resource = Resource {
    path: "/core/query-page/TOKEN",
    verbs: &[
        Verb {
            parameters: &query::PAGE_PARAMETERS,
            pragmas: &[QUEUE],
            ..get("a further page: follow the links you get", Needs::Filtered)
        },
        verb(Method::Delete, "nothing is kept of a page, so nothing is done", Needs::Filtered),
    ],
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

static NODE: Resource = Resource {
    path: "/core/node-groups/default/NODE",
    verbs: &[
        get("shows one node", Needs::Right),
        verb(Method::Patch, "`isDrained`: whether the node shall own nothing", Needs::Right),
        verb(Method::Delete, "removes the node for good", Needs::Right),
    ],
};

static ASKING: Resource = Resource {
    path: "/core/node-groups/default/asking/NODE",
    verbs: &[
        Verb { parameters: &["address"], ..post("lets a node in that asks to join", Needs::Right) },
        Verb { parameters: &["address"], ..verb(Method::Delete, "refuses it", Needs::Right) },
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

static DISK: Resource = Resource {
    path: crate::survey::DISK_LINK,
    verbs: &[get("what takes the room on the disk of this node", Needs::Right)],
};

static BACKUPS: Resource = Resource {
    path: "/core/backups",
    verbs: &[post("begins a backup of everything, as it is at one moment", Needs::Right)],
};

static BACKUP: Resource = Resource {
    path: "/core/backups/ID",
    verbs: &[verb(Method::Delete, "ends it: nothing of it is kept any longer", Needs::Right)],
};

static BACKUP_PAGE: Resource = Resource {
    path: "/core/backups/ID/GROUP",
    verbs: &[Verb {
        parameters: &["after"],
        ..get("the next page of a group, in the form of the files of a backup", Needs::Right)
    }],
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
            parameters: &["timeout"],
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

static SERVE: Resource = Resource {
    path: "/core/factories/KIND/attach",
    verbs: &[get(
        "by an upgrade: a program attaches that has handlers of this kind; the right is that to POST \
         here",
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

static CONSOLE: Resource = Resource {
    path: "/core/console, /core/console/app.js, /core/console/app.css, /core/console/icon.svg",
    verbs: &[Verb {
        headers: &[Header::IfNoneMatch],
        ..get("the console, which a browser gets at `/`, and its files", Needs::Nothing)
    }],
};

static METRICS: Resource = Resource {
    path: "/metrics",
    verbs: &[get("counters of this node, for Prometheus", Needs::Right)],
};

/// Where all of this is described for programs.
pub(super) const OPENAPI_LINK: &str = "/core/openapi.json";

static OPENAPI: Resource = Resource {
    path: OPENAPI_LINK,
    verbs: &[get("all of this as OpenAPI 3.1, with the kinds there are", Needs::Right)],
};

/// All of them, in the order of the reference.
pub static SURFACE: [&Resource; 47] = [
    &ROOT,
    &FACTORY,
    &DOCUMENT,
    &ACTION,
    &AVAILABLE,
    &TEMPLATE,
    &CONFIG,
    &STATS,
    &SUBSCRIPTIONS,
    &EXPLAIN,
    &EXPLAIN_FACTORY,
    &EXPLAIN_OTHER,
    &QUERY_TASKS,
    &QUERY_PAGE,
    &SQL,
    &ODATA,
    &DOCUMENT_INDEX,
    &CHANGES,
    &BATCH,
    &NODE_GROUPS,
    &NODE_GROUP,
    &NODE,
    &ASKING,
    &SELECTOR,
    &FORWARDING,
    &MANAGEMENT,
    &DISK,
    &BACKUPS,
    &BACKUP,
    &BACKUP_PAGE,
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
    &SERVE,
    &LINK,
    &HEALTH,
    &METRICS,
    &CONSOLE,
    &OPENAPI,
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
            crate::survey::DISK_LINK => Some(&DISK),
            EXPLAIN_NODE | EXPLAIN_CLUSTER => Some(&EXPLAIN_OTHER),
            protocol::query::LINK | protocol::query::LOCAL_LINK => Some(&QUERY_TASKS),
            access::LOGIN => Some(&LOG_IN),
            access::JOIN => Some(&JOIN),
            access::WHO_AM_I => Some(&WHO_AM_I),
            access::CAN_I => Some(&CAN_I),
            node_group::PEER_LINK => Some(&LINK),
            super::sql::LINK => Some(&SQL),
            protocol::query::ODATA_LINK => Some(&ODATA),
            protocol::query::INDEX_LINK => Some(&DOCUMENT_INDEX),
            super::watch::LINK => Some(&CHANGES),
            protocol::BATCH_LINK => Some(&BATCH),
            "/livez" | "/readyz" => Some(&HEALTH),
            "/metrics" => Some(&METRICS),
            OPENAPI_LINK => Some(&OPENAPI),
            path if is_of_the_console(path) => Some(&CONSOLE),
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
        if let Some(rest) = super::plan::below(path, backups::LINK) {
            return Self::of_backups(rest);
        }
        if let Some(rest) = below(node_group::LINK) {
            return Self::of_nodes(rest);
        }
        if let Some(rest) = super::plan::below(path, instance_state::LINK) {
            return Self::of_immortals(rest);
        }
        if catalogue.spec(path).is_some() {
            return Some(&FACTORY);
        }
        if below(links::KINDS).is_some_and(is_attach) {
            return Some(&SERVE);
        }
        if super::plan::action_at(path, catalogue).is_some() {
            return Some(&ACTION);
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
            Some("subscriptions") => Some(&SUBSCRIPTIONS),
            Some("explain") if catalogue.spec(of).is_some() => Some(&EXPLAIN_FACTORY),
            Some("explain") => Some(&EXPLAIN),
            Some(_) => None,
        }
    }

    fn of_backups(rest: &str) -> Option<&'static Self> {
        match rest.split('/').collect::<Vec<_>>()[..] {
            [""] => Some(&BACKUPS),
            [_] => Some(&BACKUP),
            [_, _] => Some(&BACKUP_PAGE),
            _ => None,
        }
    }

    fn of_nodes(rest: &str) -> Option<&'static Self> {
        match rest.split_once('/') {
            None => Some(&NODE),
            Some((node_group::ASKING, name)) if !name.contains('/') => Some(&ASKING),
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
            (Some(_), Some("explain"), None) => Some(&EXPLAIN_OTHER),
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

    /// Whether documents are written here and nothing else: a factory, or a document of one.
    pub(super) fn is_of_documents(&'static self) -> bool {
        [&FACTORY, &DOCUMENT].contains(&self)
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
            Method::Delete => [&DOCUMENT, &FORWARDING, &SUBSCRIPTIONS].contains(&self),
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
            (Header::Key, request.idempotency_key.is_some() && request.source().is_none()),
        ] {
            if is_there && !self.headers.contains(&header) {
                let (method, path) = (request.method.name(), &request.path);
                return Err(Problem::bad_request(format!(
                    "{method} {path} does not take the header {}: it would be ignored. \
                     Leave it out",
                    header.name()
                )));
            }
        }
        Ok(())
    }
}

/// Each request for a document comes by here, so most paths are told by their beginning.
fn is_of_the_console(path: &str) -> bool {
    path.starts_with("/core/console") && CONSOLE.path.split(", ").any(|named| named == path)
}

/// Of a path below that of the definitions.
fn is_attach(rest: &str) -> bool {
    rest.strip_suffix("/attach").is_some_and(|kind| !kind.is_empty() && !kind.contains('/'))
}

fn is_immutable(spec: &Spec) -> bool {
    spec.has(ServiceOption::Immutable)
}

#[cfg(test)]
mod tests;
