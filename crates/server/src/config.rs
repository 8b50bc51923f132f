//! What can be set, and where it may be set: a TOML file, then the environment, then the flags;
//! what comes later wins. One table describes all settings, so that the three agree.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::Address;

use crate::Failure;

/// The port when none is given (Xenon's).
pub const PORT_DEFAULT: u16 = 8000;

/// The number of partitions of a new cluster when none is given.
pub const PARTITIONS_DEFAULT: u32 = 6;

/// How much of the disk is to stay free when nothing is said, in MiB.
const FREE_SPACE_MIB_DEFAULT: u64 = 128;

/// What the logs of all groups take in memory when nothing is said, in MiB.
const LOG_MEMORY_MIB_DEFAULT: usize = 64;

/// How much of its log a group keeps for others when nothing is said, in MiB.
const LOG_TAIL_MIB_DEFAULT: u64 = 256;

/// How long a record of the audit trail is kept when nothing is said.
const AUDIT_DAYS_DEFAULT: u32 = 90;

/// The most partitions a cluster may have.
pub const PARTITIONS_MAX: u32 = 1024;

/// The longest node id, in bytes.
const ID_BYTES_MAX: usize = 64;

/// The environment variable and the flag that name the TOML file.
const CONFIG_VARIABLE: &str = "AMRITA_CONFIG";
const CONFIG_FLAG: &str = "config";

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
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list as `warn,amrita=debug`.
    pub log_level: String,
}

/// What counts when the cluster forms, and later only to be compared.
#[derive(Clone, Debug)]
pub struct Founding {
    /// All nodes of a new cluster, this one included; empty to begin alone.
    pub peer_nodes: Vec<Address>,
    /// How many replicas must hold a write.
    pub membership_quorum: Option<usize>,
    pub partitions: u32,
}

impl Default for Founding {
    fn default() -> Self {
        Self { peer_nodes: Vec::new(), membership_quorum: None, partitions: PARTITIONS_DEFAULT }
    }
}

/// How much a node may take of its machine, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// With less free space on the sandbox's disk the node takes no writes.
    pub free_space_bytes_min: u64,
    /// What the logs of all groups may take in memory.
    pub log_memory_bytes: usize,
    /// How much of its log each group keeps for a replica that is away.
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
    /// The certificate by which clients and other nodes know this node.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Who signs the certificates of the cluster's nodes.
    pub tls_client_ca: Option<PathBuf>,
    /// The cluster makes the certificates of its nodes. So it is as well when others reach the node
    /// and nothing else is said.
    pub cluster_ca: bool,
    /// The token of one use by which this node joins such a cluster.
    pub join: Option<access::JoinToken>,
    /// How many days a record of the audit trail is kept.
    pub audit_days: u32,
    /// Names that clients may call this node by, beside its own and addresses in figures; `*` for
    /// any.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may speak to this node from a browser; `*` for any.
    pub cors_origins: Vec<String>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            auth: false,
            insecure: false,
            link_secret_file: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            cluster_ca: false,
            join: None,
            audit_days: AUDIT_DAYS_DEFAULT,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
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
            log_level: "info".into(),
        }
    }
}

