//! All services that a node knows, with their types erased, and the running of their handlers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::{Document, Problem, links};

use crate::caught::caught;
use crate::definitions::Kinds;
use crate::graph_task::GraphQueryService;
use crate::handlers::{Erased, ErasedTask, Handlers};
use crate::invocation::{Invocation, Invoked, Verdict, Work};
use crate::kinds::Kind;
use crate::outside::Outside;
use crate::query_task::QueryTaskService;
use crate::served::ServedKind;
use crate::spec::STATE_BYTES_MAX;
use crate::subscriptions::Subscriptions;
use crate::{Service, Spec, Task, rules, verbs};

struct Entry {
    spec: Spec,
    handlers: Box<dyn Handlers>,
    /// The link of the document that defines it; none for what is built in.
    definition: Option<String>,
}

/// All services of a node, by the link of their factory: those that were made before the node
/// starts, the same on all nodes, and those that are defined while it runs.
#[derive(Clone)]
pub struct Catalogue {
    entries: BTreeMap<String, Arc<Entry>>,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.keys()).finish()
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalogue {
    /// With the built-in services: query tasks, graph queries, definitions of kinds, and the rules
    /// of who may do what.
    pub fn new() -> Self {
        let built_in = Self { entries: BTreeMap::new() }
            .with_task(QueryTaskService)
            .with_task(GraphQueryService)
            .with(Subscriptions)
            .with(Kinds);
        rules::all().into_iter().fold(built_in, Self::with)
    }

    /// Adds a service.
    ///
    /// # Panics
    /// When the link of its factory is taken or is no link, or states may have more than 8 MiB: a
    /// mistake in the program.
    #[must_use]
    pub fn with<S: Service>(self, service: S) -> Self {
        let spec = service.spec();
        self.add(spec, Box::new(Erased(service)))
    }

    /// Adds a task. It expires after four hours unless its spec says otherwise.
    ///
    /// # Panics
    /// When the link of its factory is taken or is no link, or states may have more than 8 MiB: a
    /// mistake in the program.
    #[must_use]
    pub fn with_task<T: Task>(self, task: T) -> Self {
        let mut spec = task.spec();
        spec.is_task = true;
        if spec.expiration_micros == 0 {
            spec.expiration_micros = crate::spec::TASK_EXPIRATION_MICROS_DEFAULT;
        }
        self.add(spec, Box::new(ErasedTask(task)))
    }

    fn add(mut self, spec: Spec, handlers: Box<dyn Handlers>) -> Self {
        let factory = spec.factory.clone();
        assert!(links::check(&factory).is_ok(), "the factory '{factory}' is no link");
        assert!(
            spec.state_bytes_max <= STATE_BYTES_MAX,
            "the states of {factory} may have {} bytes, and no state has more than \
             {STATE_BYTES_MAX}",
            spec.state_bytes_max
        );
        let entry = Arc::new(Entry { spec, handlers, definition: None });
        let before = self.entries.insert(factory.clone(), entry);
        assert!(before.is_none(), "there are two services with the factory {factory}");
        self
    }

    /// Follows a definition: a document of [`crate::KINDS`]. Says whether a service came or went.
    pub fn define(&mut self, definition: &Document) -> bool {
        let is_its = |entry: &Arc<Entry>| entry.definition.as_deref() == Some(&definition.link);
        let count = self.entries.len();
        self.entries.retain(|_, entry| !is_its(entry));
        let is_gone = self.entries.len() < count;
        if definition.is_deleted() {
            return is_gone;
        }
        // It was checked when it was written; a later version may have written what this one
        // does not understand.
        let fields = definition.body.to_map();
        let Ok(kind) = Kind::of(&fields) else { return is_gone };
        let Ok(outside) = Outside::of(&fields) else { return is_gone };
        let spec = kind.spec();
        if self.entries.contains_key(&spec.factory) {
            return is_gone;
        }
        let definition = Some(definition.link.clone());
        let factory = spec.factory.clone();
        let handlers: Box<dyn Handlers> = match outside.is_empty() {
            true => Box::new(Erased(kind)),
            false => Box::new(ServedKind::new(kind, outside)),
        };
        let entry = Entry { spec, handlers, definition };
        self.entries.insert(factory, Arc::new(entry));
        true
    }

    /// Whether any service is there by a definition.
    pub fn has_definitions(&self) -> bool {
        self.entries.values().any(|entry| entry.definition.is_some())
    }

    /// The services that were made before the node started.
    #[must_use]
    pub fn without_definitions(&self) -> Self {
        let mut entries = self.entries.clone();
        entries.retain(|_, entry| entry.definition.is_none());
        Self { entries }
    }

    /// The service with that factory.
    pub fn spec(&self, factory: &str) -> Option<&Spec> {
        self.entries.get(factory).map(|entry| &entry.spec)
    }

    /// The service that a document's link belongs to.
    pub fn spec_of(&self, link: &str) -> Option<&Spec> {
        let (factory, _) = links::split(link)?;
        self.spec(factory)
    }

    /// What a program outside does for the kind with that factory, if it does anything.
    pub fn outside(&self, factory: &str) -> Option<&Outside> {
        self.entries.get(factory)?.handlers.outside()
    }

    /// All services, in order of their factories' links.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.entries.values().map(|entry| &entry.spec)
    }

    /// Whether the handler may take long, so that it should not be run on the node's own thread.
    pub fn is_slow(&self, invocation: &Invocation) -> bool {
        self.spec_of(&invocation.link).is_some_and(|spec| spec.slow)
    }

    /// Runs a handler. May be called on any thread. A panic in a handler is caught: the client gets
    /// a 500 and nothing is written; a task fails.
    pub fn invoke(&self, invocation: Invocation) -> Invoked {
        let verdict = self.run(&invocation);
        let Invocation { partition, epoch, opening, number, link, .. } = invocation;
        Invoked { partition, epoch, opening, number, link, verdict }
    }

    fn run(&self, invocation: &Invocation) -> Verdict {
        let entry = links::split(&invocation.link).and_then(|(at, _)| self.entries.get(at));
        let Some(Entry { spec, handlers, .. }) = entry.map(AsRef::as_ref) else {
            return Verdict::Refused(self.unknown_service(&invocation.link));
        };
        let job = verbs::Job { spec, handlers: handlers.as_ref(), invocation };
        match &invocation.work {
            Work::Update(request) => {
                let verdict = caught(|| job.update(request));
                verdict.unwrap_or_else(|panic| Verdict::Refused(Problem::internal(panic)))
            }
            // Nothing of the user's runs in it.
            Work::Control(request, control, under_way) => job.control(request, *control, under_way),
            Work::Step(step) => {
                let verdict = caught(|| job.step(step));
                // Nothing of the user's runs in it that is not caught by itself: a panic in `undo`
                // must not keep a task from ending.
                verdict.unwrap_or_else(|panic| job.fail(Problem::internal(panic)))
            }
        }
    }

    /// The words for a link that belongs to no service.
    pub(crate) fn unknown_service(&self, link: &str) -> Problem {
        let known: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        Problem::not_found(format!(
            "{link} belongs to no service; the factories of this node are: {}",
            known.join(", ")
        ))
    }
}
