//! One node as a running process: opens the sandbox, starts the threads and the sockets, and ends
//! them again.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use node::{Node, NodeConfig, Permits, SandboxState, StartError, Timing};
use protocol::Address;
use services::{Catalogue, Invoker};
use storage::{Log, LogError, LogOwner, LogRecord, Recovered, StateStore, StoreError};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ambrosia_ports::AmbrosiaPorts;
use crate::browsers::Browsers;
use crate::callbacks::Callbacks;
use crate::config::CallbackSettings;
use crate::connections::Connections;
use crate::dial::{Dialer, Ends};
use crate::disk::{FileDisk, FolderFiles};
use crate::engine::{Beside, End, Engine, Parts, Pause, Room};
use crate::inbox::{Event, Inbox};
use crate::invoker::Handlers;
use crate::job_threads::JobThreads;
use crate::keyring::sealer;
use crate::log_writer::LogWriter;
use crate::mesh_end::MeshEnd;
use crate::metrics::Metrics;
use crate::named_program::Nameless;
use crate::neighbours::Neighbours;
use crate::numbers::Numbers;
use crate::persister::Persister;
use crate::program_socket::ProgramSocket;
use crate::protection::Protection;
use crate::readiness::Readiness;
use crate::repros::Repros;
use crate::restoring::{self, open_log};
use crate::sandbox::{PutAside, Sandbox, Wanted};
use crate::served::Served;
use crate::space::Space;
use crate::store::FjallStore;
use crate::web::Front;
use crate::{Config, Failure, descriptors, logging, random};

/// The most threads for the clients' connections.
const SOCKET_THREADS_MAX: usize = 4;

/// A machine with so few processors has nothing to gain from more threads than the node's own.
const PROCESSORS_FEW: usize = 3;

/// The stack of the node's thread. What clients send is bounded in how deep it is; this is margin.
const NODE_STACK_BYTES: usize = 16 << 20;

/// How often it is tried to open a sandbox anew that was in use before, and how long between.
const REOPEN_TRIES_MAX: usize = 60;
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// How long tasks of a runtime may take to end.
const RUNTIME_END_MAX: Duration = Duration::from_millis(200);

/// A node that runs in this process.
///
/// Dropping it asks the node to stop and does not wait for it.
pub struct Host {
    node_id: String,
    address: Address,
    inbox: Arc<Inbox>,
    /// Of the node's thread.
    runtime: Handle,
    ended: mpsc::Receiver<Result<(), Failure>>,
}

/// Asks a node to stop; see [`Host::stopper`].
#[derive(Clone)]
pub struct Stopper {
    inbox: Arc<Inbox>,
}

impl Stopper {
    pub fn stop(&self) {
        self.inbox.put(Event::Stop);
    }
}

/// What one life of the node is made from; another begins with it after [`End::Rejoin`].
struct Maker {
    config: Config,
    public: Address,
    /// Where it listens, whatever others call it by.
    port: u16,
    /// Those made before the node starts, and all of them as the node last said.
    services: (Arc<Catalogue>, Arc<Served>),
    sandbox: Sandbox,
    ends: Ends,
}

/// Why a node cannot be made of what a sandbox has.
enum Unfit {
    /// It is not all that the node promised.
    Forgot(String),
    Failed(Failure),
}

impl From<Failure> for Unfit {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StartError> for Unfit {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Forgot(why) => Self::Forgot(why),
            StartError::Impossible(why) => Self::Failed(Failure::new(why)),
        }
    }
}

/// What the node's thread runs, and what it closes at the end.
struct Work {
    runtime: Runtime,
    maker: Maker,
    engine: Engine,
    /// Threads for the connections, if they are not served by the node's own.
    sockets: Option<Runtime>,
    front: JoinHandle<()>,
    /// The programs' door beside it.
    socket: Option<ProgramSocket>,
    /// Dropped to close the connections.
    closing: watch::Sender<()>,
}

