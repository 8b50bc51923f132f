//! Nobody holds up a node by being slow: handlers that sleep, on real nodes in one process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::{Address, Problem};
use serde::{Deserialize, Serialize};
use server::{Config, Founding, Host};
use services::{Catalogue, Context, Patch, Service, Spec};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long another request may take beside a handler that sleeps. The machine may be busy.
const BESIDE_MAX: Duration = Duration::from_millis(600);

/// A PATCH with `sleep` takes as many milliseconds.
struct Sleeper;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct SleeperState {
    sleep: u64,
}

impl Service for Sleeper {
    type State = SleeperState;

    fn spec(&self) -> Spec {
        Spec::new("/core/sleepers", "test:Sleeper")
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &SleeperState,
        patch: &Patch,
    ) -> Result<SleeperState, Problem> {
        let new: SleeperState = context.merge(current, patch)?;
        std::thread::sleep(Duration::from_millis(new.sleep));
        Ok(new)
    }
}

fn cluster(folder: &TempDir) -> Vec<Host> {
    let sockets: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let ports: Vec<u16> =
        sockets.iter().map(|socket| socket.local_addr().expect("it is bound").port()).collect();
    drop(sockets);
    let address = |port: &u16| Address::parse(&format!("127.0.0.1:{port}")).expect("it is one");
    let start = |port: &u16| {
        let sandbox = Some(folder.path().join(port.to_string()));
        let founding =
            Founding { peer_nodes: ports.iter().map(address).collect(), ..Default::default() };
        let config = Config { port: *port, sandbox, founding, ..Config::default() };
        Host::start(config, Catalogue::new().with(Sleeper)).expect("it starts")
    };
    let hosts: Vec<Host> = ports.iter().map(start).collect();
    let begun = Instant::now();
    for at in addresses(&hosts) {
        while ask(&at, "GET", "/core/sleepers/available", "").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "it does not become available");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    hosts
}

fn addresses(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| host.address().authority().to_owned()).collect()
}

fn ask(at: &str, verb: &str, path: &str, body: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(at).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: '{answer}'")), answer)
}

/// Lets a handler sleep, and says how long a request for another document took at most meanwhile.
fn worst_beside(at: &[String], sleep: u64) -> Duration {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let body = format!("{{\"sleep\":{sleep}}}");
            let (status, answer) = ask(&at[0], "PATCH", "/core/sleepers/d0", &body);
            assert_eq!(status, 200, "{answer}");
            is_over.store(true, Ordering::SeqCst);
        });
        let mut worst = Duration::ZERO;
        for number in 0.. {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let begun = Instant::now();
            let path = format!("/core/sleepers/d{}", 1 + number % 9);
            let (status, answer) = ask(&at[number % 3], "GET", &path, "");
            assert_eq!(status, 200, "{answer}");
            worst = worst.max(begun.elapsed());
        }
        worst
    })
}

#[test]
fn a_handler_that_sleeps_holds_up_its_own_document_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = cluster(&folder);
    let at = addresses(&hosts);
    for number in 0..10 {
        let body = format!("{{\"documentSelfLink\":\"d{number}\"}}");
        assert_eq!(ask(&at[0], "POST", "/core/sleepers", &body).0, 200);
    }
    let worst = worst_beside(&at, 1_500);
    assert!(worst < BESIDE_MAX, "a kind that is not known holds up nobody: {worst:?}");
    // Now it is known to be quick, and is run within the step.
    for _ in 0..40 {
        assert_eq!(ask(&at[0], "PATCH", "/core/sleepers/d0", "{\"sleep\":0}").0, 200);
    }
    worst_beside(&at, 1_500);
    let slow = |at: &String| {
        let page = ask(at, "GET", "/metrics", "").1;
        page.contains("amrita_handlers_slow_total{factory=\"/core/sleepers\"}")
    };
    assert!(at.iter().any(slow), "the kind is named");
    let worst = worst_beside(&at, 1_500);
    assert!(worst < BESIDE_MAX, "a kind that was slow holds up nobody: {worst:?}");
    for host in &hosts {
        host.stop();
    }
    for host in hosts {
        host.wait().expect("it stops in good order");
    }
}
