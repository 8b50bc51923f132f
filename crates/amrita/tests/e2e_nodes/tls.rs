//! Three nodes with certificates: clients and nodes speak TLS with them, and nobody else does.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, ClientError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use crate::cluster::{free_ports, node_arguments};

const EXAMPLES: &str = "/core/examples";
const PATIENCE: Duration = Duration::from_secs(30);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(folder: &Path, name: &str) -> (Authority, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key can be made");
    let authority = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
    let file = folder.join(format!("{name}.pem"));
    fs::write(&file, authority.pem()).expect("a file can be written");
    (authority, file)
}

/// A certificate and a key, signed by an authority.
fn certificate(folder: &Path, name: &str, by: &Authority) -> [PathBuf; 2] {
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    certificate_for(folder, name, by, vec![address])
}

fn certificate_for(folder: &Path, name: &str, by: &Authority, names: Vec<SanType>) -> [PathBuf; 2] {
    let key = KeyPair::generate().expect("a key can be made");
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let signed = params.signed_by(&key, by).expect("it is signed");
    let files = ["cert", "key"].map(|kind| folder.join(format!("{name}-{kind}.pem")));
    fs::write(&files[0], signed.pem()).expect("a file can be written");
    fs::write(&files[1], key.serialize_pem()).expect("a file can be written");
    files
}

