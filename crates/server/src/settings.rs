//! Where it may be set how a node works: in a TOML file, then the environment, then the flags; what
//! comes later wins. One table describes all settings, so that the three agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::Address;

use crate::Failure;
use crate::config::{Config, PARTITIONS_MAX};
use crate::config_values::{
    callback, host_name, join_token, list, log_format, machine_users, node_id, number, origin, put,
    some, switch, yes,
};
use crate::jwt_settings::{group, key_place};
use crate::peer_ids::PeerId;

/// The environment variable and the flag that name the TOML file.
const CONFIG_VARIABLE: &str = "AMRITA_CONFIG";
const CONFIG_FLAG: &str = "config";

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
pub const SETTINGS: [Setting; 45] = [
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
        name: "restore",
        alias: None,
        variable: "AMRITA_RESTORE",
        value: "DIR",
        help: "For one start, on an empty sandbox: makes a new cluster, of this node alone at first, of \
               the backup in that folder",
        set: |config, text| {
            if text.is_empty() {
                return Err("a folder is needed".into());
            }
            config.founding.restore = Some(PathBuf::from(text));
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
            config.trusts_sandbox = yes(text)?;
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
        help: "How much of their logs all partitions and instances together keep for nodes that \
               are away, so that those need not be sent the whole state when they return \
               [default: 1024]",
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
        help: "Certificate of this node, in PEM, if the cluster shall not make it; with --tls-key",
        set: |config, text| {
            config.security.certificates.tls_cert = Some(PathBuf::from(text));
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
            config.security.certificates.tls_key = Some(PathBuf::from(text));
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
            config.security.certificates.tls_client_ca = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "tls-peer-ids",
        alias: None,
        variable: "AMRITA_TLS_PEER_IDS",
        value: "ID,ID,...",
        help: "Ids in the certificates of nodes, when --tls-client-ca signs those of others as well: \
               spiffe://acme.example/amrita/n1, or spiffe://acme.example/amrita/* for all below; \
               nodes are known by them in place of their names [default: none]",
        set: |config, text| {
            config.security.certificates.tls_peer_ids = list(text, PeerId::parse)?;
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
            config.security.certificates.cluster_ca = switch(text)?;
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
            config.security.certificates.join = Some(join_token(text)?);
            Ok(())
        },
    },
    Setting {
        name: "jwt-issuer",
        alias: None,
        variable: "AMRITA_JWT_ISSUER",
        value: "NAME",
        help: "Tokens (JWT) of this outside issuer are taken, with --jwt-audience and --jwt-keys: \
               what their claim 'iss' must be",
        set: |config, text| put(&mut config.security.jwt.issuer, some(text)),
    },
    Setting {
        name: "jwt-audience",
        alias: None,
        variable: "AMRITA_JWT_AUDIENCE",
        value: "NAME",
        help: "For whom such a token must be: what its claim 'aud' must be or have",
        set: |config, text| put(&mut config.security.jwt.audience, some(text)),
    },
    Setting {
        name: "jwt-keys",
        alias: None,
        variable: "AMRITA_JWT_KEYS",
        value: "FILE|URL",
        help: "Public keys of that issuer (JWKS): a file, read anew when it changes, or an address \
               with https://, asked every 5 minutes and when a token names a key that is not known",
        set: |config, text| put(&mut config.security.jwt.keys, key_place(text)),
    },
    Setting {
        name: "jwt-ca",
        alias: None,
        variable: "AMRITA_JWT_CA",
        value: "FILE",
        help: "Who signs the certificate of that address, in PEM \
               [default: /etc/ssl/certs/ca-certificates.crt]",
        set: |config, text| put(&mut config.security.jwt.ca, some(text).map(PathBuf::from)),
    },
    Setting {
        name: "jwt-user-claim",
        alias: None,
        variable: "AMRITA_JWT_USER_CLAIM",
        value: "CLAIM",
        help: "Claim that names the user; here the user is called jwt.NAME [default: sub]",
        set: |config, text| put(&mut config.security.jwt.user_claim, some(text)),
    },
    Setting {
        name: "jwt-groups-claim",
        alias: None,
        variable: "AMRITA_JWT_GROUPS_CLAIM",
        value: "CLAIM",
        help: "Claim that names the user's groups, as groups or realm_access.roles; with \
               --jwt-groups [default: none]",
        set: |config, text| put(&mut config.security.jwt.groups_claim, some(text)),
    },
    Setting {
        name: "jwt-groups",
        alias: None,
        variable: "AMRITA_JWT_GROUPS",
        value: "VALUE=GROUP,...",
        help: "Which values of that claim are which groups here, as staff=writers,ops=operators; \
               all others say nothing [default: none]",
        set: |config, text| {
            config.security.jwt.groups = list(text, group)?.into_iter().collect();
            Ok(())
        },
    },
    Setting {
        name: "admit-who-asks",
        alias: None,
        variable: "AMRITA_ADMIT_WHO_ASKS",
        value: "",
        help: "Let in each node that asks this one to join the cluster; otherwise it waits for \
               `amrita admit`. Nodes with --join never wait: their token is enough",
        set: |config, text| {
            config.founding.admits_who_asks = switch(text)?;
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
            config.security.browsers.allowed_hosts = list(text, host_name)?;
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
            config.security.browsers.cors_origins = list(text, origin)?;
            Ok(())
        },
    },
    Setting {
        name: "callback-allow",
        alias: None,
        variable: "AMRITA_CALLBACK_ALLOW",
        value: "HOST,HOST:PORT,...",
        help: "Addresses that subscribers may have the node tell of changes, beside those of its \
               own machine; the same at all nodes [default: none]",
        set: |config, text| {
            config.security.callbacks.allowed = list(text, callback)?;
            Ok(())
        },
    },
    Setting {
        name: "callback-ca",
        alias: None,
        variable: "AMRITA_CALLBACK_CA",
        value: "FILE",
        help: "File in PEM of who signs the certificates of subscribers that are told over https \
               [default: nobody is told over https]",
        set: |config, text| {
            config.security.callbacks.ca = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "ambrosia-users",
        alias: None,
        variable: "AMRITA_AMBROSIA_USERS",
        value: "UID,UID,...",
        help: "Users of this machine, as numbers (id -u), whose programs may connect to AMBROSIA's \
               ports, beside the user that runs the node; * for all [default: none]",
        set: |config, text| {
            config.security.ambrosia_users = machine_users(text)?;
            Ok(())
        },
    },
    Setting {
        name: "encryption-key-file",
        alias: None,
        variable: "AMRITA_ENCRYPTION_KEY_FILE",
        value: "FILE",
        help: "File with a key under which everything in the sandbox is encrypted (make one: \
               head -c 32 /dev/urandom | base64); without the key the sandbox is worth nothing \
               [default: no encryption]",
        set: |config, text| {
            config.encryption.key_file = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "encryption-key-command",
        alias: None,
        variable: "AMRITA_ENCRYPTION_KEY_COMMAND",
        value: "CMD",
        help: "Command of the shell that prints that key, in place of a file",
        set: |config, text| {
            config.encryption.key_command = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        name: "encryption-old-key-file",
        alias: None,
        variable: "AMRITA_ENCRYPTION_OLD_KEY_FILE",
        value: "FILE",
        help: "File with the key so far: the sandbox is written anew under the new one before the \
               node starts; leave it out from the next start on",
        set: |config, text| {
            config.encryption.old_key_file = Some(PathBuf::from(text));
            Ok(())
        },
    },
    Setting {
        name: "encryption-old-key-command",
        alias: None,
        variable: "AMRITA_ENCRYPTION_OLD_KEY_COMMAND",
        value: "CMD",
        help: "Command of the shell that prints the key so far, in place of a file",
        set: |config, text| {
            config.encryption.old_key_command = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        name: "encryption-convert",
        alias: None,
        variable: "AMRITA_ENCRYPTION_CONVERT",
        value: "yes",
        help: "For one start: a sandbox that is not encrypted is written anew under the key; with \
               an old key and no new one, an encrypted one is written anew without [default: no]",
        set: |config, text| {
            config.encryption.converts = yes(text)?;
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
            config.log.level = text.into();
            Ok(())
        },
    },
    Setting {
        name: "log-format",
        alias: None,
        variable: "AMRITA_LOG_FORMAT",
        value: "text|json",
        help: "How a line of the log looks: text for people, or a JSON object for programs \
               [default: text]",
        set: |config, text| {
            config.log.format = log_format(text)?;
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
