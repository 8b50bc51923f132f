//! A handler that takes long holds up its own document and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use sdk::service::{Context, Problem, Service, Spec};
use sdk::{Client, Config, Founding, Host};
use serde_json::json;

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct State {
    name: String,
}

struct Quick;

impl Service for Quick {
    type State = State;

    fn spec(&self) -> Spec {
        Spec::new("/core/quick", "test:Quick")
    }
}

/// Waits until somebody lets it go on.
struct Slow(Mutex<Receiver<()>>);

impl Service for Slow {
    type State = State;

    fn spec(&self) -> Spec {
        Spec::new("/core/slow", "test:Slow").slow()
    }

    fn create(&self, _: &mut Context<'_>, _: &mut State) -> Result<(), Problem> {
        let gate = self.0.lock().unwrap();
        gate.recv().map_err(|_| Problem::internal("the test is over"))
    }
}

#[test]
fn a_slow_handler_holds_up_nothing_else() {
    let sandbox = std::env::temp_dir().join(format!("slow-handler-{}", std::process::id()));
    let (open, gate) = channel();
    let config = Config {
        id: Some("n1".into()),
        port: 0,
        sandbox: Some(sandbox.clone()),
        founding: Founding { partitions: 1, ..Default::default() },
        ..Config::default()
    };
    let host = Host::new().service(Quick).service(Slow(Mutex::new(gate))).start(config).unwrap();
    let address = host.address().authority();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let slow = Client::new(std::slice::from_ref(&address)).unwrap();
        let slow = tokio::spawn(async move {
            slow.post("/core/slow", &json!({"documentSelfLink": "one"})).await.unwrap().status
        });
        let quick = Client::new(&[address]).unwrap();
        for number in 0..20 {
            let body = json!({"documentSelfLink": format!("{number}")});
            assert_eq!(quick.post("/core/quick", &body).await.unwrap().status, 200);
        }
        assert!(!slow.is_finished(), "it still waits at the gate");
        open.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 200);
    });
    host.stop();
    host.wait().unwrap();
    drop(std::fs::remove_dir_all(&sandbox));
}
