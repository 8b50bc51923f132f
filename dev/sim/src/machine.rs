//! A simulated machine: a sandbox, a clock, and at times a process that runs a node as it ships.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mesh::Mesh;
use node::{Input, KeptLimits, Node, NodeConfig, SandboxState, StartError, Timing, Upkeep};
use protocol::{Moment, Now};
use services::{Catalogue, Invoker};
use storage::{
    DataKey, Log, LogError, LogOptions, LogOwner, LogRecord, SALT_BYTES, Sealer, StateStore,
};

use crate::agenda::Time;
use crate::checkers::Broken;
use crate::checkers::ledger::{self, Ledger};
use crate::handlers::SeededInvoker;
use crate::media::{SimDisk, SimStore};
use crate::network::Process;

/// The wall clock at the beginning of a run, in microseconds since 1970: some day in 2026.
pub(crate) const WALL_AT_START: u64 = 1_795_000_000_000_000;

/// What a machine keeps when its process ends.
pub(crate) struct Machine {
    pub(crate) name: String,
    /// The services of its process, as it last said.
    pub(crate) served: Arc<Catalogue>,
    pub(crate) uri: String,
    peers: Vec<String>,
    pub(crate) join: Option<String>,
    pub(crate) disk: SimDisk,
    pub(crate) store: SimStore,
    pub(crate) sandbox: u64,
    boot: u64,
    /// Counts processes; the number of the present or the last one.
    life: u64,
    pub(crate) running: Option<Running>,
    /// The process gets nothing until then.
    pub(crate) stalled_until: Time,
    clock: Clock,
    pub(crate) ledger: Ledger,
    /// The ledgers of sandboxes that were lost: what they held, they held.
    pub(crate) lost: Vec<Ledger>,
    /// A bit of its log has decayed and was not noticed yet.
    pub(crate) decayed: bool,
    /// Something of its sandbox was taken away or set back, and that was not noticed so far.
    pub(crate) harmed: bool,
    /// Its log was durably begun.
    has_begun: bool,
    /// A copy was put in place of its sandbox.
    is_copy: bool,
    /// Why its sandbox was begun anew.
    forgot: Option<String>,
    /// Where the other members are, as its node last said, and whether there ever was one.
    others: Option<Vec<String>>,
    has_had_others: bool,
    copy: Option<Copy>,
    /// Its disk is refusing everything.
    pub(crate) failing: bool,
    /// The factor by which syncs take longer.
    pub(crate) disk_slowness: u64,
    /// It is a cluster of its own and has yet to join the one that is simulated.
    pub(crate) foreign: bool,
    /// Whoever starts it has forgotten its list of peers.
    pub(crate) has_no_list: bool,
}

/// A copy of a sandbox.
struct Copy {
    sandbox: u64,
    boot: u64,
    disk: SimDisk,
    store: SimStore,
}

struct Clock {
    /// Parts in a million that the clock of the process is too fast or too slow.
    drift: i64,
    wall_offset: i64,
}

/// A process.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) log: Log<SimDisk>,
    /// What has happened since the last step. The next step is planned while there is anything.
    pub(crate) inbox: Vec<Input>,
    born: Time,
    /// Waits for the log: batches and their records.
    pub(crate) waiting: VecDeque<(u64, Vec<LogRecord>)>,
    /// Written and being synced: up to that batch.
    pub(crate) syncing: Option<u64>,
    /// A write failed as the disk was full; tried again now and then.
    pub(crate) short_of_room: bool,
    /// The next write is such a try.
    pub(crate) retrying: bool,
    /// When the last persist that was asked for will be done.
    pub(crate) persist_done: Time,
    /// Its own numbers for links: the connection and its end.
    pub(crate) links: BTreeMap<u64, (u64, usize)>,
    /// For how many ticks nothing came over each.
    pub(crate) silence: BTreeMap<u64, u32>,
    pub(crate) mesh: Mesh,
    /// Links that are streams of the mesh.
    pub(crate) detours: BTreeMap<u64, u64>,
    pub(crate) next_link: u64,
    /// Addresses to keep a link to.
    pub(crate) dials: BTreeMap<String, Dial>,
    /// Clients' requests that are not answered.
    pub(crate) tickets: BTreeMap<u64, u64>,
    pub(crate) next_ticket: u64,
}

