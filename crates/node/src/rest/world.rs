//! One node of three, for the tests of the REST resources. What the node knows is made up, and
//! nothing is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{Asking, Change, DirectoryCommand, Identity, InitialConfig, Links, Member};
use immortals::{Peer, ReplicaStatus};
use protocol::{Action, Body, Document, GroupId, Method, Moment, Now, Problem, ReplicaId, Request};
use serde_json::{Map, Value};
use services::{
    Catalogue, Context, Field, FieldType, Handlers, QuickInvoker, Service, ServiceOption, Spec,
    Task,
};
use storage::{MemoryLog, MemoryStore};

use super::{Plan, plan};
use crate::control::Control;
use crate::groups::{begin_all, follow_entry};
use crate::instance::InstanceEvent;
use crate::io::{NodeConfig, Timing, Upkeep};
use crate::log_batch::{LogBatch, Logs};
use crate::placement::Placement;
use crate::shard::{Conditions, Shard};
use crate::view::View;
use crate::work::Effects;

pub(super) const THINGS: &str = "/core/things";

struct Things(&'static str, Option<ServiceOption>);

impl Service for Things {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        let spec = Spec::new(self.0, "test:Things:Thing");
        let spec = spec.field(Field::new("name", FieldType::String));
        match self.1 {
            Some(option) => spec.option(option),
            None => spec,
        }
    }
}

struct Walks;

impl Task for Walks {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        Spec::new("/core/walks", "test:Walks:Walk")
    }

    fn plan(&self, _: &Context<'_>, _: &Self::State) -> services::Plan {
        services::Plan::Finish
    }

    fn learn(
        &self,
        _: &mut Context<'_>,
        _: &mut Self::State,
        _: &[protocol::Response],
    ) -> Result<(), Problem> {
        Ok(())
    }
}

pub(super) fn catalogue() -> Catalogue {
    Catalogue::new()
        .with(Things(THINGS, None))
        .with(Things("/core/fixed", Some(ServiceOption::Immutable)))
        .with_task(Walks)
}

pub(crate) struct World {
    config: NodeConfig,
    pub(super) now: Now,
    links: Links,
    pub(super) control: Control,
    pub(super) shard: Shard,
    pub(super) placement: Placement,
    pub(super) asking: Asking,
    pub(super) is_stopping: bool,
}

impl World {
    /// The node n1 of three; it hears of no other, and owns nothing.
    pub(crate) fn new() -> Self {
        let config = config();
        let member = |number: u64| Member {
            node_id: format!("n{number}"),
            uri: format!("http://127.0.0.1:{}", 8_000 + number),
            sandbox_id: number,
        };
        let founders: BTreeMap<ReplicaId, Member> =
            (1..=3).map(|number| (ReplicaId(number), member(number))).collect();
        let initial = InitialConfig::new(config.partitions, founders);
        let me = ReplicaId(1);
        let identity = Identity { replica: me, initial: initial.clone() };
        let handlers = Handlers {
            catalogue: Arc::new(catalogue()),
            invoker: Arc::new(QuickInvoker),
            node_id: config.node_id.as_str().into(),
            guard: access::Guard::default(),
            attached: Default::default(),
        };
        let reader = MemoryLog::default().reader();
        let logs = Logs::new(BTreeMap::new(), reader, config.upkeep.log_memory_bytes);
        let store = Box::new(MemoryStore::new());
        let shard =
            begin_all(&identity, store, handlers, logs, LogBatch::after_start(0, 1 << 30), &config);
        let shard = shard.expect("a node begins with an empty store");
        let now = Now { steady_micros: 5_000_000, wall: Moment(1_700_000_000_000_000) };
        let mut control = Control::new(me, initial.clone(), Default::default(), now.wall);
        let services: Vec<String> =
            shard.handlers.catalogue.specs().map(|spec| spec.factory.clone()).collect();
        control.services.heard([(ReplicaId(2), services.as_slice())].into_iter());
        control.map.topology.apply(DirectoryCommand::Form { initial, quorum: None });
        let (links, asking) = (Links::default(), Asking::default());
        Self {
            config,
            now,
            links,
            control,
            shard,
            placement: Placement::default(),
            asking,
            is_stopping: false,
        }
    }