/// One row of the table of settings.
pub struct Setting {
    /// The flag without its dashes; with `_` for `-` it is the key in the file.
    pub name: &'static str,
    /// Xenon's spelling of the flag, where it differs.
    pub alias: Option<&'static str>,
    /// The environment variable.
    pub variable: &'static str,
    /// What stands for the value in the help; empty for a switch, which may stand alone.
    pub value: &'static str,
    pub help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

/// Every setting there is.
pub const SETTINGS: [Setting; 26] = [
    Setting {
        name: "id",
        alias: None,
        variable: "AMRITA_ID",
        value: "NAME",
        help: "Name of the node [default: that of the sandbox, or one made up]",
        set: |config, text| {
            config.id = Some(node_id(text)?);
            Ok(())
        },
    },
    Setting {
        name: "port",
        alias: None,
        variable: "AMRITA_PORT",
        value: "PORT",
        help: "Port for everything: REST and the links between nodes; 0 takes a free one \
               [default: 8000]",
        set: |config, text| {
            config.port = number(text, 0, u64::from(u16::MAX))?;
            Ok(())
        },
    },
    Setting {
        name: "bind-address",
        alias: Some("bindAddress"),
        variable: "AMRITA_BIND_ADDRESS",
        value: "IP",
        help: "Address to listen at; 0.0.0.0 for all [default: 127.0.0.1]",
        set: |config, text| {
            let text = if text == "localhost" { "127.0.0.1" } else { text };
            config.bind_address =
                text.parse().map_err(|_| format!("'{text}' is not an IP address"))?;
            Ok(())
        },
    },
    Setting {
        name: "public-uri",
        alias: Some("publicUri"),
        variable: "AMRITA_PUBLIC_URI",
        value: "URI",
        help: "Where others reach this node [default: from the bind address and the port]",
        set: |config, text| {
            config.public_uri = Some(Address::parse(text)?);
            Ok(())
        },
    },
    Setting {
        name: "peer-nodes",
        alias: Some("peerNodes"),
        variable: "AMRITA_PEER_NODES",
        value: "URI,URI,...",
        help: "All nodes of a new cluster, this one included, the same list for each; without \
               it the node begins alone",
        set: |config, text| {
            config.founding.peer_nodes = list(text, Address::parse)?;
            Ok(())
        },
    },
    Setting {
        name: "sandbox",
        alias: None,
        variable: "AMRITA_SANDBOX",
        value: "DIR",
        help: "Folder of the node's data [default: amrita/PORT under the system's folder for \
               temporary files]",
        set: |config, text| {
            if text.is_empty() {
                return Err("a folder is needed".into());
            }
            config.sandbox = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "membership-quorum",
        alias: Some("membershipQuorum"),
        variable: "AMRITA_MEMBERSHIP_QUORUM",
        value: "N",
        help: "How many nodes must hold a write before it is acknowledged, from the majority up \
               to all; counts when the cluster forms, later use `amrita quorum N` \
               [default: the majority]",
        set: |config, text| {
            config.founding.membership_quorum = Some(number(text, 1, 1000)?);
            Ok(())
        },
    },
    Setting {
        name: "partitions",
        alias: None,
        variable: "AMRITA_PARTITIONS",
        value: "N",
        help: "Into how many partitions the documents are divided; counts when the cluster \
               forms [default: 6]",
        set: |config, text| {
            config.founding.partitions = number(text, 1, u64::from(PARTITIONS_MAX))?;
            Ok(())
        },
    },
    Setting {
        name: "trust-sandbox",
        alias: None,
        variable: "AMRITA_TRUST_SANDBOX",
        value: "yes",
        help: "For one start, when you have moved the sandbox, or put it back as it was: the node \
               takes its word that nothing is missing that it promised [default: no]",
        set: |config, text| {
            config.trusts_sandbox = match text {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return Err("expected yes or no".to_owned()),
            };
            Ok(())
        },
    },
    Setting {
        name: "free-space-min",
        alias: None,
        variable: "AMRITA_FREE_SPACE_MIN",
        value: "MIB",
        help: "With less free space on the disk the node takes no writes [default: 128]",
        set: |config, text| {
            config.room.free_space_bytes_min = number::<u64>(text, 0, u64::MAX >> 20)? << 20;
            Ok(())
        },
    },
    Setting {
        name: "log-memory",
        alias: None,
        variable: "AMRITA_LOG_MEMORY",
        value: "MIB",
        help: "What the logs of all partitions and instances may take in memory; older entries are \
               read from the disk [default: 64]",
        set: |config, text| {
            config.room.log_memory_bytes = number::<usize>(text, 0, u64::MAX >> 20)? << 20;
            Ok(())
        },
    },
    Setting {
        name: "log-tail",
        alias: None,
        variable: "AMRITA_LOG_TAIL",
        value: "MIB",
        help: "How much of its log each partition and instance keeps for a node that is away, so \
               that it need not be sent the whole state when it returns [default: 256]",
        set: |config, text| {
            config.room.log_tail_bytes = number::<u64>(text, 0, u64::MAX >> 20)? << 20;
            Ok(())
        },
    },
    Setting {
        name: "election-timeout",
        alias: None,
        variable: "AMRITA_ELECTION_TIMEOUT",
        value: "MS",
        help: "How long the owner of a partition may be silent before another node takes over, in \
               milliseconds, or auto: from 250 to 3000, by how regularly this node hears the others \
               and how long a round trip takes [default: auto]",
        set: |config, text| {
            config.tuning.election_timeout = match text {
                "auto" => None,
                _ => Some(Duration::from_millis(number(text, 100, 60_000)?)),
            };
            Ok(())
        },
    },
    Setting {
        name: "socket-threads",
        alias: None,
        variable: "AMRITA_SOCKET_THREADS",
        value: "N",
        help: "Threads for the clients' connections; 0 serves them on the node's own thread, \
               which is best on a small machine [default: by the number of processors]",
        set: |config, text| {
            config.tuning.socket_threads = Some(number(text, 0, 64)?);
            Ok(())
        },
    },
    Setting {
        name: "auth",
        alias: None,
        variable: "AMRITA_AUTH",
        value: "",
        help: "Clients must log in, and do what a role allows; always so when the node is bound to \
               anything but loopback",
        set: |config, text| {
            config.security.auth = switch(text)?;
            Ok(())
        },
    },
    Setting {
        name: "insecure",
        alias: None,
        variable: "AMRITA_INSECURE",
        value: "",
        help: "Everybody who reaches the node may do everything, wherever it is bound",
        set: |config, text| {
            config.security.insecure = switch(text)?;
            Ok(())
        },
    },
    Setting {
        name: "link-secret-file",
        alias: None,
        variable: "AMRITA_LINK_SECRET_FILE",
        value: "FILE",
        help: "File with a secret that all nodes of the cluster have and nobody else; needed with \
               --auth when there are --peer-nodes (make one: head -c 32 /dev/urandom | base64)",
        set: |config, text| {
            config.security.link_secret_file = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "tls-cert",
        alias: None,
        variable: "AMRITA_TLS_CERT",
        value: "FILE",
        help: "Certificate of this node, in PEM, when the cluster shall not make it; with --tls-key",
        set: |config, text| {
            config.security.tls_cert = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "tls-key",
        alias: None,
        variable: "AMRITA_TLS_KEY",
        value: "FILE",
        help: "Private key of the certificate, in PEM",
        set: |config, text| {
            config.security.tls_key = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "tls-client-ca",
        alias: None,
        variable: "AMRITA_TLS_CLIENT_CA",
        value: "FILE",
        help: "Authority that signs the certificates of the cluster's nodes and of nobody else, in \
               PEM; needed, with --tls-cert, when there are --peer-nodes",
        set: |config, text| {
            config.security.tls_client_ca = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "cluster-ca",
        alias: None,
        variable: "AMRITA_CLUSTER_CA",
        value: "",
        help: "The cluster makes the certificates of its nodes and renews them: so it is when the \
               node is bound to anything but loopback and has no --tls-cert",
        set: |config, text| {
            config.security.cluster_ca = switch(text)?;
            Ok(())
        },
    },
    Setting {
        name: "join",
        alias: None,
        variable: "AMRITA_JOIN",
        value: "TOKEN",
        help: "Join the cluster that this token is for, made there by `amrita token create --join`; \
               counts with an empty sandbox only. @FILE reads it from a file",
        set: |config, text| {
            config.security.join = Some(join_token(text)?);
            Ok(())
        },
    },
    Setting {
        name: "audit-days",
        alias: None,
        variable: "AMRITA_AUDIT_DAYS",
        value: "DAYS",
        help: "How long a record of the audit trail is kept, where clients must log in \
               [default: 90]",
        set: |config, text| {
            config.security.audit_days = number(text, 1, 36_500)?;
            Ok(())
        },
    },
    Setting {
        name: "allowed-hosts",
        alias: None,
        variable: "AMRITA_ALLOWED_HOSTS",
        value: "NAME,NAME,...",
        help: "Names that clients may call this node by, beside localhost, addresses in figures, \
               and the names of this machine and of the nodes; * for any [default: none]",
        set: |config, text| {
            config.security.allowed_hosts = list(text, host_name)?;
            Ok(())
        },
    },
    Setting {
        name: "cors-origins",
        alias: None,
        variable: "AMRITA_CORS_ORIGINS",
        value: "ORIGIN,ORIGIN,...",
        help: "Origins whose pages may speak to this node from a browser, as \
               https://app.example; * for any [default: none]",
        set: |config, text| {
            config.security.cors_origins = list(text, origin)?;
            Ok(())
        },
    },
    Setting {
        name: "log-level",
        alias: None,
        variable: "AMRITA_LOG_LEVEL",
        value: "LEVEL",
        help: "error, warn, info, debug or trace, or a list as warn,amrita=debug \
               [default: info]",
        set: |config, text| {
            config.log_level = text.into();
            Ok(())
        },
    },
];

impl Config {
    /// Joins the file (named by the flag `config` or by `AMRITA_CONFIG`), the environment and the
    /// flags, given as name and value.
    ///
    /// # Errors
    /// When a value is wrong, a name is unknown, or the file cannot be read; says where it stood.
    pub fn load(
        flags: &[(String, String)],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let mut config = Self::default();
        let flagged = flags.iter().rev().find(|(name, _)| name == CONFIG_FLAG);
        let file = flagged.map(|(_, value)| value.clone()).or_else(|| environment(CONFIG_VARIABLE));
        if let Some(file) = file {
            config.read_file(Path::new(&file))?;
        }
        for setting in &SETTINGS {
            if let Some(text) = environment(setting.variable) {
                config.set(setting, &text, setting.variable)?;
            }
        }
        for (name, text) in flags.iter().filter(|(name, _)| name != CONFIG_FLAG) {
            let shown = format!("--{name}");
            let setting = setting(name).ok_or_else(|| {
                Failure::new(format!("there is no flag {shown}"))
                    .advise(format!("use one of: {}", names("--", "-")))
            })?;
            config.set(setting, text, &shown)?;
        }
        Ok(config)
    }

    /// Reads `--name value` and `--name=value`, for programs that embed a node.
    ///
    /// # Errors
    /// As [`Self::load`], and when an argument is not a flag or lacks its value.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut flags = Vec::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                return Err(Failure::new(format!("'{argument}' is not a flag"))
                    .advise(format!("use one of: {}", names("--", "-"))));
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None if is_switch(name) => (name, Some("true".to_owned())),
                None => (name, arguments.next()),
            };
            let value =
                value.ok_or_else(|| Failure::new(format!("the flag --{name} lacks its value")))?;
            flags.push((name.to_owned(), value));
        }
        Self::load(&flags, |name| std::env::var(name).ok())
    }

    /// Where the data is, once the port is known.
    pub fn sandbox_at(&self, port: u16) -> PathBuf {
        match &self.sandbox {
            Some(folder) => folder.clone(),
            None => sandbox_default().join(port.to_string()),
        }
    }

    fn set(&mut self, setting: &Setting, text: &str, place: &str) -> Result<(), Failure> {
        (setting.set)(self, text)
            .map_err(|why| Failure::new(format!("{place}: {why}")).advise(setting.help))
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("the configuration file {shown} cannot be read: {error}"))
        })?;
        let table: toml::Table = toml::from_str(&text)
            .map_err(|error| Failure::new(format!("{shown} is not valid TOML: {error}")))?;
        for (key, value) in table {
            let setting = setting(&key.replace('_', "-")).ok_or_else(|| {
                Failure::new(format!("{shown}: there is no setting '{key}'"))
                    .advise(format!("use one of: {}", names("", "_")))
            })?;
            let text = plain(&value).ok_or_else(|| {
                Failure::new(format!(
                    "{shown}: '{key}' must be a text, a number or a list of texts"
                ))
            })?;
            self.set(setting, &text, &format!("{shown}: {key}"))?;
        }
        Ok(())
    }
}

