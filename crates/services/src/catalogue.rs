//! All services that a node knows, with their types erased, and the running of their handlers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use protocol::{Problem, links};

use crate::handlers::{Erased, ErasedTask, Handlers};
use crate::invocation::{Invocation, Invoked, Verdict, Work};
use crate::query_task::QueryTaskService;
use crate::spec::STATE_BYTES_MAX;
use crate::{Service, Spec, Task, rules, verbs};

struct Entry {
    spec: Spec,
    handlers: Box<dyn Handlers>,
}

/// All services of a node, by the link of their factory. Made before the node starts, the same on
/// all nodes.
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalogue {
    /// With the built-in services: query tasks, and the rules of who may do what.
    pub fn new() -> Self {
        let built_in = Self { entries: BTreeMap::new() }.with_task(QueryTaskService);
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
        let before = self.entries.insert(factory.clone(), Entry { spec, handlers });
        assert!(before.is_none(), "there are two services with the factory {factory}");
        self
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
        let Some(Entry { spec, handlers }) = entry else {
            return Verdict::Refused(self.unknown_service(&invocation.link));
        };
        let job = verbs::Job { spec, handlers: handlers.as_ref(), invocation };
        match &invocation.work {
            Work::Update(request) => {
                let verdict = caught(|| job.update(request));
                verdict.unwrap_or_else(|panic| Verdict::Refused(Problem::internal(panic)))
            }
            Work::Step(step) => {
                let verdict = caught(|| job.step(step));
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

/// Runs what a user wrote.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no words");
        format!("the handler panicked: {words}")
    })
}