impl Host {
    /// Starts a node with these services. When it returns, the node takes requests; whether it is
    /// ready to answer them says `/readyz`.
    ///
    /// Not to be called from asynchronous code, as it waits for the disk.
    ///
    /// # Errors
    /// When the configuration is wrong, the port is in use, or the sandbox cannot be opened.
    pub fn start(config: Config, catalogue: Catalogue) -> Result<Self, Failure> {
        // Who reads why it did not start reads the lines before it as well.
        Self::begin(config, catalogue).inspect_err(|_| logging::flush())
    }

    fn begin(config: Config, catalogue: Catalogue) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut protection = Protection::of(&config)?;
        let (listener, bound) = bind(&config)?;
        let public = public_address(&config, bound);
        check_peers(&config, &public)?;
        let mut sandbox = open_sandbox(&config, bound)?;
        let runtime = runtime(tokio::runtime::Builder::new_current_thread())?;
        let handle = runtime.handle().clone();
        protection.certify(&config, &mut sandbox, &public, &runtime)?;
        let (metrics, numbers) = (Arc::new(Metrics::default()), Numbers::default());
        let inbox = Arc::new(Inbox::new(Arc::clone(&metrics)));
        let budget = Arc::clone(&inbox.budget);
        let places = descriptors::places() / protection.descriptors();
        let connections =
            Arc::new(Connections::new(places, Arc::clone(&metrics), Arc::clone(&budget)));
        let browsers = Browsers::new(&config, &public);
        let datagrams = (!protection.is_on()).then_some(bound);
        let mesh = open_mesh(&public, datagrams, &inbox, &numbers, &handle);
        let node_id = sandbox.identity().node_id.clone();
        let whose = (node_id.as_str(), config.security.audit_days);
        let keeper = protection.keeper(&inbox, &public, whose, &handle);
        let ends = Ends {
            runtime: handle.clone(),
            numbers,
            inbox: Arc::clone(&inbox),
            metrics,
            mesh,
            places,
            nameless: Nameless::default(),
            neighbours: Arc::new(Neighbours::new(&config.security.ambrosia_users, &keeper)),
            secret: protection.secret.clone(),
            tls: protection.tls.clone(),
        };
        let sockets = socket_runtime(config.tuning.socket_threads)?;
        let (catalogue, at, port) = (Arc::new(catalogue), public.clone(), bound.port());
        let served = Arc::new(Served::new(Arc::clone(&catalogue)));
        let services = (catalogue, Arc::clone(&served));
        let mut maker = Maker { config, public: at, port, services, sandbox, ends: ends.clone() };
        if maker.sandbox.identity().others.join.is_none() {
            check_quorum(maker.config.founding.membership_quorum, maker.peers().len().max(1))?;
        }
        maker.tell_of_sandbox();
        let engine = maker.first_engine()?;
        maker.sandbox.tell_address(&public);
        let (closing, closing_seen) = watch::channel(());
        let socket = ProgramSocket::open(maker.sandbox.root(), &ends, closing_seen.clone());
        let metrics = Arc::clone(&ends.metrics);
        protection.follow_files(&handle, &inbox);
        protection.keep_watch(&handle, Arc::clone(&keeper), &maker.sandbox);
        let front = Front {
            readiness: Readiness::new(Arc::clone(&inbox), protection.shown),
            keeper,
            metrics,
            budget,
            ends,
            browsers,
            served,
            connections,
            closing: closing_seen,
        };
        let serving = sockets.as_ref().map_or(&handle, Runtime::handle);
        let listener = listen_on(serving, listener, bound)?;
        let front = serving.spawn(Arc::new(front).serve(listener));
        let ended = Work { runtime, maker, engine, sockets, front, socket, closing }.start()?;
        let ms = begun.elapsed().as_millis();
        tracing::info!(target: "amrita", "node {node_id} takes requests at {public} after {ms} ms");
        Ok(Self { node_id, address: public, inbox, runtime: handle, ended })
    }

    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Where the node is reached.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// SIGINT and SIGTERM stop the node in good order; a second SIGINT ends the process at once.
    pub fn stop_on_signals(&self) {
        let inbox = Arc::clone(&self.inbox);
        self.runtime.spawn(async move {
            if let Err(error) = crate::signals::stop(&inbox).await {
                tracing::warn!(target: "amrita", "signals are not heard: {error}");
            }
        });
    }

    /// Asks the node to stop: it hands over what it owns, then [`Self::wait`] returns.
    pub fn stop(&self) {
        self.stopper().stop();
    }

    /// To stop the node from elsewhere while someone waits for its end.
    pub fn stopper(&self) -> Stopper {
        Stopper { inbox: Arc::clone(&self.inbox) }
    }

    /// Waits until the node has stopped, because it was asked to or cannot go on.
    ///
    /// Not to be called from asynchronous code.
    ///
    /// # Errors
    /// When it could not go on, with the reason.
    pub fn wait(self) -> Result<(), Failure> {
        let ended = self.ended.recv().unwrap_or_else(|_| {
            Err(Failure::new("the node's thread ended by a mistake of this program")
                .advise("the lines above say where; its peers go on, and it can be started again"))
        });
        logging::flush();
        ended
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    /// Starts the node's thread; what it returns says once how the node ended.
    fn start(self) -> Result<mpsc::Receiver<Result<(), Failure>>, Failure> {
        let (sender, ended) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("amrita-node".into());
        let thread = thread.stack_size(NODE_STACK_BYTES);
        // The receiver is gone when the host was dropped; no one wants to know then.
        let work = move || drop(sender.send(self.run()));
        thread.spawn(work).map_err(|error| thread_failure(&error))?;
        Ok(ended)
    }

    fn run(self) -> Result<(), Failure> {
        let Self { runtime, mut maker, engine, sockets, front, socket, closing } = self;
        let ended = runtime.block_on(maker.live(engine));
        // Before the sandbox is left to another process.
        drop(socket);
        drop(closing);
        // The answers that were given last are on their way to the sockets.
        if runtime.block_on(front).is_err() {
            tracing::warn!(target: "amrita", "the connections could not be closed in good order");
        }
        if let Some(sockets) = sockets {
            sockets.shutdown_timeout(RUNTIME_END_MAX);
        }
        runtime.shutdown_timeout(RUNTIME_END_MAX);
        ended
    }
}

