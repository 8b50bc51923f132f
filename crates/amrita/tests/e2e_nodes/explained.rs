//! `amrita explain` on days when something is missing: it says at once what, and what to do.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Ended};
use crate::http::Ask;
use crate::programs::register;

fn explain(cluster: &Cluster, which: usize, what: &str) -> Ended {
    let address = crate::cluster::uri(cluster.port(which));
    let words = ["explain", what, "--address", &address].map(str::to_owned);
    let told = Cluster::run_to_its_end(&words);
    assert!(told.status.success(), "{}", told.said);
    told
}

/// Waits until all of that is told: just after a start or a death, more may be on its way.
fn explained(cluster: &Cluster, which: usize, what: &str, words: &[&str]) {
    cluster.wait_for(&format!("{words:?} about {what}"), || {
        let told = explain(cluster, which, what).said;
        words.iter().all(|word| told.contains(word)).then_some(())
    });
}

fn finding(body: &Value, waits_for: &str) -> Option<Value> {
    let findings = body["findings"].as_array()?;
    findings.iter().find(|finding| finding["waitsFor"] == waits_for).cloned()
}

#[test]
fn what_is_missing_is_told_with_what_would_free_it() {
    let mut cluster = Cluster::started(3);
    let body = json!({ "documentSelfLink": "one", "name": "a" });
    assert_eq!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
    explained(&cluster, 0, "cluster", &["waits for nothing"]);
    explained(&cluster, 1, "/core/examples/one", &["waits for nothing"]);

    // An instance whose program nobody has started.
    register(&cluster, "counter", &json!({}));
    cluster.wait_for("a word of the missing program", || {
        let reply = Ask::get("/core/immortals/counter/explain").send(cluster.port(1)).ok()?;
        let missing = finding(&reply.body, "PROGRAM")?;
        assert_eq!(reply.body["isStuck"], true, "{}", reply.body);
        missing["remedy"].as_str()?.contains("start its program").then_some(())
    });
    explained(&cluster, 2, "counter", &["no program is attached to 'counter'"]);

    // Fewer nodes than the quorum.
    let kind = "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";
    let body = json!({ "kind": kind, "isGroupUpdate": true, "membershipQuorum": 3 });
    let group = "/core/node-groups/default";
    assert_eq!(cluster.ask(0, &Ask::new("PATCH", group).json(&body)).status, 200);
    cluster.kill(2);
    cluster.wait_for("a word of the quorum", || {
        let reply = cluster.get(0, &format!("{group}/explain"));
        let remedy = finding(&reply.body, "QUORUM")?["remedy"].as_str()?.to_owned();
        let third = &cluster.member(2).id;
        let is_whole = remedy.contains(third) && remedy.contains("amrita quorum 2");
        let away = finding(&reply.body, "NODE")?;
        let is_stuck = reply.body["isStuck"] == true;
        (is_whole && is_stuck && away["forMillis"].as_u64().is_some()).then_some(())
    });

    explained(&cluster, 0, "/core/examples/one", &["writes are refused"]);
    let ready = cluster.get(0, "/readyz");
    assert_eq!(ready.status, 503, "writes fail: {}", ready.body);
    let why = ready.body["noWrites"].as_str().expect("it says why");
    assert!(why.contains("the membership quorum is 3, and 2 of 3 nodes"), "{why}");

    // No majority: it is told at once, also of a document that nobody can ask for.
    cluster.kill(1);
    cluster.wait_for("a word of the majority", || {
        let reply = cluster.get(0, "/core/examples/one/explain");
        assert!(reply.took.as_secs() < 1, "{:?}", reply.took);
        let text = finding(&reply.body, "QUORUM")?["text"].as_str()?.to_owned();
        text.contains("1 of 3 nodes").then_some(())
    });
    let words = ["needs attention", "1 of 3 nodes", "-> start "];
    explained(&cluster, 0, "/core/examples/one", &words);
}
