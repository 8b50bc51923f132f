//! What can be said on the command line.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{
    Arg, ArgMatches, Args, Command as Builder, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use server::SETTINGS;

use crate::access::{AuditOptions, CanI, LoginOptions, RoleCommand, TokenCommand, UserCommand};
use crate::backup_options::BackupOptions;
use crate::immortal::ImmortalCommand;
use crate::outcome::EXIT_CODES;
use crate::recover::RecoverOptions;
use crate::restore::RestoreOptions;
use crate::task_options::TaskCommand;
use crate::tutorial::Tutorial;
use crate::unseal::UnsealOptions;

/// Heads the options that all commands share.
const SPEAKING: &str = "To speak to a cluster";

/// Where nodes are looked for when nothing is said.
pub(crate) const DEFAULT_ADDRESSES: &str = "http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003,\
     http://127.0.0.1:8000";

const EXAMPLES: &str = "\
To try it:
  amrita up                                        three nodes on this machine
  amrita post /core/examples '{\"name\":\"first\"}'    make a document
  amrita query 'name=first'                        find it
  amrita nodes                                     see who is there
  amrita tutorial ha                               watch a cluster survive";

/// Keeps documents and services alive on several nodes.
#[derive(Debug, Parser)]
#[command(
    name = "amrita",
    version,
    disable_help_subcommand = true,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster to speak to, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub(crate) struct Cluster {
    /// Nodes of the cluster; the next one is asked when one does not answer [default: where
    /// somebody has logged in, else the ports 8001, 8002, 8003 and 8000 of this machine]
    #[arg(
        long,
        global = true,
        env = "AMRITA_ADDRESS",
        hide_env_values = true,
        value_name = "URI,URI,...",
        value_delimiter = ',',
        default_value = DEFAULT_ADDRESSES,
        hide_default_value = true,
        help_heading = SPEAKING
    )]
    pub(crate) address: Vec<String>,
    /// Print the answer as the cluster gave it, in one line of JSON, for programs
    #[arg(long, global = true, help_heading = SPEAKING)]
    pub(crate) json: bool,
    /// The addresses were said on the command line, not in the environment or by default.
    #[arg(skip)]
    pub(crate) is_named: bool,
}

