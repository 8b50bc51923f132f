//! gRPC beside immortals: a server and a client, each a process of its own, over loopback TCP and
//! with no resilience at all. Both with a runtime of several threads and with one of a single
//! thread; the better of the two is what is shown.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::attached::PATIENCE;
use crate::figures::{Rate, median};

/// What kind of runtime both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Threads {
    Single,
    Several,
}

impl Threads {
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn runtime(self) -> io::Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::Single => tokio::runtime::Builder::new_current_thread(),
            Self::Several => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.enable_all().build()
    }

    fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Several => "several",
        }
    }
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Unary calls, one at a time.
    One,
    /// Unary calls, many at a time.
    Many,
    /// A stream from the client.
    Stream,
    /// A stream from the client, and each message comes back.
    Both,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
            Self::Stream => "stream",
            Self::Both => "both",
        }
    }
}

/// What a client tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) messages: u64,
    pub(crate) micros: u64,
    /// Of a call, in microseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// A server of each kind. They end with this.
pub(crate) struct Servers {
    single: Server,
    several: Server,
}

struct Server {
    threads: Threads,
    port: u64,
    _child: Child,
}

impl Servers {
    /// # Errors
    /// When they cannot be started.
    pub(crate) async fn start() -> io::Result<Self> {
        let single = Server::start(Threads::Single).await?;
        Ok(Self { single, several: Server::start(Threads::Several).await? })
    }

    /// The better of both kinds.
    ///
    /// # Errors
    /// When a client fails.
    pub(crate) async fn better(&self, way: Way, size: u64, time: Duration) -> io::Result<Rate> {
        let single = self.single.measure(way, size, time).await?.rate(size, " (single thread)");
        let several = self.several.measure(way, size, time).await?.rate(size, " (several threads)");
        Ok(if single.messages > several.messages { single } else { several })
    }
}

impl Measured {
    fn rate(&self, size: u64, note: &'static str) -> Rate {
        Rate { note, ..Rate::of(self.messages, size, Duration::from_micros(self.micros)) }
    }
}

impl Server {
    async fn start(threads: Threads) -> io::Result<Self> {
        let (child, mut lines) = spawn(&["grpc-server", "--threads", threads.word()])?;
        let numbers = said(&mut lines, "port").await?;
        let port = numbers.first().copied().ok_or_else(|| io::Error::other("no port"))?;
        Ok(Self { threads, port, _child: child })
    }

    async fn measure(&self, way: Way, size: u64, time: Duration) -> io::Result<Measured> {
        let (port, size) = (self.port.to_string(), size.to_string());
        let millis = time.as_millis().to_string();
        let mut arguments = vec!["grpc-client", "--threads", self.threads.word()];
        arguments.extend(["--port", &port, "--way", way.word()]);
        arguments.extend(["--size", &size, "--millis", &millis]);
        let (mut child, mut lines) = spawn(&arguments)?;
        let numbers = said(&mut lines, "measured").await?;
        child.wait().await?;
        let [messages, micros, p50, p99] = numbers[..] else {
            return Err(io::Error::other(format!("not what a client tells: {numbers:?}")));
        };
        Ok(Measured { messages, micros, p50, p99 })
    }
}

type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

/// This program once more.
fn spawn(arguments: &[&str]) -> io::Result<(Child, Lines)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    Ok((child, BufReader::new(out).lines()))
}

/// The numbers of its next line, which is to be of that kind.
async fn said(lines: &mut Lines, kind: &str) -> io::Result<Vec<u64>> {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let line = line.map_err(|_| io::Error::other("gRPC has nothing to say"))??;
    let line = line.ok_or_else(|| io::Error::other("gRPC has ended"))?;
    let numbers = line.strip_prefix(kind).map(|rest| {
        let numbers: Result<Vec<u64>, _> = rest.split_whitespace().map(str::parse).collect();
        numbers.ok()
    });
    numbers.flatten().ok_or_else(|| io::Error::other(format!("gRPC says: {line}")))
}

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    #[arg(long, value_delimiter = ',', default_value = "16,64,1024,65536")]
    sizes: Vec<u64>,
    /// The median of this many is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each takes.
    #[arg(long, default_value_t = 1_000)]
    millis: u64,
}

/// All figures of gRPC, in turn.
///
/// # Errors
/// When a server or client fails.
pub(crate) async fn run(plan: &Plan) -> io::Result<()> {
    let servers = Servers::start().await?;
    let (rounds, time) = (plan.rounds, Duration::from_millis(plan.millis));
    for size in &plan.sizes {
        for way in [Way::One, Way::Many, Way::Stream, Way::Both] {
            if way == Way::One {
                one_at_a_time(&servers, *size, rounds, time).await?;
                continue;
            }
            let mut rates = Vec::new();
            for _ in 0..rounds {
                rates.push(servers.better(way, *size, time).await?);
            }
            let (least, middle, most) = median(&mut rates);
            let what = match way {
                Way::Stream => "stream one way",
                Way::Both => "stream both ways, each way",
                _ => "unary, 64 at a time",
            };
            let (least, most) = (least.messages, most.messages);
            println!("{size:>6} B: {what:<27} {middle}  ({least:.0} to {most:.0})");
        }
    }
    Ok(())
}

/// The round in the middle, by its p50, of the runtime whose p50 is shorter.
async fn one_at_a_time(
    servers: &Servers,
    size: u64,
    rounds: usize,
    time: Duration,
) -> io::Result<()> {
    let mut best: Option<(Measured, Threads)> = None;
    for server in [&servers.single, &servers.several] {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(server.measure(Way::One, size, time).await?);
        }
        measured.sort_by_key(|one| one.p50);
        let middle = measured[(measured.len() - 1) / 2];
        if best.is_none_or(|(best, _)| middle.p50 < best.p50) {
            best = Some((middle, server.threads));
        }
    }
    if let Some((Measured { messages, p50, p99, .. }, threads)) = best {
        println!(
            "{size:>6} B: unary, one at a time        p50 {p50} us, p99 {p99} us of {messages} ({} \
             thread)",
            threads.word()
        );
    }
    Ok(())
}
