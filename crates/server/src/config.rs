//! What can be set at a node. How it is read is in `settings.rs`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use protocol::Address;

use crate::encryption::Encryption;
use crate::jwt_settings::JwtSettings;
use crate::peer_ids::PeerId;

/// The port when none is given (Xenon's).
pub const PORT_DEFAULT: u16 = 8000;

/// The number of partitions of a new cluster when none is given.
pub const PARTITIONS_DEFAULT: u32 = 6;

/// How much of the disk is to stay free when nothing is said, in MiB.
const FREE_SPACE_MIB_DEFAULT: u64 = 128;

/// What the logs of all groups take in memory when nothing is said, in MiB.
const LOG_MEMORY_MIB_DEFAULT: usize = 64;

/// How much of its log a group keeps for others when nothing is said, in MiB.
const LOG_TAIL_MIB_DEFAULT: u64 = 1_024;

/// How long a record of the audit trail is kept when nothing is said.
const AUDIT_DAYS_DEFAULT: u32 = 90;

/// The most partitions a cluster may have.
pub const PARTITIONS_MAX: u32 = 1024;

/// What a node finds out by itself, unless it is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuning {
    /// How long an owner may be silent; `None` goes by what the network is like.
    pub election_timeout: Option<Duration>,
    /// Threads for the clients' connections; 0 serves them on the node's own thread. `None` decides
    /// by the number of processors.
    pub socket_threads: Option<usize>,
}

/// All that a user may want to set of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name people know the node by. Without one, the sandbox's is taken, or made up.
    pub id: Option<String>,
    /// 0 takes any free port.
    pub port: u16,
    pub bind_address: IpAddr,
    /// Where others reach this node, when that is not the bind address and the port.
    pub public_uri: Option<Address>,
    pub founding: Founding,
    /// Where the data is; by default under the system's folder for temporary files.
    pub sandbox: Option<PathBuf>,
    /// A person says, for one start, that the sandbox has all that the node promised.
    pub trusts_sandbox: bool,
    pub room: Room,
    pub tuning: Tuning,
    pub security: Security,
    pub encryption: Encryption,
    pub log: LogSettings,
}

/// What the node says on standard error, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list as `warn,amrita=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, and what else is said.
    Json,
}

/// What counts when the cluster forms, and later only to be compared.
#[derive(Clone, Debug)]
pub struct Founding {
    /// All nodes of a new cluster, this one included; empty to begin alone.
    pub peer_nodes: Vec<Address>,
    /// How many replicas must hold a write.
    pub membership_quorum: Option<usize>,
    pub partitions: u32,
    /// A backup that the new cluster is made of.
    pub restore: Option<PathBuf>,
    /// Nodes that ask to join later are let in, and wait for no person.
    pub admits_who_asks: bool,
}

impl Default for Founding {
    fn default() -> Self {
        Self {
            peer_nodes: Vec::new(),
            membership_quorum: None,
            partitions: PARTITIONS_DEFAULT,
            restore: None,
            admits_who_asks: false,
        }
    }
}

/// How much a node may take of its machine, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// With less free space on the sandbox's disk the node takes no writes.
    pub free_space_bytes_min: u64,
    /// What the logs of all groups may take in memory.
    pub log_memory_bytes: usize,
    /// How much of their logs all groups together keep for replicas that are away.
    pub log_tail_bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            free_space_bytes_min: FREE_SPACE_MIB_DEFAULT << 20,
            log_memory_bytes: LOG_MEMORY_MIB_DEFAULT << 20,
            log_tail_bytes: LOG_TAIL_MIB_DEFAULT << 20,
        }
    }
}

/// Who may speak to a node.
#[derive(Clone, Debug)]
pub struct Security {
    /// Nobody does anything without a right to it. Without it that is so as soon as the node is
    /// bound to anything but loopback.
    pub auth: bool,
    /// Everybody who reaches the node may do everything, wherever it is bound.
    pub insecure: bool,
    /// What all nodes of the cluster know and nobody else.
    pub link_secret_file: Option<PathBuf>,
    pub certificates: Certificates,
    /// The outside issuer whose tokens are taken.
    pub jwt: JwtSettings,
    /// How many days a record of the audit trail is kept.
    pub audit_days: u32,
    pub browsers: BrowserSettings,
    pub callbacks: CallbackSettings,
    /// Whose programs may connect to AMBROSIA's ports, beside those of the user that runs the node.
    pub ambrosia_users: MachineUsers,
}

/// What browsers may do.
#[derive(Clone, Debug, Default)]
pub struct BrowserSettings {
    /// Names that clients may call this node by, beside its own and addresses in figures; `*` for
    /// any.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may speak to this node from a browser; `*` for any.
    pub cors_origins: Vec<String>,
}

/// By what a node is known, and by what it knows others.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The certificate by which clients and other nodes know this node.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Who signs the certificates of the cluster's nodes.
    pub tls_client_ca: Option<PathBuf>,
    /// By which ids nodes are known, if that authority signs others as well.
    pub tls_peer_ids: Vec<PeerId>,
    /// The cluster makes the certificates of its nodes. So it is as well when others reach the node
    /// and nothing else is said.
    pub cluster_ca: bool,
    /// The token of one use by which this node joins such a cluster.
    pub join: Option<access::JoinToken>,
}

/// Users of this machine, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineUsers {
    These(Vec<u32>),
    /// Whoever it is.
    All,
}

impl Default for MachineUsers {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// Whom the node may tell of changes.
#[derive(Clone, Debug, Default)]
pub struct CallbackSettings {
    /// Addresses beside those of the node's own machine.
    pub allowed: Vec<String>,
    /// Who signs the certificates of those that are told over TLS.
    pub ca: Option<PathBuf>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            auth: false,
            insecure: false,
            link_secret_file: None,
            certificates: Certificates::default(),
            jwt: JwtSettings::default(),
            audit_days: AUDIT_DAYS_DEFAULT,
            browsers: BrowserSettings::default(),
            callbacks: CallbackSettings::default(),
            ambrosia_users: MachineUsers::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: None,
            port: PORT_DEFAULT,
            bind_address: IpAddr::from([127, 0, 0, 1]),
            public_uri: None,
            founding: Founding::default(),
            sandbox: None,
            trusts_sandbox: false,
            room: Room::default(),
            tuning: Tuning::default(),
            security: Security::default(),
            encryption: Encryption::default(),
            log: LogSettings { level: "info".into(), format: LogFormat::Text },
        }
    }
}

impl Config {
    /// Where the data is, once the port is known.
    pub fn sandbox_at(&self, port: u16) -> PathBuf {
        match &self.sandbox {
            Some(folder) => folder.clone(),
            None => sandbox_default().join(port.to_string()),
        }
    }
}

/// The folder under which each node has a sandbox named after its port.
pub fn sandbox_default() -> PathBuf {
    std::env::temp_dir().join("amrita")
}