impl Arguments {
    /// What was said, or ends the process with the help that was asked for or with what is wrong.
    pub(crate) fn of(words: Vec<std::ffi::OsString>) -> Self {
        let mut matches = <Self as clap::CommandFactory>::command().get_matches_from(words);
        let is_named = matches.value_source("address") == Some(ValueSource::CommandLine);
        let mut arguments =
            Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit());
        arguments.cluster.is_named = is_named;
        arguments
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    #[command(after_help = "\
Each setting may also stand in the environment (AMRITA_PORT and so on) or in a TOML file \
(peer_nodes = [\"http://...\"]); flags win over the environment, and that over the file.

A cluster of three on one machine, each line in a terminal of its own:
  export AMRITA_PEER_NODES=http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003
  amrita node --id n1 --port 8001
  amrita node --id n2 --port 8002
  amrita node --id n3 --port 8003")]
    Node(NodeOptions),
    /// Run several nodes on this machine, as a cluster, until Ctrl-C
    Up(UpOptions),
    /// Show a document, a factory, or anything else under /core
    #[command(after_help = "\
  amrita get /core/examples/one
  amrita get /core/examples/one --as-of 2026-11-30T12:00:00Z    as it was then
  amrita get /core/examples/one --as-of v3                      its version 3
  amrita get '/core/examples?expand' --as-of 2026-11-30T12:00:00Z")]
    Get(Target),
    /// Show what differs between two versions of a document
    #[command(after_help = "\
  amrita diff /core/examples/one 2 5
  amrita diff /core/examples/one 2        between version 2 and the latest")]
    Diff(Difference),
    /// Make a document again what it was at an old version; that is a new version
    #[command(after_help = "\
  amrita diff /core/examples/one 3
  amrita revert /core/examples/one 3")]
    Revert(Revert),
    /// Make a document: POST to its factory
    Post(Write),
    /// Replace a document
    Put(Write),
    /// Change some fields of a document
    Patch(Write),
    /// Delete a document
    Delete(Write),
    /// Find documents
    #[command(after_help = "\
Terms are joined by AND:
  name=foo          the field is foo            counter>=5   a number, also > < <=
  name=fo*          begins with fo              name!=foo    is not foo
  name=*o*          a pattern                   keyValues.k=v, tags.item=t, taskInfo.stage=FINISHED

  amrita query 'name=fo*' 'counter>5' --kind ExampleServiceState --sort counter:desc
  amrita query 'taskInfo.stage=FINISHED' --kind ExampleTaskServiceState --all-versions
  amrita query '{\"query\":{\"term\":{\"propertyName\":\"name\",\"matchValue\":\"foo\"}}}'")]
    Query(QueryOptions),
    /// Ask in SQL: one SELECT, of one kind of documents
    #[command(after_help = "\
  amrita sql \"select name, counter from examples where counter > 5 order by name limit 10\"
  amrita sql \"select name, count(*) n, sum(counter) from examples group by name having n > 1\"
  amrita sql --csv \"select documentSelfLink, a.b from \\\"/app/things\\\" where a.b like 'x%'\"

A table is the last part of a factory's link, or the link in double quotes; TABLE.versions has all
versions.")]
    Sql(SqlOptions),
    /// Make many writes of documents in one request; those of a partition are done all or none
    #[command(after_help = "\
  amrita batch writes.json
  echo '{\"method\":\"POST\",\"path\":\"/core/examples\",\"body\":{\"name\":\"a\"}}' | amrita batch -

The file has {\"requests\": [...]}, a list of requests, or a request on each line. Each has method, path
and body, and may have ifMatch, ifNoneMatch, idempotencyKey, contentType and pragma. Documents with the
same key in braces in their links, as /app/orders/{42}/a, lie in one partition.")]
    Batch(BatchOptions),
    /// Write out all documents of a factory, one on each line
    #[command(after_help = "\
  amrita export /core/examples > examples.ndjson
  amrita export /core/examples --filter 'counter gt 5' --csv --show documentSelfLink,name,counter")]
    Export(ExportOptions),
    /// Show changes of documents as they happen
    #[command(after_help = "\
Each line is one change: what was done, to which document, and what it is like now.

  amrita watch                                       all documents
  amrita watch /core/examples                        those of a factory
  amrita watch /core/examples/one                    one document
  amrita watch /core/examples --filter 'counter gt 5'
  amrita watch --json | while read -r change; do ...; done

Nothing is left out and nothing comes twice, even if nodes die meanwhile. Each change has a token (--json
shows it), from which another watch goes on: --after TOKEN.")]
    Watch(WatchOptions),
    /// Kinds of documents of your own, defined while the cluster runs
    #[command(subcommand)]
    Kind(KindCommand),
    /// Show the nodes of the cluster
    Nodes,
    /// Show what the nodes do, again and again until Ctrl-C
    Top(TopOptions),
    /// Show what takes the room on the disks of the nodes
    #[command(after_help = "\
Each node has all documents, so what is in the state is shown for one node: the one that is named, else the first
that answers. With --json: what each node says, in one line.

  amrita disk
  amrita disk n2")]
    Disk {
        /// Whose state is shown
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
    /// Tell why something does not go on, and what would free it
    #[command(after_help = "\
  amrita explain                        the cluster: nodes, quorum, owners, instances
  amrita explain node                   the node that is asked: its disk, its clock, its states
  amrita explain /core/examples/one     a document, or a task
  amrita explain counter                an instance of an immortal")]
    Explain(Explained),
    /// Hold, release, retry, skip and cancel tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Show the membership quorum, or set it
    Quorum {
        /// How many nodes must hold a write before it is acknowledged: from the majority to all
        #[arg(value_name = "N")]
        number: Option<usize>,
    },
    /// Write a backup of everything to a folder, while the cluster works
    #[command(after_help = "\
All of it is as it was at one moment: documents with their versions, users, tasks, immortals.

  amrita backup --to /backups/monday
  amrita backup verify /backups/monday
  amrita restore /backups/monday --id n1 --sandbox /var/lib/amrita/new")]
    Backup(BackupOptions),
    /// Make the sandbox of the first node of a new cluster of a backup; no node is started
    #[command(after_help = "\
  amrita restore /backups/monday --id n1 --sandbox /var/lib/amrita/new
  amrita node --id n1 --port 8001 --sandbox /var/lib/amrita/new

'amrita node --restore DIR' does both in one.")]
    Restore(RestoreOptions),
    /// Make a backup of the sandboxes that are left when a majority of the nodes is lost for good
    #[command(after_help = "\
The nodes must be stopped. Their sandboxes are read and not changed.

  amrita recover --from /var/lib/amrita/n1 --to /backups/left          what is there, what may be lost
  amrita recover --from /var/lib/amrita/n1 --to /backups/left --yes
  amrita restore /backups/left --id n1 --sandbox /var/lib/amrita/new")]
    Recover(RecoverOptions),
    /// Let a node in that asks to join the cluster, or refuse it; without a name: show who asks
    #[command(after_help = "\
A node that was started with --peer-nodes of a cluster that runs asks to join it, and waits:

  amrita node --id n4 --port 8004 --peer-nodes http://127.0.0.1:8004,http://127.0.0.1:8001
  amrita admit                    who asks
  amrita admit n4                 n4 is filled, and then has a vote
  amrita admit --refuse n4        its process ends")]
    Admit {
        /// Its id, as `amrita nodes` shows it
        node: Option<String>,
        /// Its address, where two nodes with one id ask
        #[arg(long, value_name = "URI", requires = "node")]
        at: Option<String>,
        /// It does not come in
        #[arg(long, requires = "node")]
        refuse: bool,
    },
    /// Remove a node for good: it hands over what it owns, counts no more, and its process ends.
    /// One that is down and does not come back is removed all the same
    Remove {
        /// Its id, as `amrita nodes` shows it
        node: String,
    },
    /// Have a node own nothing until told otherwise; it keeps its copy and its vote
    Drain {
        /// Its id, as `amrita nodes` shows it
        node: String,
        /// It may own again
        #[arg(long)]
        undo: bool,
    },
    /// Stop one node in good order: it hands over what it owns, then its process ends
    Stop {
        /// Its address, or its id as `amrita nodes` shows it
        node: String,
    },
    /// Log in; the token is kept for the commands that follow
    Login(LoginOptions),
    /// Log out: the token counts no more
    Logout,
    /// Show who is logged in, with the roles
    Whoami,
    /// Users: who may log in
    #[command(subcommand)]
    User(UserCommand),
    /// Roles: what a group of users may do
    #[command(subcommand)]
    Role(RoleCommand),
    /// Tokens for programs and machines
    #[command(subcommand)]
    Token(TokenCommand),
    /// Ask whether one may do something, and why
    CanI(CanI),
    /// Show what was done and what was refused, and by whom
    Audit(AuditOptions),
    /// Show an encrypted text of a sandbox
    Unseal(UnsealOptions),
    /// Instances of immortals: programs that go on when they die
    #[command(subcommand)]
    Immortal(ImmortalCommand),
    /// Run a program of the tutorials, which attaches to a node as an immortal
    #[command(after_help = "\
The programs:
  hello-server     counts and shows the messages that it gets; with --numbers in a line each
  hello-client1    sends a message, waits for Enter, and sends two more
  hello-client2    sends what is typed
  hello-client3    sends three messages, each when the one before is acknowledged
  hello-numbers    keeps sending numbers
  ledger           keeps the accounts of those who order: see 'amrita tutorial orders'

Each takes:
  --node URL-OR-SOCKET   http://host:port, a node's sandbox, or the socket there [default: the first that
                         is there of the ports 8001, 8002, 8003 and 8000 of this machine]
  --instance NAME        its instance [default: server, client1 to client3, client, ledger]")]
    Example {
        /// Which one: hello-server, hello-client1 to hello-client3, hello-numbers or ledger
        name: String,
        /// For the program itself: --node, --instance
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Watch what this is for: real nodes on this machine, every step told and checked
    #[command(subcommand)]
    Tutorial(Tutorial),
    /// Tell about a command, or what an error code means and what to do about it
    #[command(after_help = "\
  amrita help backup            a command
  amrita help QUORUM_NOT_MET    an error code
  amrita help codes             all error codes")]
    Help {
        /// A command, an error code, or `codes`
        words: Vec<String>,
    },
    /// Print what a shell needs to complete commands and options
    #[command(after_help = "\
  source <(amrita completions bash)
  amrita completions zsh > ~/.zfunc/_amrita       (~/.zfunc is in fpath)
  amrita completions fish > ~/.config/fish/completions/amrita.fish")]
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages, one for each command, into a folder
    Man {
        /// The folder; it is made when it is not there
        folder: PathBuf,
    },
}

/// The shells that are known; `clap_complete` has more, which nobody here has tried.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The flags of a node, made from the one table of settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeOptions {
    /// Name and value, as [`server::Config::load`] takes them.
    pub(crate) flags: Vec<(String, String)>,
    /// The node stops when its standard input ends; so a node never outlives `amrita up`.
    pub(crate) stop_with_stdin: bool,
}

const STOP_WITH_STDIN: &str = "stop-with-stdin";
const CONFIG: &str = "config";

impl Args for NodeOptions {
    fn augment_args(command: Builder) -> Builder {
        let config = Arg::new(CONFIG).long(CONFIG).value_name("FILE");
        let config = config.help("TOML file with any of these settings [env: AMRITA_CONFIG]");
        let hidden = Arg::new(STOP_WITH_STDIN).long(STOP_WITH_STDIN).hide(true);
        let hidden = hidden.action(clap::ArgAction::SetTrue);
        let settings = SETTINGS.iter().map(|setting| {
            let help = format!("{} [env: {}]", setting.help, setting.variable);
            let arg = Arg::new(setting.name).long(setting.name).value_name(setting.value);
            let arg = arg.help(help).allow_negative_numbers(true);
            let arg = if setting.value.is_empty() { as_switch(arg) } else { arg };
            match setting.alias {
                Some(alias) => arg.alias(alias),
                None => arg,
            }
        });
        command.args(settings).arg(config).arg(hidden)
    }

    fn augment_args_for_update(command: Builder) -> Builder {
        Self::augment_args(command)
    }
}

impl FromArgMatches for NodeOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let names = SETTINGS.iter().map(|setting| setting.name).chain([CONFIG]);
        for name in names {
            if let Some(value) = matches.get_one::<String>(name) {
                self.flags.push((name.to_owned(), value.clone()));
            }
        }
        self.stop_with_stdin = matches.get_flag(STOP_WITH_STDIN);
        Ok(())
    }
}

/// It may stand alone, or have `=true` or `=false` behind it.
fn as_switch(arg: Arg) -> Arg {
    arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true")
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// The nodes take the ports after this one: 8001, 8002 and so on
    #[arg(long, default_value_t = 8000, value_parser = clap::value_parser!(u16).range(0..=65_000))]
    pub(crate) base_port: u16,
    /// Folder of the nodes' data, kept for the next time [default: amrita/up-8000 under the
    /// system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) sandbox: Option<PathBuf>,
    /// How many nodes must hold a write before it is acknowledged; counts when the cluster forms
    #[arg(long, alias = "membershipQuorum", value_name = "N")]
    pub(crate) membership_quorum: Option<usize>,
    /// How much the nodes write to their logs
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TopOptions {
    /// How long between two looks
    #[arg(long, default_value_t = 2, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) interval: u64,
    /// End after this many looks
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Path of what is meant: /core/examples/one
    pub(crate) path: String,
    /// As it was at this time (RFC 3339, or microseconds since 1970), or v3: a document's version 3
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Difference {
    /// Link of the document: /core/examples/one
    pub(crate) path: String,
    /// The older version
    pub(crate) from: u64,
    /// The newer one [default: the latest]
    pub(crate) to: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Revert {
    /// Link of the document: /core/examples/one
    pub(crate) path: String,
    /// The version that it is to be again
    pub(crate) version: u64,
    /// Only if the document still has this ETag (412 otherwise)
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<client::EntityTags>,
    /// Repeating it with the same key is not a second write
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Explained {
    /// cluster, node, a link such as /core/examples/one, or the name of an instance
    #[arg(default_value = "cluster")]
    pub(crate) what: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Write {
    /// Path of what is meant: /core/examples/one
    pub(crate) path: String,
    /// JSON text, @FILE, or - for standard input
    pub(crate) body: Option<String>,
    /// Only if the document still has this ETag (412 otherwise)
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<client::EntityTags>,
    /// Repeating a write with the same key is not a second write
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// The body is a JSON Merge Patch (RFC 7396): null removes a field
    #[arg(long)]
    pub(crate) merge_patch: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KindCommand {
    /// Define a kind: its factory is there in the whole cluster at once
    #[command(after_help = "\
  amrita kind create /app/seats --schema '{\"type\":\"object\",\"required\":[\"row\"],
    \"properties\":{\"row\":{\"type\":\"string\",\"readOnly\":true},
      \"holder\":{\"type\":\"string\"},\"price\":{\"type\":\"number\",\"minimum\":0,\"default\":10}},
    \"additionalProperties\":false}'
  amrita post /app/seats '{\"row\":\"A\"}'")]
    Create {
        /// The link of its factory: /app/seats
        link: String,
        #[command(flatten)]
        definition: Definition,
    },
    /// List the kinds that are defined
    List,
    /// Show a definition
    Show {
        /// The link of its factory
        link: String,
    },
    /// Change a definition. Documents that are there are judged by it when they are written next
    #[command(after_help = "\
What is not named stays as it is.

  amrita kind change /app/seats --merge tags --keep-versions 100
  amrita kind change /app/seats --merge '' --without retentionLimit,version")]
    Change {
        /// The link of its factory
        link: String,
        #[command(flatten)]
        definition: Definition,
        /// Fields of the definition that are taken away, by their names in JSON
        #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
        without: Vec<String>,
    },
    /// Remove a definition
    Remove {
        /// The link of its factory
        link: String,
        /// Even if it has documents. They stay, and are there again when it is defined again
        #[arg(long)]
        confirm: bool,
    },
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Definition {
    /// JSON Schema of a state, as a whole: JSON text, @FILE, or - for standard input. `default`
    /// fills in, `readOnly` fields are set once
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
    /// documentKind of its documents, which does not change [default: made of the link]
    #[arg(long, value_name = "NAME")]
    pub(crate) kind: Option<String>,
    /// One sentence for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) about: Option<String>,
    /// IDEMPOTENT_POST, STRICT_UPDATE_CHECKING, IMMUTABLE; '' for none
    #[arg(long, value_name = "OPTION,...", value_delimiter = ',')]
    pub(crate) option: Vec<String>,
    /// Lists and maps that a PATCH unites with what is there; '' for none
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    pub(crate) merge: Vec<String>,
    /// What a program outside does: create, put, patch, delete; '' for nothing
    #[arg(long, value_name = "HANDLER,...", value_delimiter = ',')]
    pub(crate) handlers: Vec<String>,
    /// Names of what a program outside does beside that: POST to LINK/NAME/actions/ACTION; '' for
    /// none
    #[arg(long, value_name = "ACTION,...", value_delimiter = ',')]
    pub(crate) actions: Vec<String>,
    /// Version of the program that it is for: an older one changes nothing from then on
    #[arg(long, value_name = "VERSION")]
    pub(crate) program_version: Option<String>,
    /// How many versions of a document are kept at most
    #[arg(long, value_name = "N")]
    pub(crate) keep_versions: Option<u64>,
    /// How many of them stay when old ones go
    #[arg(long, value_name = "N")]
    pub(crate) keep_at_least: Option<u64>,
    /// How long a new document lives
    #[arg(long, value_name = "SECONDS")]
    pub(crate) expires_after: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WatchOptions {
    /// A document, or a factory [default: all documents]
    pub(crate) path: Option<String>,
    /// Only documents that are like this, as in $filter: 'counter gt 5 and name eq foo*'
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Only documents whose links begin like this (without a path)
    #[arg(long, value_name = "LINK", conflicts_with = "path")]
    pub(crate) prefix: Option<String>,
    /// Tell the version before as well (in --json)
    #[arg(long)]
    pub(crate) before: bool,
    /// Go on after this token
    #[arg(long, value_name = "TOKEN")]
    pub(crate) after: Option<String>,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SqlOptions {
    /// The statement
    #[arg(required = true)]
    pub(crate) statement: Vec<String>,
    /// Show rows as CSV, the names of the columns first
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BatchOptions {
    /// A file with the requests, or - for standard input
    pub(crate) file: String,
    /// Refuse the whole unless all documents lie in one partition (all), or let each partition's
    /// part be done by itself (partition)
    #[arg(long, value_name = "WHAT", value_parser = ["partition", "all"])]
    pub(crate) atomic: Option<String>,
    /// Repeated with the same key, it is done once
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExportOptions {
    /// The factory's link, such as /core/examples
    pub(crate) factory: String,
    /// Only documents that this finds, as $filter of a list
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// As CSV, with the fields of --show; without, each line is a document as JSON
    #[arg(long)]
    pub(crate) csv: bool,
    /// Which fields to write with --csv, as documentSelfLink,name
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    pub(crate) show: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct QueryOptions {
    /// Terms as name=foo, or one JSON text, @FILE or - with a query specification or a query task
    pub(crate) terms: Vec<String>,
    /// Only documents of this kind; the last part of its name is enough
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// How many to show [default: 100]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Sort by this field; name:desc for the greatest first
    #[arg(long, value_name = "FIELD")]
    pub(crate) sort: Option<String>,
    /// Which fields to show beside the link, as name,counter
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',')]
    pub(crate) show: Vec<String>,
    /// Search all versions of each document, not only the newest
    #[arg(long)]
    pub(crate) all_versions: bool,
    /// Only say how many there are
    #[arg(long)]
    pub(crate) count: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    /// Every command and subcommand that does something, with the words before it.
    fn leaves(command: &Builder, before: &[String]) -> Vec<Vec<String>> {
        let subcommands = command.get_subcommands().filter(|it| it.get_name() != "help");
        let mut found = Vec::new();
        for subcommand in subcommands {
            let words = [before, &[subcommand.get_name().to_owned()]].concat();
            if subcommand.has_subcommands() {
                found.extend(leaves(subcommand, &words));
            } else {
                found.push(words);
            }
        }
        found
    }

    #[test]
    fn each_command_names_what_it_does_not_know() {
        let command = Arguments::command();
        let all = leaves(&command, &["amrita".to_owned()]);
        assert!(all.len() > 40, "{} commands", all.len());
        // What follows is the program's own, which refuses it.
        for words in all.iter().filter(|words| words[1] != "example") {
            let with = |more: &str| [words.clone(), vec![more.to_owned()]].concat();
            let error = Arguments::try_parse_from(with("--nonsense")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{words:?}: {error}");
            assert!(error.to_string().contains("--nonsense"), "{words:?}: {error}");
            let many = [words.clone(), vec!["{}".to_owned(); 9]].concat();
            // Terms of a query may be any number, and are looked at one by one; a statement may be
            // many words.
            if !["query", "sql"].contains(&words[1].as_str()) {
                assert!(Arguments::try_parse_from(many).is_err(), "{words:?}");
            }
        }
    }
}
