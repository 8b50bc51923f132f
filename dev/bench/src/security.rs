//! What it costs that strangers stay out: the same load on nodes that ask nobody, that ask for a
//! login, that speak TLS, and that do both; and how long a login takes. All of them in turn in one
//! run, so that they see the same machine.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::base64url;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::cluster::{Cluster, Protection};
use crate::http::Connection;
use crate::load::{Measured, Rounds, Verb, percentile};

/// How long the cluster may take until its first admin is there.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    rounds: Rounds,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "patch,get")]
    verbs: Vec<Verb>,
    /// How many logins are timed in each round.
    #[arg(long, default_value_t = 20)]
    logins: usize,
}

/// One way to be protected, and what was measured.
struct Contestant {
    name: &'static str,
    cluster: Cluster,
    /// Of the first admin, where there is one.
    password: Option<String>,
    logins: Vec<Duration>,
}

/// What nodes with TLS need, and those who speak to them.
struct Certificates {
    folder: tempfile::TempDir,
    client: TlsConnector,
}

/// # Errors
/// When nodes cannot be started or do not answer.
pub(crate) async fn run(
    binary: &Path,
    scratch: Option<&Path>,
    nodes: usize,
    plan: &Plan,
) -> io::Result<()> {
    let certificates = Certificates::make()?;
    let mut contestants = Vec::new();
    for (name, auth, tls) in
        [("open", false, false), ("auth", true, false), ("TLS", false, true), ("both", true, true)]
    {
        let protection = certificates.protection(auth, tls)?;
        let cluster = Cluster::begin(binary, nodes, scratch, protection)?;
        contestants.push(Contestant::ready(name, cluster, auth).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("            clients     per second   p50 ms   p99 ms   worst ms   errors   CPU us");
    for &verb in &plan.verbs {
        for &clients in &plan.rounds.clients {
            loads(&contestants, plan, verb, clients).await?;
        }
    }
    for _ in 0..plan.rounds.rounds {
        for contestant in &mut contestants {
            contestant.log_in(plan.logins).await?;
        }
    }
    contestants.iter_mut().for_each(Contestant::show_logins);
    Ok(())
}

async fn loads(
    contestants: &[Contestant],
    plan: &Plan,
    verb: Verb,
    clients: usize,
) -> io::Result<()> {
    let mut all: Vec<Vec<Measured>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds.rounds {
        for (contestant, measured) in contestants.iter().zip(&mut all) {
            let time = Duration::from_secs(plan.rounds.seconds);
            measured.push(contestant.cluster.load(clients, time, verb).await?);
        }
    }
    let medians: Vec<Measured> = all.into_iter().map(crate::median).collect();
    for (contestant, median) in contestants.iter().zip(&medians) {
        crate::show(&format!("{:<5} {verb:?}", contestant.name), clients, median);
    }
    for (contestant, median) in contestants.iter().zip(&medians).skip(1) {
        let ratio = median.per_second / medians[0].per_second.max(1.0);
        let more = median.cpu_micros - medians[0].cpu_micros;
        let name = contestant.name;
        println!(
            "            {name} / open: {ratio:.2} times the rate, {more:+.0} us of processor"
        );
    }
    Ok(())
}

impl Contestant {
    /// Waits until it serves, and logs in where that is asked for.
    async fn ready(name: &'static str, mut cluster: Cluster, auth: bool) -> io::Result<Self> {
        let mut password = None;
        if auth {
            let found = first_password(&cluster).await?;
            cluster.access = cluster.access.showing(&bearer(&cluster, &found).await?);
            password = Some(found);
        }
        cluster.first_write(PATIENCE).await?;
        Ok(Self { name, cluster, password, logins: Vec::new() })
    }

    async fn log_in(&mut self, count: usize) -> io::Result<()> {
        let Some(password) = &self.password else { return Ok(()) };
        for _ in 0..count {
            let began = Instant::now();
            token(&self.cluster, password).await?;
            self.logins.push(began.elapsed());
        }
        Ok(())
    }

    fn show_logins(&mut self) {
        if self.logins.is_empty() {
            return;
        }
        self.logins.sort_unstable();
        let at = |part| crate::millis(percentile(&self.logins, part));
        println!(
            "a login, {}, one after the other with a connection for each: p50 {:.1} ms, p99 {:.1} \
             ms, of {}",
            self.name,
            at(0.5),
            at(0.99),
            self.logins.len()
        );
    }
}

/// What one of the nodes has made up for the first admin.
async fn first_password(cluster: &Cluster) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for index in 0..cluster.ports.len() {
            let file = cluster.sandbox(index).join("first-login");
            if let Ok(password) = std::fs::read_to_string(file) {
                return Ok(password.trim().to_owned());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(io::Error::other("no node has made a first admin"))
}

/// A login that works at some time soon: the nodes may not know the admin so far.
async fn bearer(cluster: &Cluster, password: &str) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match token(cluster, password).await {
            Ok(token) => return Ok(format!("Bearer {token}")),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn token(cluster: &Cluster, password: &str) -> io::Result<String> {
    let text = base64url::encode(format!("admin:{password}").as_bytes());
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    let basic = format!("Basic {}{padding}", text.replace('-', "+").replace('_', "/"));
    let access = cluster.access.showing(&basic);
    let mut connection = Connection::open_by(cluster.ports[0], &access).await?;
    let body = r#"{"requestType":"LOGIN"}"#;
    let answer = connection.ask("POST", "/core/authn/basic", None, body).await?;
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let token = said["token"].as_str().filter(|_| answer.status == 200);
    token.map(str::to_owned).ok_or_else(|| io::Error::other(format!("{}: {said}", answer.status)))
}

impl Certificates {
    /// An authority, and a certificate for all nodes of this machine.
    fn make() -> io::Result<Self> {
        let failed = |error: rcgen::Error| io::Error::other(error);
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(failed)?;
        let authority = params.self_signed(&key).map_err(failed)?;
        let issuer = Issuer::new(params, key);
        let node_key = KeyPair::generate().map_err(failed)?;
        let node = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(failed)?;
        let node = node.signed_by(&node_key, &issuer).map_err(failed)?;
        let folder = tempfile::tempdir()?;
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("node.pem", node.pem()),
            ("key.pem", node_key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), text)?;
        }
        let client = trusting(authority.der().clone())?;
        Ok(Self { folder, client })
    }

    fn protection(&self, auth: bool, tls: bool) -> io::Result<Protection> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut flags = Vec::new();
        if auth {
            flags.push("--auth".to_owned());
        }
        if tls {
            let names = ["--tls-cert", "--tls-key", "--tls-client-ca"];
            for (flag, name) in names.into_iter().zip(["node.pem", "key.pem", "ca.pem"]) {
                flags.extend([flag.to_owned(), file(name)]);
            }
        } else if auth {
            // Without certificates, nodes know each other by this.
            std::fs::write(file("secret"), "a secret of all links of this one run")?;
            private(&self.folder.path().join("secret"))?;
            flags.extend(["--link-secret-file".to_owned(), file("secret")]);
        }
        let tls = tls.then(|| self.client.clone());
        Ok(Protection { flags, tls, ..Protection::default() })
    }
}

fn private(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

fn trusting(authority: CertificateDer<'static>) -> io::Result<TlsConnector> {
    let failed = |error: rustls::Error| io::Error::other(error);
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(failed)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