/// The state of a link that is to be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dial {
    /// The connection under way or open.
    pub(crate) connection: Option<u64>,
    /// Failures in a row.
    pub(crate) failures: u32,
}

/// What came of starting a machine's process.
pub(crate) enum Started {
    Running,
    /// Not now: the disk refuses.
    Later,
    /// It does not have what it promised, as this says; start again with an empty sandbox.
    Forgot(String),
}

impl Machine {
    pub(crate) fn new(number: usize, peers: &[String], sandbox: u64, drift: i64) -> Self {
        Self {
            served: Arc::default(),
            name: format!("n{}", number + 1),
            uri: uri(number),
            peers: peers.to_vec(),
            join: None,
            disk: SimDisk::default(),
            store: SimStore::default(),
            sandbox,
            boot: 0,
            life: 0,
            running: None,
            stalled_until: 0,
            clock: Clock { drift, wall_offset: 0 },
            ledger: Ledger::default(),
            lost: Vec::new(),
            decayed: false,
            harmed: false,
            has_begun: false,
            is_copy: false,
            forgot: None,
            others: None,
            has_had_others: false,
            copy: None,
            failing: false,
            disk_slowness: 1,
            foreign: false,
            has_no_list: false,
        }
    }

    /// It is at another address from its next start on, as its own list of peers says, too.
    pub(crate) fn move_to(&mut self, uri: String) {
        let own = self.peers.iter_mut().filter(|peer| **peer == self.uri);
        own.for_each(|peer| peer.clone_from(&uri));
        self.uri = uri;
    }

    /// Whom it asks to be admitted when its log was damaged, as the real shell has it.
    pub(crate) fn contact(&self) -> Option<String> {
        if let Some(others) = &self.others {
            return others.first().cloned();
        }
        let peer = self.peers.iter().find(|peer| **peer != self.uri);
        peer.or(self.join.as_ref()).cloned()
    }

