//! etcd beside Amrita: three processes on this machine, a put of a hundred bytes for each PATCH and
//! a linearizable range for each GET.
//!
//! Clients speak gRPC to all three members alike, as Amrita's clients speak to all three nodes.
//! The two messages are so small that their fields are written by hand (etcd's `rpc.proto`): a
//! code generator would need `protoc`.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::process::{Child, Command};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::cluster::{cpu_micros_of, free_ports};
use crate::grpc_service::Plain;
use crate::load::{Measured, Verb, percentile, summary};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// A value is as long as the body of a PATCH is.
const VALUE_BYTES: usize = 100;

/// How many connections to each member: one would make its two threads wait for each other.
const CHANNELS: usize = 4;

/// How long the members may take to answer the first put.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Etcd {
    members: Vec<Child>,
    ports: Vec<u16>,
    channels: Vec<Channel>,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts three members and waits until a first put is answered.
    ///
    /// # Errors
    /// When there is no `etcd` on the path, or the members do not answer.
    pub(crate) async fn start(scratch: Option<&Path>) -> io::Result<Self> {
        let folder = match scratch {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let all = free_ports(6)?;
        let (ports, peers) = all.split_at(3);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> =
            peers.iter().zip(1..).map(|(p, n)| format!("e{n}={}", url(*p))).collect();
        let mut members = Vec::new();
        for (index, (client, peer)) in ports.iter().zip(peers).enumerate() {
            let name = format!("e{}", index + 1);
            let log = std::fs::File::create(folder.path().join(format!("{name}.log")))?;
            let mut command = Command::new("etcd");
            command
                .args(["--name", &name, "--initial-cluster-state", "new"])
                .arg("--data-dir")
                .arg(folder.path().join(&name))
                .args(["--listen-client-urls", &url(*client)])
                .args(["--advertise-client-urls", &url(*client)])
                .args(["--listen-peer-urls", &url(*peer)])
                .args(["--initial-advertise-peer-urls", &url(*peer)])
                .args(["--initial-cluster", &cluster.join(",")])
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true);
            members.push(command.spawn().map_err(|error| {
                io::Error::other(format!("etcd cannot be started ({error}): install etcd-server"))
            })?);
        }
        let mut channels = Vec::new();
        for n in 0..CHANNELS * 3 {
            let endpoint = Endpoint::from_shared(url(ports[n % 3])).map_err(io::Error::other)?;
            channels.push(endpoint.tcp_nodelay(true).connect_lazy());
        }
        let mut etcd = Self { members, ports: ports.to_vec(), channels, _folder: folder };
        etcd.first_put().await?;
        Ok(etcd)
    }

    async fn first_put(&mut self) -> io::Result<()> {
        let began = Instant::now();
        for channel in &self.channels {
            while let Err(why) = call(&mut Grpc::new(channel.clone()), PUT, put(b"first")).await {
                if began.elapsed() > PATIENCE {
                    let ports = &self.ports;
                    return Err(io::Error::other(format!(
                        "etcd at {ports:?} does not answer: {why}"
                    )));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// What all members together took of the processors until now, in microseconds.
    ///
    /// # Errors
    /// When a member is gone.
    pub(crate) fn cpu_micros(&self) -> io::Result<f64> {
        self.members.iter().filter_map(Child::id).map(cpu_micros_of).sum()
    }

    /// # Errors
    /// When a call fails.
    pub(crate) async fn load(
        &self,
        clients: usize,
        time: Duration,
        verb: Verb,
    ) -> io::Result<Measured> {
        let before = self.cpu_micros()?;
        let mut tasks = Vec::new();
        for client in 0..clients {
            let channel = self.channels[client % self.channels.len()].clone();
            tasks.push(tokio::spawn(one_client(channel, client, time, verb)));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.map_err(io::Error::other)?.map_err(io::Error::other)?);
        }
        let mut measured = summary(all, 0, time);
        measured.cpu_micros = (self.cpu_micros()? - before) / measured.count.max(1.0);
        Ok(measured)
    }
}

async fn one_client(
    channel: Channel,
    client: usize,
    time: Duration,
    verb: Verb,
) -> Result<Vec<Duration>, Status> {
    let mut grpc = Grpc::new(channel);
    let (mut took, mut number, end) = (Vec::new(), 0_u64, Instant::now() + time);
    while Instant::now() < end {
        number += 1;
        let key = match verb {
            Verb::Post => format!("bench-{client}-new-{number}"),
            Verb::Patch | Verb::Get => format!("bench-{client}-{}", number % 4),
        };
        let began = Instant::now();
        match verb {
            Verb::Get => call(&mut grpc, RANGE, range(key.as_bytes())).await?,
            Verb::Post | Verb::Patch => call(&mut grpc, PUT, put(key.as_bytes())).await?,
        };
        took.push(began.elapsed());
    }
    Ok(took)
}

async fn call(grpc: &mut Grpc<Channel>, path: &'static str, body: Bytes) -> Result<Bytes, Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(path);
    Ok(grpc.unary(Request::new(body), path, Plain).await?.into_inner())
}

/// `PutRequest { key = 1, value = 2 }`.
fn put(key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    field(&mut bytes, 1, key);
    field(&mut bytes, 2, &[b'x'; VALUE_BYTES]);
    bytes.freeze()
}

/// `RangeRequest { key = 1 }`: one key, linearizable.
fn range(key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    field(&mut bytes, 1, key);
    bytes.freeze()
}

fn field(into: &mut BytesMut, number: u8, value: &[u8]) {
    into.put_u8(number << 3 | 2);
    into.put_u8(u8::try_from(value.len()).expect("keys and values here are under 128 bytes"));
    into.put_slice(value);
}

/// How long one sync of 4 KiB takes on the disk of that folder, in a file whose blocks are there:
/// the median of several.
///
/// # Errors
/// When the disk fails.
pub(crate) fn sync_time(scratch: Option<&Path>, count: usize) -> io::Result<Duration> {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = match scratch {
        Some(parent) => tempfile::tempfile_in(parent)?,
        None => tempfile::tempfile()?,
    };
    let block = [7_u8; 4096];
    for _ in 0..256 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut took = Vec::new();
    for number in 0..count {
        let place = u64::try_from(number % 256).unwrap_or(0) * 4096;
        let began = Instant::now();
        file.seek(SeekFrom::Start(place))?;
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(percentile(&took, 0.5))
}