/// The environment variables that say something to a node.
pub fn variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.variable).chain([CONFIG_VARIABLE])
}

/// The folder under which each node has a sandbox named after its port.
pub fn sandbox_default() -> PathBuf {
    std::env::temp_dir().join("amrita")
}

fn is_switch(name: &str) -> bool {
    setting(name).is_some_and(|setting| setting.value.is_empty())
}

fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name || setting.alias == Some(name))
}

fn names(before: &str, blank: &str) -> String {
    let all = SETTINGS.iter().map(|setting| setting.name);
    let all = all.map(|name| format!("{before}{}", name.replace('-', blank)));
    all.collect::<Vec<_>>().join(", ")
}

/// A TOML value as a flag would say it.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(values) => {
            Some(values.iter().map(plain).collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}

fn number<N: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<N, String> {
    let wrong = || format!("'{text}' is not a number from {min} to {max}");
    let value: u64 = text.trim().parse().map_err(|_| wrong())?;
    if value < min || value > max {
        return Err(wrong());
    }
    N::try_from(value).map_err(|_| wrong())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

fn list<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse).collect()
}

fn join_token(text: &str) -> Result<access::JoinToken, String> {
    let Some(file) = text.strip_prefix('@') else { return access::JoinToken::parse(text) };
    let text = std::fs::read_to_string(file);
    access::JoinToken::parse(&text.map_err(|error| format!("{file} cannot be read: {error}"))?)
}

