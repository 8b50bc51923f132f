//! The examples on a node of their own, over HTTP, as their users meet them.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use sdk::{Client, Config, Founding, Response};
use serde_json::{Value, json};

/// A node of this process, gone with its data at the end of the test.
struct Node {
    stop: Option<Box<dyn FnOnce()>>,
    sandbox: PathBuf,
    client: Client,
}

impl Node {
    fn start(name: &str) -> Self {
        let sandbox = std::env::temp_dir().join(format!("examples-{name}-{}", std::process::id()));
        let config = Config {
            id: Some("n1".into()),
            port: 0,
            sandbox: Some(sandbox.clone()),
            founding: Founding { partitions: 4, ..Default::default() },
            ..Config::default()
        };
        let host = examples::host().start(config).unwrap();
        let client = Client::new(&[host.address().authority()]).unwrap();
        let stop = move || {
            host.stop();
            host.wait().unwrap();
        };
        Self { stop: Some(Box::new(stop)), sandbox, client }
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        self.client.post(path, &body).await.unwrap()
    }

    async fn patch(&self, path: &str, body: Value) -> Response {
        self.client.patch(path, &body).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(path).await.unwrap().to_json()
    }

    async fn example_count(&self) -> usize {
        self.get("/core/examples").await["documentLinks"].as_array().unwrap().len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
        drop(std::fs::remove_dir_all(&self.sandbox));
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn an_example_has_a_name_and_a_counter_that_never_falls() {
    let node = Node::start("example");
    run(async {
        let nameless = node.post("/core/examples", json!({"counter": 1})).await;
        assert_eq!(
            (nameless.status, nameless.to_json()["message"].as_str()),
            (400, Some("name is required"))
        );
        let body = json!({"documentSelfLink": "one", "name": "a", "counter": 5, "tags": ["t"]});
        let made = node.post("/core/examples", body.clone()).await;
        assert_eq!((made.status, made.location.as_deref()), (200, Some("/core/examples/one")));
        assert_eq!(node.post("/core/examples", body).await.status, 409);

        let patch = json!({"counter": 3, "tags": ["u"], "keyValues": {"k": "v"}});
        let patched = node.patch("/core/examples/one", patch).await.to_json();
        assert_eq!(patched["counter"], 5);
        assert_eq!(patched["tags"], json!(["t", "u"]));
        let put = node.client.put("/core/examples/one", &json!({"name": "b", "counter": 4})).await;
        let put = put.unwrap().to_json();
        assert_eq!((&put["counter"], &put["tags"]), (&json!(5), &json!([])));

        let kind = "com:vmware:xenon:services:common:ExampleService:StrictUpdateRequest";
        let strict = |version| json!({"kind": kind, "name": "c", "documentVersion": version});
        assert_eq!(node.patch("/core/examples/one", strict(1)).await.status, 409);
        assert_eq!(node.patch("/core/examples/one", strict(2)).await.status, 200);
    });
}

#[test]
fn an_example_task_deletes_all_examples_page_by_page() {
    let node = Node::start("example-task");
    run(async {
        for number in 0..250 {
            node.post("/core/examples", json!({"name": format!("e{number}"), "counter": number}))
                .await;
        }
        let clause = json!({"term": {"propertyName": "name", "matchValue": "e7"}});
        let body = json!({"customQueryClause": clause, "taskInfo": {"isDirect": true}});
        let task = node.post("/core/example-tasks", body).await.to_json();
        assert_eq!(task["taskInfo"]["stage"], "FINISHED", "{task}");
        assert_eq!((task["deletedCount"].as_u64(), node.example_count().await), (Some(1), 249));

        let body = json!({"taskLifetime": 60, "taskInfo": {"isDirect": true}});
        let task = node.post("/core/example-tasks", body).await.to_json();
        assert_eq!(task["taskInfo"]["stage"], "FINISHED", "{task}");
        assert_eq!((task["deletedCount"].as_u64(), node.example_count().await), (Some(249), 0));
    });
}

#[test]
fn an_example_task_fails_with_its_query() {
    let node = Node::start("failing-task");
    run(async {
        let clause = json!({"term": {"propertyName": "name"}});
        let body = json!({"customQueryClause": clause, "taskInfo": {"isDirect": true}});
        let task = node.post("/core/example-tasks", body).await.to_json();
        assert_eq!(task["taskInfo"]["stage"], "FAILED", "{task}");
        assert!(task["failureMessage"].as_str().unwrap().contains("400"), "{task}");
        for wrong in [json!({"taskLifetime": 0}), json!({"subStage": "QUERY_EXAMPLES"})] {
            assert_eq!(node.post("/core/example-tasks", wrong).await.status, 400);
        }
    });
}

#[test]
fn a_bootstrap_is_done_once() {
    let node = Node::start("bootstrap");
    run(async {
        let body = json!({
            "documentSelfLink": "first", "userCount": 20, "taskInfo": {"isDirect": true}
        });
        let task = node.post("/core/bootstrap-tasks", body.clone()).await.to_json();
        assert_eq!(task["taskInfo"]["stage"], "FINISHED", "{task}");
        let again = node.post("/core/bootstrap-tasks", body).await.to_json();
        assert_eq!(again["documentVersion"], task["documentVersion"]);
        assert_eq!(node.get("/core/counters/first").await["count"], 20);
        let users = node.get("/core/users").await;
        assert_eq!(users["documentLinks"].as_array().unwrap().len(), 20);
        let wrong = node.post("/core/bootstrap-tasks", json!({"userCount": 0})).await;
        assert_eq!(wrong.status, 400);
    });
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_examples-host"))
}

#[test]
fn the_program_of_its_own_is_a_node_until_it_is_told_to_stop() {
    let sandbox = std::env::temp_dir().join(format!("examples-program-{}", std::process::id()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let flags = ["--id", "own", "--log-level=error", "--port", port.as_str(), "--sandbox"];
    let mut child = program().args(flags).arg(&sandbox).spawn().unwrap();
    let client = Client::new(&[format!("http://127.0.0.1:{port}")]).unwrap();
    run(async {
        let body = json!({"documentSelfLink": "one", "name": "a"});
        let made = client.post("/core/examples", &body).await.unwrap().to_json();
        assert_eq!(made["documentOwner"], "own", "{made}");
        assert_eq!(client.delete("/core/management").await.unwrap().status, 202);
    });
    assert!(child.wait().unwrap().success());
    std::fs::remove_dir_all(&sandbox).unwrap();
}

#[test]
fn the_program_says_which_flags_there_are() {
    let said = |argument: &str| -> (Output, String) {
        let output = program().arg(argument).output().unwrap();
        let text = [&output.stdout[..], &output.stderr].concat();
        (output, String::from_utf8(text).unwrap())
    };
    let (output, help) = said("--help");
    assert!(output.status.success() && help.contains("--peer-nodes"), "{help}");
    let (output, why) = said("--prot=1");
    assert!(!output.status.success() && why.contains("there is no flag --prot"), "{why}");
}