fn uri(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

struct Encrypted {
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    authority: PathBuf,
    nodes: Vec<Child>,
}

impl Encrypted {
    fn started() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (signer, authority) = authority(folder.path(), "authority");
        let ports = free_ports(3);
        let mut all = Self { folder, ports: ports.clone(), authority, nodes: Vec::new() };
        for (number, port) in ports.iter().enumerate() {
            let name = format!("n{number}");
            let files = certificate(all.folder.path(), &name, &signer);
            all.start(&name, *port, &files, &ports);
        }
        all
    }

    /// Starts a node that believes the authority of all.
    fn start(&mut self, name: &str, port: u16, files: &[PathBuf; 2], ports: &[u16]) {
        self.start_with(name, port, files, (ports, &[]));
    }

    /// The same, with further flags.
    fn start_with(
        &mut self,
        name: &str,
        port: u16,
        [cert, key]: &[PathBuf; 2],
        (ports, more): (&[u16], &[&str]),
    ) {
        let log = fs::File::create(self.folder.path().join(format!("{name}.log")));
        let peers: Vec<String> = ports.iter().map(|port| uri(*port)).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(node_arguments(name, port, &self.folder.path().join(name)))
            .args(["--auth", "--stop-with-stdin", "--peer-nodes", &peers.join(",")])
            .args(more)
            .arg("--tls-cert")
            .arg(cert)
            .arg("--tls-key")
            .arg(key)
            .arg("--tls-client-ca")
            .arg(&self.authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("a log can be made"))
            .spawn()
            .expect("the program can be started");
        self.nodes.push(child);
    }

    /// The command line, with a home of its own.
    fn amrita(&self, words: &[&str]) -> (bool, String) {
        let addresses: Vec<String> = self.ports.iter().map(|port| uri(*port)).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(words)
            .env("AMRITA_ADDRESS", addresses.join(","))
            .env("AMRITA_CA_FILE", &self.authority)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .stdin(Stdio::null())
            .output()
            .expect("the program can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn client(&self, port: u16, authority: &Path) -> Client {
        let client = Client::new(&[uri(port)]).expect("it is an address");
        let client = client.with_ca_file(authority).expect("it has a certificate");
        client.patience(Duration::from_secs(5)).reach_within(Duration::ZERO)
    }

    fn first_login(&self) -> PathBuf {
        let wait = Instant::now() + PATIENCE;
        loop {
            let log =
                |number| fs::read_to_string(self.folder.path().join(format!("n{number}.log")));
            let made =
                (0..3).find(|number| log(*number).is_ok_and(|it| it.contains("first admin is")));
            if let Some(number) = made {
                return self.folder.path().join(format!("n{number}")).join("first-login");
            }
            assert!(Instant::now() < wait, "no first admin: {:?}", log(0));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.stdin.take());
            drop(node.kill());
            drop(node.wait());
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(future)
}

#[test]
fn three_nodes_with_certificates_speak_tls_and_nothing_else() {
    let mut all = Encrypted::started();
    let file = all.first_login().display().to_string();
    let ok = |all: &Encrypted, words: &[&str]| {
        let (is_success, said) = all.amrita(words);
        assert!(is_success, "{words:?}: {said}");
        said
    };
    ok(&all, &["login", "--user", "admin", "--password-file", &file]);
    ok(&all, &["post", EXAMPLES, r#"{"documentSelfLink":"one","name":"one"}"#]);
    // The three form a cluster over links with TLS, and each passes on what another owns.
    for port in all.ports.clone() {
        assert!(ok(&all, &["get", &format!("{}{EXAMPLES}/one", uri(port))]).contains("one"));
    }
    let nodes = ok(&all, &["nodes"]);
    assert_eq!(nodes.matches("AVAILABLE").count(), 3, "{nodes}");
    who_speaks_no_tls_is_told_nothing(all.ports[0]);

    // A client that believes another authority does not even say what it wants.
    let (foreign, foreign_file) = authority(all.folder.path(), "foreign");
    let asked = run(all.client(all.ports[0], &foreign_file).get("/livez"));
    assert!(matches!(asked, Err(ClientError::Unreachable { .. })), "{asked:?}");
    // One that shows no certificate gets no link, whatever else it has.
    let refused = run(all.client(all.ports[0], &all.authority).get("/core/peer-link")).unwrap();
    assert_eq!(refused.status, 403, "{:?}", refused.body);

    // A node whose certificate another authority has signed belongs to nothing.
    let port = free_ports(1)[0];
    let files = certificate(all.folder.path(), "intruder", &foreign);
    let ports: Vec<u16> = all.ports.iter().copied().chain([port]).collect();
    all.start("intruder", port, &files, &ports);
    std::thread::sleep(Duration::from_secs(2));
    let nodes = ok(&all, &["nodes"]);
    assert!(nodes.matches("AVAILABLE").count() == 3 && !nodes.contains("intruder"), "{nodes}");
    let ready = run(all.client(port, &foreign_file).get("/readyz")).unwrap();
    assert_eq!(ready.status, 503, "{:?}", ready.body);
}

fn who_speaks_no_tls_is_told_nothing(port: u16) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has one");
    socket.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    let mut said = Vec::new();
    drop(socket.read_to_end(&mut said));
    assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));
}

/// A certificate that is renewed counts without a new start.
#[test]
fn a_new_certificate_is_taken_over_by_a_running_node() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (old, old_file) = authority(folder.path(), "old");
    let (new, new_file) = authority(folder.path(), "new");
    let ports = free_ports(1);
    let files = certificate(folder.path(), "n0", &old);
    let mut all =
        Encrypted { folder, ports: ports.clone(), authority: old_file, nodes: Vec::new() };
    all.start("n0", ports[0], &files, &ports);
    let lives = |all: &Encrypted, authority: &Path| {
        run(all.client(ports[0], authority).get("/livez")).is_ok_and(|it| it.is_success())
    };
    let wait = Instant::now() + PATIENCE;
    while !lives(&all, &all.authority) {
        assert!(Instant::now() < wait, "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!lives(&all, &new_file));
    certificate(all.folder.path(), "n0", &new);
    while !lives(&all, &new_file) {
        assert!(Instant::now() < wait, "the new certificate is not taken over");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Certificates as SPIFFE's agents make them: the same authority signs those of others as well.
#[test]
fn only_who_has_an_id_of_nodes_in_its_certificate_is_a_node() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (signer, authority) = authority(folder.path(), "authority");
    let ports = free_ports(4);
    let mut all = Encrypted { folder, ports: vec![ports[0]], authority, nodes: Vec::new() };
    let with_id = |all: &Encrypted, name: &str, id: &str, more: Vec<SanType>| {
        let id = SanType::URI(id.try_into().expect("an id is ASCII"));
        certificate_for(all.folder.path(), name, &signer, [vec![id], more].concat())
    };
    let ids = ["--tls-peer-ids", "spiffe://acme.example/amrita/*"];
    let nodes = &ports[..3];
    for (number, port) in nodes.iter().enumerate() {
        let name = format!("n{number}");
        // A client goes by the name of the first one; nodes need none.
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        let more = if number == 0 { vec![address] } else { Vec::new() };
        let files = with_id(&all, &name, &format!("spiffe://acme.example/amrita/{name}"), more);
        all.start_with(&name, *port, &files, (nodes, &ids));
    }
    let file = all.first_login().display().to_string();
    let ok = |all: &Encrypted, words: &[&str]| {
        let (is_success, said) = all.amrita(words);
        assert!(is_success, "{words:?}: {said}");
        said
    };
    ok(&all, &["login", "--user", "admin", "--password-file", &file]);
    ok(&all, &["post", EXAMPLES, r#"{"documentSelfLink":"one","name":"one"}"#]);
    assert_eq!(ok(&all, &["nodes"]).matches("AVAILABLE").count(), 3);
    // Of the same authority, and it believes everybody who is of that trust domain.
    let files = with_id(&all, "web", "spiffe://acme.example/web", Vec::new());
    let everybody = ["--tls-peer-ids", "spiffe://acme.example/*"];
    all.start_with("web", ports[3], &files, (&ports, &everybody));
    std::thread::sleep(Duration::from_secs(2));
    let nodes = ok(&all, &["nodes"]);
    assert!(nodes.matches("AVAILABLE").count() == 3 && !nodes.contains("web"), "{nodes}");
    ok(&all, &["patch", &format!("{EXAMPLES}/one"), r#"{"counter":1}"#]);
    // With the ids of the others it does not even start.
    let log = |all: &Encrypted| fs::read_to_string(all.folder.path().join("web2.log"));
    let files = with_id(&all, "web2", "spiffe://acme.example/web", Vec::new());
    all.start_with("web2", free_ports(1)[0], &files, (&[], &ids));
    let wait = Instant::now() + PATIENCE;
    while !log(&all).is_ok_and(|log| log.contains("has the id spiffe://acme.example/web")) {
        assert!(Instant::now() < wait, "{:?}", log(&all));
        std::thread::sleep(Duration::from_millis(50));
    }
}