    /// Its node says where the other members are.
    pub(crate) fn keep_others(&mut self, addresses: Vec<String>) {
        self.has_had_others |= !addresses.is_empty();
        self.others = Some(addresses);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn process(&self, number: usize) -> Option<Process> {
        self.running.as_ref().map(|_| Process { machine: number, life: self.life })
    }

    /// What time it is, as its process sees it.
    pub(crate) fn now(&self, time: Time) -> Now {
        let born = self.running.as_ref().map_or(time, |running| running.born);
        let steady_micros = self.own_micros(time - born);
        let wall = (WALL_AT_START + time).saturating_add_signed(self.clock.wall_offset);
        Now { steady_micros, wall: Moment(wall) }
    }

    /// Never falls, as long as the drift is less than the time itself.
    fn own_micros(&self, micros: u64) -> u64 {
        let ahead = i128::from(micros) * i128::from(self.clock.drift) / 1_000_000;
        let own = i128::from(micros).saturating_add(ahead);
        u64::try_from(own).expect("a clock runs forward")
    }

    /// The wall clock is that much later from now on.
    pub(crate) fn shift_clock(&mut self, micros: i64) {
        self.clock.wall_offset = self.clock.wall_offset.saturating_add(micros);
    }

    /// How many processes it had.
    pub(crate) fn lives(&self) -> u64 {
        self.life
    }

    /// For the next process: each one has a salt of its own.
    fn sealer(&self) -> Sealer {
        let mut salt = [0; SALT_BYTES];
        salt[..8].copy_from_slice(&self.sandbox.to_le_bytes());
        salt[8..].copy_from_slice(&self.life.to_le_bytes());
        Sealer::new(DataKey::of_secret(self.name.as_bytes()), salt)
    }

    /// Starts a process on what the disk has.
    ///
    /// # Errors
    /// When the disk lost what it must not lose, or the node cannot be made of what it has.
    pub(crate) fn start(
        &mut self,
        now: Time,
        catalogue: &Arc<Catalogue>,
        wanted: &Wanted,
    ) -> Result<Started, Broken> {
        assert!(self.running.is_none(), "one process at a time has the sandbox");
        let options = LogOptions { segment_bytes: wanted.segment_bytes };
        let sealer = wanted.is_encrypted.then(|| self.sealer());
        let (mut log, recovered) = match Log::open_with(self.disk.clone(), options, sealer) {
            Ok(opened) => opened,
            Err(LogError::Disk(_)) => return Ok(Started::Later),
            Err(error @ LogError::Corrupt { .. }) if self.decayed || self.harmed => {
                return Ok(Started::Forgot(error.to_string()));
            }
            Err(error) => {
                let what = format!("{}: {error}", self.name);
                return Err(Broken::new("a log that nobody damaged can be opened", what));
            }
        };
        // If a bit has decayed, it was one that nobody needs.
        self.decayed = false;
        self.boot += 1;
        if let Some(owner) = recovered.owner.filter(|owner| owner.sandbox_id == self.sandbox) {
            self.boot = self.boot.max(owner.boot + 1);
        }
        self.life += 1;
        let config = self.config(wanted);
        let store: Box<dyn StateStore> = Box::new(self.store.clone());
        let reader = log.reader(self.disk.clone());
        let found = ledger::read(&recovered, &*reader);
        let invoker: Arc<dyn Invoker> =
            Arc::new(SeededInvoker::new(wanted.seed ^ self.life ^ self.sandbox));
        self.served = Arc::clone(catalogue);
        let handlers = (Arc::clone(catalogue), invoker);
        let node = match Node::new(config, handlers, recovered, reader, store) {
            Ok(node) => node,
            // At its very first start the disk has failed between the state and the log.
            Err(StartError::Forgot(why)) if self.harmed || !self.has_begun => {
                return Ok(Started::Forgot(why));
            }
            Err(error) => {
                let what = format!("{}: {error:?}", self.name);
                return Err(Broken::new("a node can start on what it had", what));
            }
        };
        let node = if wanted.demands_login { node.demanding_login() } else { node };
        // Also one that was harmed: what it takes for sound must be so.
        let checked = found.and_then(|found| self.ledger.reopened(&found));
        checked.map_err(|broken| broken.at(&self.name))?;
        self.harmed = false;
        let owner = LogOwner { sandbox_id: self.sandbox, boot: self.boot };
        if log.append(&[LogRecord::Owner(owner)]).and_then(|()| log.sync()).is_err() {
            return Ok(Started::Later);
        }
        self.has_begun = true;
        self.running = Some(Running {
            node,
            log,
            inbox: Vec::new(),
            born: now,
            waiting: VecDeque::new(),
            syncing: None,
            short_of_room: false,
            retrying: false,
            persist_done: 0,
            links: BTreeMap::new(),
            silence: BTreeMap::new(),
            mesh: Mesh::new(&self.uri, now + self.life),
            detours: BTreeMap::new(),
            next_link: 0,
            dials: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
        });
        Ok(Started::Running)
    }

    fn config(&self, wanted: &Wanted) -> NodeConfig {
        NodeConfig {
            node_id: self.name.clone(),
            public_uri: self.uri.clone(),
            peers: if self.has_no_list { Vec::new() } else { self.peers.clone() },
            join: self.join.clone(),
            sandbox: SandboxState {
                id: self.sandbox,
                boot: self.boot,
                has_begun: self.has_begun,
                is_copy: self.is_copy,
                is_trusted: false,
                trusted_boot: 0,
                forgot: self.forgot.clone(),
                has_had_others: self.has_had_others,
                others: self.others.clone(),
            },
            seed: wanted.seed,
            membership_quorum: wanted.membership_quorum,
            partitions: wanted.partitions,
            timing: Timing {
                rest_ticks: rest_ticks(wanted.seed),
                audit_ticks: wanted.audit_ticks,
                audit_again_ticks: 20 * wanted.audit_ticks,
                away_ticks: 150,
                ..Timing::default()
            },
            upkeep: wanted.upkeep,
            kept: wanted.kept,
            permits: Default::default(),
        }
    }

    pub(crate) fn heal_disk(&mut self) {
        self.disk.fill(false);
        self.disk.mend();
        self.failing = false;
        self.disk_slowness = 1;
    }

    /// The sandbox is gone, or put aside; the next start has a new one.
    pub(crate) fn renew(&mut self, sandbox: u64, join: Option<String>) {
        assert!(self.running.is_none(), "a sandbox in use is not put aside");
        self.disk.wipe();
        self.store.wipe();
        self.lost.push(std::mem::take(&mut self.ledger));
        self.sandbox = sandbox;
        self.boot = 0;
        self.decayed = false;
        self.harmed = false;
        self.has_begun = false;
        self.is_copy = false;
        self.forgot = None;
        self.others = None;
        self.has_had_others = false;
        self.copy = None;
        self.join = join;
    }

    /// The same, as the node itself has found that it does not have what it promised.
    pub(crate) fn renew_as_it_forgot(&mut self, sandbox: u64, why: String) {
        let (contact, others) = (self.contact(), self.others.take());
        self.renew(sandbox, contact);
        self.others = others;
        self.forgot = Some(why);
    }

    /// No copy of the present sandbox was made.
    pub(crate) fn has_no_copy(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.sandbox != self.sandbox)
    }

