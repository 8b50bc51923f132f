//! What can be said to `amrita immortal`. AMBROSIA's words are taken as they are, in its spelling
//! too.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImmortalCommand {
    /// Register an instance: from then on programs may attach to its replicas. Once more, with
    /// other ports, versions or options: change it
    #[command(after_help = "\
  amrita immortal register server                        three replicas, if there are three nodes
  amrita immortal register server --replicas n1,n2,n3    on these nodes
  amrita immortal register --instanceName=server --receivePort=2000 --sendPort=2001 --activeActive
                                                         for a program of AMBROSIA's, two ports")]
    Register(RegisterOptions),
    /// Add a replica, or give ports to one that is there
    AddReplica(AddReplicaOptions),
    /// Take a replica away; its node forgets what it had of the instance
    RemoveReplica(RemoveReplicaOptions),
    /// Show all instances
    List,
    /// Show an instance: each replica, and what was said to whom
    Show(Named),
    /// Change options of an instance
    Set(SetOptions),
    /// Have a checkpoint taken now, on a standby if there is one
    Checkpoint(Named),
    /// Make another replica's program the primary, without a kill
    Move(MoveOptions),
    /// Take out an input at which programs fail; all replicas get a placeholder in its stead
    Skip(SkipOptions),
    /// Let programs that were held, or have diverged, try again
    Release(Named),
    /// Send a message from outside (an impulse), and say when it is logged
    #[command(after_help = "\
  amrita immortal send server 1 '[\"Hello World\"]'        method 1; in Rust with a JSON array")]
    Send(SendOptions),
    /// Keep a checkpoint and all that was logged since in a file, for `debug`
    Record(RecordOptions),
    /// Time travel: give what was recorded to a program that you start, and compare what it says
    #[command(after_help = "\
  amrita immortal debug server --from latest             then start the program with --node SOCKET, in a
                                                         debugger if you like; the instance goes on as it was
  amrita immortal debug server --from 1200 --until 1250  from a checkpoint that `show` tells, up to an input
  amrita immortal debug server --test-upgrade            the program as it is and the new one, in either
                                                         order: every input at which they differ is told
  amrita immortal debug server --recording FILE --receive-port 2000 --send-port 2001
                                                         a program of AMBROSIA's, from a file")]
    Debug(DebugOptions),
    /// Show whose an instance is, or let others own it; where clients must log in
    Owners(OwnersOptions),
    /// Remove an instance with its log and its checkpoints, for good
    Deregister(DeregisterOptions),
}

/// The name of an instance, in its place or as a flag.
#[derive(Clone, Debug, Args)]
pub(crate) struct Named {
    /// The instance
    #[arg(value_name = "NAME")]
    positional: Option<String>,
    /// The same, as AMBROSIA has it
    #[arg(short = 'i', long, alias = "instanceName", value_name = "NAME")]
    instance_name: Option<String>,
}

impl Named {
    /// # Errors
    /// When there is none, or two that differ.
    pub(super) fn name(&self) -> Result<String, String> {
        one_name(self.positional.as_deref(), self.instance_name.as_deref())
    }

    /// The name of an instance that is not there yet.
    ///
    /// # Errors
    /// When there is none, or two that differ.
    pub(super) fn new_name(&self) -> Result<String, String> {
        match self.is_given() {
            true => self.name(),
            false => Err("what shall the instance be called? amrita immortal register NAME".into()),
        }
    }

    pub(super) fn is_given(&self) -> bool {
        self.positional.is_some() || self.instance_name.is_some()
    }
}