impl Maker {
    /// One life after the other until the node is to end.
    async fn live(&mut self, mut engine: Engine) -> Result<(), Failure> {
        loop {
            match self.run(engine).await {
                End::Stopped => return Ok(()),
                End::Halted(why) => return Err(Failure::new(why)),
                End::Rejoin(contact) => engine = self.begin_anew(contact)?,
                End::Reopen => engine = self.reopen().await?,
                End::Renew { why, contact } => {
                    self.give_up(&why, contact)?;
                    engine = self.engine()?;
                }
            }
        }
    }

    async fn run(&mut self, mut engine: Engine) -> End {
        loop {
            match engine.run().await {
                Pause::Ended(end) => return end,
                Pause::Members(members) => {
                    // It is tried again at the next start.
                    if let Err(failure) = self.sandbox.keep_members(members) {
                        tracing::warn!(target: "amrita", "{failure}");
                    }
                    self.tell_how_to_start();
                }
            }
        }
    }

    fn tell_of_sandbox(&self) {
        let (node_id, folder) = (&self.sandbox.identity().node_id, self.sandbox.root().display());
        let sealed = if self.sandbox.key().is_some() { ", encrypted" } else { "" };
        tracing::info!(target: "amrita", "node {node_id} begins; its data is in {folder}{sealed}");
        self.tell_how_to_start();
    }