fn host_name(text: &str) -> Result<String, String> {
    if text != "*" && text.contains(['/', ':', '*', ' ']) {
        return Err(format!("'{text}' is not a name alone; write it without scheme and port"));
    }
    Ok(text.to_ascii_lowercase())
}

fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_origin = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '*', ' ']));
    if text != "*" && !is_origin {
        return Err(format!(
            "'{text}' is not an origin; write it as https://host or http://host:1"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(crate) fn node_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > ID_BYTES_MAX || !text.chars().all(plain) {
        return Err(format!(
            "'{text}' is not a node id; use 1 to {ID_BYTES_MAX} letters, digits, '-', '_' and '.'"
        ));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amrita.toml");
        std::fs::write(
            &file,
            "port = 1\npartitions = 4\nid = \"f\"\npeer_nodes = [\"http://a:1\", \"http://b:2\"]",
        )
        .unwrap();
        let environment = |name: &str| match name {
            "AMRITA_CONFIG" => Some(file.display().to_string()),
            "AMRITA_PORT" => Some("2".into()),
            "AMRITA_ID" => Some("e".into()),
            _ => None,
        };
        let config = Config::load(&flags(&[("id", "g")]), environment).unwrap();
        assert_eq!(
            (config.port, config.founding.partitions, config.id.as_deref()),
            (2, 4, Some("g"))
        );
        assert_eq!(config.founding.peer_nodes.len(), 2);
    }

    #[test]
    fn xenons_spellings_are_taken() {
        let given = ["--peerNodes=http://a:1,http://b:1", "--membershipQuorum", "2"];
        let config = Config::from_arguments(given.iter().map(|text| (*text).into())).unwrap();
        assert_eq!(
            (config.founding.peer_nodes.len(), config.founding.membership_quorum),
            (2, Some(2))
        );
    }

    #[test]
    fn a_wrong_value_says_where_it_is_and_what_is_right() {
        let message = |pairs| Config::load(&flags(pairs), |_| None).unwrap_err().to_string();
        assert!(message(&[("port", "x")]).contains("--port: 'x' is not a number from 0 to 65535"));
        assert!(message(&[("prot", "1")]).contains("there is no flag --prot"));
        assert!(message(&[("id", "a b")]).contains("not a node id"));
        assert!(message(&[("membership-quorum", "0")]).contains("from 1 to"));
        assert!(message(&[("config", "/no/such/file")]).contains("cannot be read"));
    }

    #[test]
    fn the_defaults_in_the_help_are_the_real_ones() {
        let usual = format!("{:?}", Config::default());
        let mut looked_at = 0;
        for setting in &SETTINGS {
            let default = setting.help.split_once("[default: ").map_or("", |(_, it)| it);
            let Some(number) = default.strip_suffix(']').filter(|it| it.parse::<u64>().is_ok())
            else {
                continue;
            };
            let mut config = Config::default();
            (setting.set)(&mut config, number).unwrap();
            assert_eq!(format!("{config:?}"), usual, "--{}", setting.name);
            looked_at += 1;
        }
        assert!(looked_at > 3, "only {looked_at} settings name a number as their default");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amrita.toml");
        std::fs::write(&file, "prot = 1").unwrap();
        let given = flags(&[("config", &file.display().to_string())]);
        let message = Config::load(&given, |_| None).unwrap_err().to_string();
        assert!(message.contains("there is no setting 'prot'"), "{message}");
        std::fs::write(&file, "port = {").unwrap();
        let message = Config::load(&given, |_| None).unwrap_err().to_string();
        assert!(message.contains("not valid TOML"), "{message}");
    }
}