fn one_name(positional: Option<&str>, flag: Option<&str>) -> Result<String, String> {
    match (positional, flag) {
        (Some(one), Some(other)) if one != other => {
            Err(format!("two names are given, '{one}' and '{other}': say the instance's name once"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name.to_owned()),
        (None, None) => {
            Err("which instance? Give its name, or --instance-name NAME; `amrita immortal list` \
                 shows all"
                .into())
        }
    }
}

/// The name and what follows it. With `--instance-name` only what follows stands in its place.
fn name_and_more(words: &[String], flag: Option<&str>) -> Result<(String, Vec<String>), String> {
    let (first, rest) = match flag {
        Some(_) => (None, words),
        None => (words.first().map(String::as_str), words.get(1..).unwrap_or_default()),
    };
    Ok((one_name(first, flag)?, rest.to_vec()))
}

/// The two ports of a program that was written for AMBROSIA.
#[derive(Clone, Debug, Args)]
pub(crate) struct Ports {
    /// Port on which the node hears a program of AMBROSIA's; goes with --send-port
    #[arg(long, alias = "receivePort", value_name = "PORT", requires = "send_port",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) receive_port: Option<u16>,
    /// Port on which the node speaks to it; goes with --receive-port
    #[arg(long, alias = "sendPort", value_name = "PORT", requires = "receive_port",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) send_port: Option<u16>,
}

impl Ports {
    /// # Errors
    /// When both are the same.
    pub(super) fn checked(&self) -> Result<Option<(u16, u16)>, String> {
        match (self.receive_port, self.send_port) {
            (Some(one), Some(other)) if one == other => Err(format!(
                "the receive port and the send port are both {one}: a replica needs two"
            )),
            (Some(receive), Some(send)) => Ok(Some((receive, send))),
            _ => Ok(None),
        }
    }
}

/// What may be said at any time.
#[derive(Clone, Debug, Args)]
pub(crate) struct Tuning {
    /// Take a checkpoint after this many MB of log [default: 64]; 0: only when asked for
    #[arg(long, alias = "logTriggerSize", value_name = "MB", allow_negative_numbers = true)]
    pub(super) log_trigger_size: Option<i64>,
    /// And when the program was busy for so long since the last one, as a recovery would be: that
    /// bounds it [default: 10000]; 0: not
    #[arg(long, alias = "recoveryTargetMillis", value_name = "MILLIS")]
    pub(super) recovery_target: Option<u64>,
    /// A primary's program that gives no sign of life for so long is replaced [default: 1000]
    #[arg(long, alias = "programTimeoutMillis", value_name = "MILLIS")]
    pub(super) program_timeout: Option<u64>,
    /// Whether a copy that says something else than the others is stopped [default: on]
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    pub(super) divergence_alarm: Option<String>,
    /// AMBROSIA's programs are told when they become primary [default: true without ports]
    #[arg(long, alias = "activeActive", value_name = "true|false", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub(super) active_active: Option<bool>,
    /// Upgrade to this version of the program as soon as one that can do it has caught up
    #[arg(long, alias = "upgradeVersion", value_name = "N")]
    pub(super) upgrade_version: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RegisterOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The nodes that hold replicas (n1,n2,n3), or how many [default: 3, or all nodes if fewer]
    #[arg(long, value_name = "NODES|N")]
    pub(super) replicas: Option<String>,
    #[command(flatten)]
    pub(super) ports: Ports,
    #[command(flatten)]
    pub(super) tuning: Tuning,
    /// The version of the program that begins [default: 0]
    #[arg(long, alias = "currentVersion", value_name = "N")]
    pub(super) current_version: Option<u64>,
    /// Programs may attach but are told nothing until `set --resume`
    #[arg(long, alias = "pauseAtStart")]
    pub(super) pause_at_start: bool,
    /// Acknowledge inputs when a majority has them in memory: faster, but what was acknowledged may
    /// be lost when a majority of the nodes dies at once
    #[arg(long, alias = "noPersistLogs")]
    pub(super) no_persist_logs: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AddReplicaOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// On this node [default: that of --replica-num, or the first that has none]
    #[arg(long)]
    pub(super) node: Option<String>,
    /// Its number [default: the first that is free]
    #[arg(short = 'r', long, alias = "replicaNum", value_name = "N")]
    pub(super) replica_num: Option<u64>,
    #[command(flatten)]
    pub(super) ports: Ports,
    /// A program of AMBROSIA's here can turn the state into this version
    #[arg(long, alias = "upgradeVersion", value_name = "N")]
    pub(super) upgrade_version: Option<u64>,
    /// The version of the programs there are; said once more as AMBROSIA's AddReplica has it
    #[arg(long, alias = "currentVersion", value_name = "N", hide = true)]
    pub(super) current_version: Option<u64>,
    /// Of the whole instance; said once more as AMBROSIA's AddReplica has it
    #[arg(
        long,
        alias = "logTriggerSize",
        value_name = "MB",
        allow_negative_numbers = true,
        hide = true
    )]
    pub(super) log_trigger_size: Option<i64>,
    /// Said once more as AMBROSIA's AddReplica has it: a replica more always makes it so
    #[arg(long, alias = "activeActive", hide = true)]
    active_active: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RemoveReplicaOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The one on this node
    #[arg(long, conflicts_with = "replica_num")]
    pub(super) node: Option<String>,
    /// The one with this number
    #[arg(short = 'r', long, alias = "replicaNum", value_name = "N")]
    pub(super) replica_num: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SetOptions {
    #[command(flatten)]
    pub(super) named: Named,
    #[command(flatten)]
    pub(super) tuning: Tuning,
    /// The version of the program that begins; counts until one has begun
    #[arg(long, alias = "currentVersion", value_name = "N")]
    pub(super) current_version: Option<u64>,
    /// Tell programs nothing more for now
    #[arg(long, alias = "pause-at-start", alias = "pauseAtStart", conflicts_with = "resume")]
    pub(super) pause: bool,
    /// Go on after --pause or --pause-at-start
    #[arg(long)]
    pub(super) resume: bool,
    /// Taken here only to say that it belongs to `register`
    #[arg(long, alias = "noPersistLogs", hide = true)]
    pub(super) no_persist_logs: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MoveOptions {
    /// The instance, and the node whose replica becomes the primary [default: a standby that is
    /// ready]
    #[arg(value_names = ["NAME", "NODE"], num_args = 0..=2)]
    words: Vec<String>,
    /// The instance, as AMBROSIA has it
    #[arg(short = 'i', long, alias = "instanceName", value_name = "NAME")]
    instance_name: Option<String>,
    /// The node, as a flag
    #[arg(long, alias = "to")]
    node: Option<String>,
}

impl MoveOptions {
    /// # Errors
    /// When there is no name, or two nodes.
    pub(super) fn parts(&self) -> Result<(String, Option<String>), String> {
        let (name, more) = name_and_more(&self.words, self.instance_name.as_deref())?;
        match (more.first(), &self.node) {
            (Some(one), Some(other)) if one != other => {
                Err(format!("two nodes are given, '{one}' and '{other}': say one"))
            }
            (Some(node), _) | (None, Some(node)) => Ok((name, Some(node.clone()))),
            (None, None) => Ok((name, None)),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SkipOptions {
    /// The instance, and the number of the input, as `amrita immortal show` tells it
    #[arg(value_names = ["NAME", "INPUT"], num_args = 0..=2)]
    words: Vec<String>,
    /// The instance, as AMBROSIA has it
    #[arg(short = 'i', long, alias = "instanceName", value_name = "NAME")]
    instance_name: Option<String>,
    /// The number of the input, as a flag
    #[arg(long, value_name = "N")]
    input: Option<u64>,
}

impl SkipOptions {
    /// # Errors
    /// When the name or the number is missing.
    pub(super) fn parts(&self) -> Result<(String, u64), String> {
        let (name, more) = name_and_more(&self.words, self.instance_name.as_deref())?;
        let input = match more.first() {
            Some(word) => Some(word.parse().map_err(|_| {
                format!(
                    "'{word}' is not the number of an input; `amrita immortal show {name}` tells it"
                )
            })?),
            None => self.input,
        };
        let missing = || {
            format!(
                "which input? amrita immortal skip {name} NUMBER; `amrita immortal show {name}` tells \
                 the one at which programs fail"
            )
        };
        Ok((name.clone(), input.ok_or_else(missing)?))
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SendOptions {
    /// The instance, the number of the method, and its arguments: JSON text, @FILE, or - for
    /// standard input
    #[arg(
        value_names = ["NAME", "METHOD", "ARGUMENTS"],
        num_args = 0..=3,
        allow_negative_numbers = true
    )]
    words: Vec<String>,
    /// The instance, as AMBROSIA has it
    #[arg(short = 'i', long, alias = "instanceName", value_name = "NAME")]
    instance_name: Option<String>,
    /// Who sends it; the program sees client/WHO
    #[arg(long, value_name = "WHO", default_value = "amrita")]
    pub(super) from: String,
    /// Repeating an impulse with the same key is not a second impulse
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
}

impl SendOptions {
    /// # Errors
    /// When the name or the method is missing, or the method is no number.
    pub(super) fn parts(&self) -> Result<(String, i64, Option<String>), String> {
        let (name, more) = name_and_more(&self.words, self.instance_name.as_deref())?;
        let example = format!("amrita immortal send {name} 1 '[\"Hello\"]'");
        let method =
            more.first().ok_or_else(|| format!("the number of a method is needed: {example}"))?;
        let method = method
            .parse()
            .map_err(|_| format!("'{method}' is not the number of a method: {example}"))?;
        Ok((name, method, more.get(1).cloned()))
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RecordOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The checkpoint to begin with: its input, as `show` tells it, or the latest
    #[arg(long, value_name = "INPUT|latest", default_value = "latest")]
    pub(super) from: String,
    /// The file; it must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(super) to: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DebugOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The checkpoint to begin with: its input, as `show` tells it, or the latest
    #[arg(
        short = 'c',
        long,
        alias = "checkpoint",
        value_name = "INPUT|latest",
        default_value = "latest",
        conflicts_with = "recording"
    )]
    pub(super) from: String,
    /// A file that `amrita immortal record` has made, instead of the live log; it knows the
    /// instance's name
    #[arg(long, value_name = "FILE")]
    pub(super) recording: Option<PathBuf>,
    /// Go no further than this input
    #[arg(long, value_name = "INPUT")]
    pub(super) until: Option<u64>,
    /// Where the program connects [default: a socket in the folder for temporary files]
    #[arg(long, value_name = "PATH", conflicts_with = "receive_port")]
    pub(super) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(super) ports: Ports,
    /// Replay with new code, and tell where what it sends differs
    #[arg(long, alias = "testing-upgrade", alias = "testingUpgrade")]
    pub(super) test_upgrade: bool,
    /// With --test-upgrade: be content with the first difference, which a checksum finds, and do
    /// not wait for the program as it is
    #[arg(long, requires = "test_upgrade")]
    pub(super) alone: bool,
    /// The version that a program of AMBROSIA's is to be upgraded to
    #[arg(long, alias = "upgradeVersion", value_name = "N", requires = "receive_port")]
    pub(super) upgrade_version: Option<u64>,
    /// A program of AMBROSIA's that is started for active/active
    #[arg(long, alias = "activeActive", requires = "receive_port")]
    pub(super) active_active: bool,
    /// Stay at the end until the program is gone, to look at its state
    #[arg(long)]
    pub(super) hold: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OwnersOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The users it belongs to from now on
    #[arg(long, value_name = "USER,...", value_delimiter = ',')]
    pub(super) set: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeregisterOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The name once more, so that nothing is removed by a slip
    #[arg(long, value_name = "NAME")]
    pub(super) yes_remove: Option<String>,
}