    pub(crate) fn make_copy(&mut self) {
        let (disk, store) = (self.disk.copy(), self.store.copy());
        self.copy = Some(Copy { sandbox: self.sandbox, boot: self.boot, disk, store });
    }

    /// The copy takes the place of the log, the state, or the whole sandbox.
    pub(crate) fn put_back(&mut self, log: bool, state: bool) {
        let copy = self.copy.as_ref().expect("the caller has looked");
        self.harmed = true;
        if log {
            self.disk.put_back(&copy.disk);
        }
        if state {
            self.store.put_back(&copy.store);
        }
        if log && state {
            self.boot = copy.boot;
            self.is_copy = true;
        }
    }
}

impl Running {
    /// Which of its links a connection is.
    pub(crate) fn link_of(&self, connection: u64, end: usize) -> Option<u64> {
        let mut links = self.links.iter();
        links.find(|(_, known)| **known == (connection, end)).map(|(link, _)| *link)
    }

    pub(crate) fn open_link(&mut self, connection: u64, end: usize) -> u64 {
        self.next_link += 1;
        self.links.insert(self.next_link, (connection, end));
        self.next_link
    }

    /// Which of its links a stream is.
    pub(crate) fn detour_of(&self, stream: u64) -> Option<u64> {
        let mut detours = self.detours.iter();
        detours.find(|(_, known)| **known == stream).map(|(link, _)| *link)
    }

    /// The address whose link that connection is.
    pub(crate) fn dialed(&self, connection: u64) -> Option<String> {
        let mut dials = self.dials.iter();
        dials.find(|(_, dial)| dial.connection == Some(connection)).map(|(to, _)| to.clone())
    }
}

/// What a process is started with, beside what the machine has.
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) upkeep: Upkeep,
    pub(crate) kept: KeptLimits,
    pub(crate) partitions: u32,
    pub(crate) audit_ticks: u64,
    pub(crate) membership_quorum: Option<usize>,
    pub(crate) demands_login: bool,
    /// The logs of all nodes are.
    pub(crate) is_encrypted: bool,
}

pub(crate) fn uri(number: usize) -> String {
    format!("http://10.0.0.{}:8000", number + 1)
}
/// Mostly soon, so that groups often rest and wake.
fn rest_ticks(seed: u64) -> usize {
    match seed % 4 {
        0 => 3,
        1 => 10,
        2 => 30,
        _ => Timing::default().rest_ticks,
    }
}