    /// Changes the directory as this node knows it.
    pub(super) fn apply(&mut self, command: DirectoryCommand) -> Change {
        self.control.map.topology.apply(command)
    }

    /// Begins the replica of an instance that is registered.
    pub(super) fn begin(&mut self, name: &str) -> GroupId {
        let group = self.control.map.topology.instance(name).expect("it is registered").group;
        let (conditions, mut effects) = (conditions(&self.control, self.now), Effects::default());
        follow_entry(group, &mut self.shard, &conditions, &self.config, &mut effects)
            .expect("an instance begins with an empty store");
        group
    }

    /// Another replica of the instance says how it is.
    pub(super) fn hears(&mut self, group: GroupId, from: u64, status: ReplicaStatus) {
        let (from, message) = (ReplicaId(from), Peer::Status(status));
        let event = InstanceEvent::Input(::immortals::Input::Peer { from, message });
        let (conditions, mut effects) = (conditions(&self.control, self.now), Effects::default());
        self.shard.instance_event(group, event, &conditions, &mut effects).unwrap();
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            config: &self.config,
            now: self.now,
            links: &self.links,
            control: &self.control,
            shard: &self.shard,
            placement: &self.placement,
            asking: &self.asking,
            is_stopping: self.is_stopping,
            in_flight: 0,
        }
    }

    /// The same where logins are demanded: `nora` has no role, `rita` reads, and `anna` is an
    /// admin.
    pub(super) fn with_logins() -> Self {
        let mut world = Self::new();
        let user = |name: &str, groups: Vec<String>| Document {
            link: format!("{}/{name}", access::USERS),
            version: 0,
            epoch: Default::default(),
            kind: String::new(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_state(&serde_json::json!({ "userGroupLinks": groups })).unwrap(),
        };
        let readers = access::BuiltInRole::Reader.group_link();
        let admins = access::BuiltInRole::Admin.group_link();
        let policy = access::Policy::of([
            user("nora", Vec::new()),
            user("rita", vec![readers]),
            user("anna", vec![admins]),
        ]);
        world.shard.handlers.guard = access::Guard { is_on: true, policy: policy.into() };
        world
    }

    /// What is planned for `METHOD /path?query` with this body.
    pub(super) fn plan(&self, line: &str, body: &str) -> Result<Plan, Problem> {
        self.plan_of(request(line, body))
    }

    pub(super) fn plan_of(&self, request: Request) -> Result<Plan, Problem> {
        match plan(request, 7, &self.view())? {
            Plan::Enter(request) => plan(*request, 8, &self.view()),
            plan => Ok(plan),
        }
    }
}

fn conditions(control: &Control, now: Now) -> Conditions<'_> {
    let (me, map) = (control.me, &control.map);
    Conditions { now, me, map, quorum: Default::default(), may_lead: false }
}

pub(super) fn request(line: &str, body: &str) -> Request {
    let (method, target) = line.split_once(' ').expect("a verb and a path");
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        other => panic!("no verb {other}"),
    };
    let body = body.to_owned().into();
    Request { method, body, ..Request::get(target) }
}

fn config() -> NodeConfig {
    NodeConfig {
        node_id: "n1".into(),
        public_uri: "http://127.0.0.1:8001".into(),
        peers: Vec::new(),
        join: None,
        sandbox: crate::io::SandboxState {
            id: 1,
            boot: 1,
            has_begun: false,
            is_copy: false,
            is_trusted: false,
            trusted_boot: 0,
            forgot: None,
            has_had_others: false,
            others: None,
        },
        seed: 1,
        membership_quorum: None,
        partitions: 4,
        timing: Timing::default(),
        upkeep: Upkeep::default(),
        kept: ::immortals::KeptLimits::default(),
        permits: Default::default(),
    }
}