    /// Before it is too late: a node without a list of peers is alone with an empty sandbox.
    fn tell_how_to_start(&self) {
        let makes_certificates = self.config.makes_certificates();
        let is_told = !self.config.founding.peer_nodes.is_empty()
            || self.config.security.certificates.join.is_some();
        let others = &self.sandbox.identity().others;
        if let Some(how) = others.how_to_start(&self.public.to_string(), makes_certificates)
            && !is_told
        {
            tracing::warn!(target: "amrita", "{how}");
        }
    }

    /// On the same sandbox, as soon as the disk lets it.
    async fn reopen(&mut self) -> Result<Engine, Failure> {
        self.ends.inbox.clear();
        for _ in 0..REOPEN_TRIES_MAX {
            match self.engine() {
                Ok(engine) => return Ok(engine),
                Err(failure) => {
                    tracing::error!(target: "amrita", "{failure}; tried again in a second");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
        self.engine()
    }

    fn begin_anew(&mut self, contact: String) -> Result<Engine, Failure> {
        let what = "this node leaves its data and joins the cluster of";
        tracing::info!(target: "amrita", "{what} {contact}");
        let aside = self.sandbox.renew(PutAside::Left, Some(contact), None)?;
        tracing::info!(target: "amrita", "what it had is in {}", aside.display());
        // What the former life was still to be told is not for the next one.
        self.ends.inbox.clear();
        self.engine()
    }

    /// The node on what the sandbox has; as another replica, with an empty one, when that is not
    /// all that the node promised.
    fn engine(&mut self) -> Result<Engine, Failure> {
        match self.engine_on_sandbox() {
            Err(Unfit::Forgot(why)) => self.give_up(&why, None)?,
            Err(Unfit::Failed(failure)) => return Err(failure),
            Ok(engine) => return Ok(engine),
        }
        self.engine_on_sandbox().map_err(|unfit| match unfit {
            Unfit::Failed(failure) => failure,
            Unfit::Forgot(why) => Failure::new(format!("an empty sandbox cannot be used: {why}")),
        })
    }

    fn first_engine(&mut self) -> Result<Engine, Failure> {
        self.restore()?;
        self.engine()
    }

    /// In an empty sandbox, what the first node of a cluster has that is made of a backup.
    fn restore(&mut self) -> Result<(), Failure> {
        let Some(folder) = self.config.founding.restore.clone() else { return Ok(()) };
        restoring::check_is_empty(&self.sandbox)?;
        if !self.peers().is_empty() || self.sandbox.identity().others.join.is_some() {
            return Err(Failure::new("--restore goes with neither --peer-nodes nor --join").advise(
                "one node restores the backup and is the cluster; the others join it afterwards",
            ));
        }
        let made = restoring::restore(&folder, &mut self.sandbox, &self.public)?;
        tracing::info!(
            target: "amrita",
            "restored from {}: this node is the new cluster {:016x} now, with {} partitions",
            folder.display(),
            made.cluster,
            made.partitions
        );
        Ok(())
    }

    fn engine_on_sandbox(&mut self) -> Result<Engine, Unfit> {
        let (mut log, recovered) = self.open_log()?;
        if recovered.torn_bytes > 0 {
            let bytes = recovered.torn_bytes;
            let why = "they were never acknowledged";
            tracing::info!(target: "amrita", "cut {bytes} bytes off the log: {why}");
        }
        if let Some(LogOwner { boot, sandbox_id }) = recovered.owner
            && sandbox_id == self.sandbox.identity().sandbox_id
        {
            self.sandbox.raise_boot(boot + 1)?;
        }
        let folder = self.sandbox.state_folder();
        let store = FjallStore::open_with(&folder, self.sandbox.key().map(sealer))
            .map_err(|error| self.state_failure(error))?;
        let (persist, health) = (store.persister(), store.health());
        let config = self.node_config();
        let tick = Duration::from_micros(config.timing.tick_micros);
        let owner = LogOwner { sandbox_id: config.sandbox.id, boot: config.sandbox.boot };
        let (catalogue, served) = self.services.clone();
        served.set(Arc::clone(&catalogue));
        let reader = log.reader(FolderFiles::new(&self.sandbox.log_folder()));
        let (inbox, metrics) = (&self.ends.inbox, &self.ends.metrics);
        let handlers = Handlers::start(served, Arc::clone(inbox), Arc::clone(metrics))
            .map_err(|error| thread_failure(&error))?;
        let run_by = (catalogue, Arc::clone(&handlers) as Arc<dyn Invoker>);
        let node = Node::new(config, run_by, recovered, reader, Box::new(store))?;
        let node = if self.config.demands_login()? { node.demanding_login() } else { node };
        let written = log.append(&[LogRecord::Owner(owner)]).and_then(|()| log.sync());
        written.map_err(|error| Failure::new(error.to_string()))?;
        self.sandbox.begin()?;
        let spare = FileDisk::open(&self.sandbox.log_folder())
            .map_err(|error| Failure::new(error.to_string()))?;
        let log = LogWriter::start(log, spare, Arc::clone(inbox), Arc::clone(metrics))
            .map_err(|error| thread_failure(&error))?;
        let persister = Persister::start(persist, Arc::clone(inbox), Arc::clone(metrics))
            .map_err(|error| thread_failure(&error))?;
        let jobs = JobThreads::start(inbox, metrics, self.sandbox.root())
            .map_err(|error| thread_failure(&error))?;
        let ca = self.config.security.callbacks.ca.as_deref();
        let callbacks = Callbacks::start(self.callbacks(), ca, inbox)?;
        Ok(Engine::new(Parts {
            node,
            handlers,
            tick,
            inbox: Arc::clone(inbox),
            log,
            persister,
            beside: Beside { jobs, callbacks },
            dialer: Dialer::new(self.ends.clone()),
            ports: AmbrosiaPorts::new(self.ends.clone()),
            room: Room {
                store: health,
                space: Space::new(
                    self.sandbox.root().to_owned(),
                    self.config.room.free_space_bytes_min,
                ),
            },
            repros: Repros {
                sandbox: self.sandbox.root().to_owned(),
                key: self.sandbox.key().cloned(),
            },
            metrics: Arc::clone(metrics),
        }))
    }

    fn open_log(&mut self) -> Result<(Log<FileDisk>, Recovered), Unfit> {
        let folder = self.sandbox.log_folder();
        // A copy of a node that is alone is a backup: nobody else was promised anything.
        let trusts = self.config.trusts_sandbox || self.contact().is_none();
        open_log(&folder, trusts, self.sandbox.key().map(sealer)).map_err(|error| match error {
            LogError::Corrupt { .. } => Unfit::Forgot(format!("CORRUPT LOG: {error}")),
            other => Unfit::Failed(Failure::new(format!("{other} ({})", folder.display()))),
        })
    }

    /// Another node of the cluster, as far as is known without any data.
    fn contact(&self) -> Option<String> {
        let named = &self.config.founding.peer_nodes;
        self.sandbox.identity().others.another(&self.public.to_string(), named)
    }

    /// This replica cannot keep its promises any more. Another begins in its place and is filled by
    /// its peers, if there are any. `contact`: one of them, who is there.
    fn give_up(&mut self, why: &str, contact: Option<String>) -> Result<(), Failure> {
        let Some(contact) = contact.or_else(|| self.contact()) else {
            return Err(Failure::new(format!("{why} ({})", self.sandbox.root().display())).advise(
                "this node has no peers that could mend it, so nothing was touched: nobody else has \
                 what is in it. Put the sandbox back as it was; or start on what is there with --trust-sandbox yes; or \
                 start with an empty --sandbox and without what was in it",
            ));
        };
        let what = "this node cannot prove that it still has what it promised";
        tracing::error!(target: "amrita", "{what}: {why}");
        let aside = self.sandbox.renew(PutAside::Damaged, Some(contact), Some(why.to_owned()))?;
        tracing::error!(
            target: "amrita",
            "what is left was put aside in {}; the node begins anew, as another replica, and \
             asks its peers to be admitted and filled",
            aside.display()
        );
        // What the former life was still to be told is not for the next one.
        self.ends.inbox.clear();
        Ok(())
    }

    fn state_failure(&self, error: StoreError) -> Unfit {
        if error.is_damage {
            return Unfit::Forgot(error.to_string());
        }
        let folder = self.sandbox.state_folder();
        Unfit::Failed(Failure::new(format!(
            "the state store in {} cannot be opened: {}",
            folder.display(),
            error.why
        )))
    }

    /// The peer list given, or the last one that was.
    fn peers(&self) -> Vec<String> {
        if self.config.founding.peer_nodes.is_empty() {
            return self.sandbox.identity().others.peers.clone();
        }
        self.config.founding.peer_nodes.iter().map(Address::to_string).collect()
    }

    fn upkeep(&self) -> node::Upkeep {
        let usual = node::Upkeep::default();
        let tail = node::TailLimits { bytes_max: self.config.room.log_tail_bytes, ..usual.tail };
        node::Upkeep { tail, log_memory_bytes: self.config.room.log_memory_bytes, ..usual }
    }

    fn timing(&self) -> Timing {
        let usual = Timing::default();
        let Some(timeout) = self.config.tuning.election_timeout else { return usual };
        let ticks = timeout.as_micros().div_ceil(u128::from(usual.tick_micros));
        usual.with_election_ticks(usize::try_from(ticks).expect("a minute at most"))
    }

    fn callbacks(&self) -> protocol::subscription::Callbacks {
        let CallbackSettings { allowed, ca } = &self.config.security.callbacks;
        let (allowed, has_authorities) = (allowed.clone(), ca.is_some());
        let own_port = Some(self.port);
        protocol::subscription::Callbacks { allowed, has_authorities, own_port }
    }

    fn node_config(&self) -> NodeConfig {
        let identity = self.sandbox.identity();
        NodeConfig {
            node_id: identity.node_id.clone(),
            public_uri: self.public.to_string(),
            peers: self.peers(),
            join: identity.others.join.clone(),
            sandbox: SandboxState {
                id: identity.sandbox_id,
                boot: identity.boot,
                has_begun: identity.has_begun,
                is_copy: identity.trust.is_copy,
                is_trusted: self.config.trusts_sandbox,
                trusted_boot: identity.trust.trusted_boot,
                forgot: identity.forgot.clone(),
                has_had_others: identity.others.contact.is_some(),
                others: identity.others.members.clone(),
            },
            seed: random(),
            membership_quorum: self.config.founding.membership_quorum,
            partitions: self.config.founding.partitions,
            timing: self.timing(),
            upkeep: self.upkeep(),
            kept: node::KeptLimits::default(),
            permits: Permits {
                // With certificates of the cluster's own, whoever gets as far as to ask has shown
                // a token that a person made for it.
                admits_who_asks: self.config.founding.admits_who_asks
                    || self.config.makes_certificates(),
                callbacks: self.callbacks(),
            },
        }
    }
}

fn bind(config: &Config) -> Result<(TcpListener, SocketAddr), Failure> {
    let wanted = SocketAddr::new(config.bind_address, config.port);
    let listener = TcpListener::bind(wanted).map_err(|error| listen_failure(wanted, &error))?;
    let made = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
    let bound = made.map_err(|error| listen_failure(wanted, &error))?;
    Ok((listener, bound))
}

/// The listener for the threads of that runtime.
fn listen_on(
    serving: &Handle,
    listener: TcpListener,
    bound: SocketAddr,
) -> Result<tokio::net::TcpListener, Failure> {
    let _entered = serving.enter();
    tokio::net::TcpListener::from_std(listener).map_err(|error| listen_failure(bound, &error))
}

fn listen_failure(wanted: SocketAddr, error: &std::io::Error) -> Failure {
    let port = wanted.port();
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(format!("port {port} is in use at {}", wanted.ip()))
            .advise("stop the process that listens there, or choose another --port"),
        ErrorKind::PermissionDenied => {
            Failure::new(format!("this user may not listen at port {port}"))
                .advise("choose a --port over 1023")
        }
        ErrorKind::AddrNotAvailable => {
            Failure::new(format!("this machine has no address {}", wanted.ip()))
                .advise("name one of its own, or 0.0.0.0 for all, with --bind-address")
        }
        _ => Failure::new(format!("cannot listen at {wanted}: {error}")),
    }
}

fn public_address(config: &Config, bound: SocketAddr) -> Address {
    if let Some(public) = &config.public_uri {
        return public.clone();
    }
    let host = match bound {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".into(),
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".into(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    };
    Address::new(host, bound.port()).with_tls(config.speaks_tls())
}

fn open_sandbox(config: &Config, bound: SocketAddr) -> Result<Sandbox, Failure> {
    let wanted = Wanted {
        node_id: config.id.clone(),
        peers: config.founding.peer_nodes.clone(),
        trusts_sandbox: config.trusts_sandbox,
        encryption: config.encryption.clone(),
    };
    Sandbox::open(&config.sandbox_at(bound.port()), &wanted)
}

fn check_peers(config: &Config, public: &Address) -> Result<(), Failure> {
    let peers = &config.founding.peer_nodes;
    if !peers.is_empty() && !peers.contains(public) {
        return Err(Failure::new(format!(
            "the peer list does not name this node itself, {public}"
        ))
        .advise(
            "give all nodes the same --peer-nodes, with each node's own address in it; if the \
                 list calls this node by another name, say so with --public-uri",
        ));
    }
    let twice = peers.iter().enumerate().find(|(n, peer)| peers[..*n].contains(peer));
    if let Some((_, peer)) = twice {
        return Err(Failure::new(format!("the peer list names {peer} twice"))
            .advise("name each node once in --peer-nodes"));
    }
    Ok(())
}

/// Whether the quorum goes with the number of nodes that form the cluster. What a cluster made of
/// it later is its own affair.
fn check_quorum(quorum: Option<usize>, nodes: usize) -> Result<(), Failure> {
    let majority = nodes / 2 + 1;
    match quorum {
        Some(quorum) if quorum > nodes || quorum < majority => Err(Failure::new(format!(
            "a membership quorum of {quorum} does not go with a cluster of {nodes}"
        ))
        .advise(format!("give --membership-quorum from {majority} to {nodes}, or leave it out"))),
        _ => Ok(()),
    }
}

/// The node's end of the mesh; it reads on the node's thread.
fn open_mesh(
    public: &Address,
    bound: Option<SocketAddr>,
    inbox: &Arc<Inbox>,
    numbers: &Numbers,
    runtime: &Handle,
) -> Arc<MeshEnd> {
    let _within = runtime.enter();
    let mesh = MeshEnd::open(public, bound, Arc::clone(inbox), numbers.clone());
    runtime.spawn(Arc::clone(&mesh).read());
    mesh
}

fn runtime(mut builder: tokio::runtime::Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| thread_failure(&error))
}

/// Threads for the connections. On a small machine they would only take the processor away from
/// the node's thread, and each request would have to cross over to it and back.
fn socket_runtime(threads: Option<usize>) -> Result<Option<Runtime>, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or(match processors {
        0..=PROCESSORS_FEW => 0,
        many => (many - PROCESSORS_FEW + 1).min(SOCKET_THREADS_MAX),
    });
    if threads == 0 {
        return Ok(None);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name("amrita-socket");
    runtime(builder).map(Some)
}

fn thread_failure(error: &std::io::Error) -> Failure {
    Failure::new(format!("the threads cannot be started: {error}"))
        .advise("does this user have too many processes (ulimit -u) or open files (ulimit -n)?")
}
