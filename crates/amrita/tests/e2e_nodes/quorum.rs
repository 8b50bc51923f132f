//! Fewer nodes than the membership quorum asks for: writes are refused at once and reads go on; a
//! lost majority answers nothing, and everything comes back with the nodes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const GROUP: &str = "/core/node-groups/default";
const ONE: &str = "/core/examples/one";

/// "At once".
const AT_ONCE: Duration = Duration::from_secs(1);

fn set_quorum(cluster: &Cluster, which: usize, quorum: usize) -> Reply {
    let kind = "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";
    let body = json!({"kind": kind, "isGroupUpdate": true, "membershipQuorum": quorum});
    cluster.ask(which, &Ask::new("PATCH", GROUP).json(&body))
}

fn patch(cluster: &Cluster, which: usize, body: &Value) -> Reply {
    cluster.ask(which, &Ask::new("PATCH", ONE).json(body))
}

#[test]
fn a_write_under_the_membership_quorum_is_refused_at_once_and_not_done() {
    let mut cluster = Cluster::started(3);
    let body = json!({"documentSelfLink": "one", "name": "0"});
    assert_eq!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
    assert_eq!(set_quorum(&cluster, 0, 3).status, 200);
    assert_eq!(patch(&cluster, 0, &json!({"name": "1"})).status, 200);
    cluster.kill(2);

    // The first one may come before the others have noticed; it must not be kept waiting either.
    let refused = cluster.wait_for("a refusal for the quorum's sake", || {
        let reply = patch(&cluster, 0, &json!({"name": "2"}));
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert!(reply.took < AT_ONCE, "{:?}: {}", reply.took, reply.body);
        (reply.code() == "QUORUM_NOT_MET").then_some(reply)
    });
    assert!(refused.message().contains('3') && refused.message().contains('2'), "both numbers");
    assert_eq!(refused.body["outcome"], "notApplied");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(cluster.get(1, ONE).body["name"], "1", "reading goes on, and nothing was written");

    assert_eq!(set_quorum(&cluster, 1, 2).status, 200);
    assert_eq!(patch(&cluster, 1, &json!({"name": "3"})).status, 200);
    cluster.start(2);
    cluster.wait_until_whole();
    assert_eq!(cluster.get(2, ONE).body["name"], "3");
}

#[test]
fn the_flag_counts_when_the_cluster_forms_and_is_told_apart_later() {
    for (flag, later) in [(None, "3"), (Some("3"), "2")] {
        let mut cluster = Cluster::of(3);
        let flags: Vec<&str> = flag.iter().flat_map(|flag| ["--membership-quorum", flag]).collect();
        for which in 0..3 {
            cluster.start_with(which, &flags);
        }
        cluster.wait_until_whole();
        let in_force = flag.map_or(2, |flag| flag.parse().expect("a number"));
        assert_eq!(cluster.get(1, GROUP).body["membershipQuorum"], in_force);

        assert!(cluster.stop(2).success());
        cluster.start_with(2, &["--membership-quorum", later]);
        cluster.wait_until_whole();
        assert_eq!(cluster.get(2, GROUP).body["membershipQuorum"], in_force, "the setting stays");
        let words = format!("--membership-quorum {later} was given, but {in_force} is in force");
        assert_eq!(cluster.log(2).matches(&words).count(), 1, "{}", cluster.end_of_log(2));
    }
}

#[test]
fn a_lost_majority_acknowledges_nothing_and_comes_back_whole() {
    let mut cluster = Cluster::started(3);
    let body = json!({"documentSelfLink": "one", "name": "0"});
    assert_eq!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
    cluster.kill(1);
    cluster.kill(2);
    for _ in 0..3 {
        let ask = Ask::new("PATCH", ONE).json(&json!({"name": "lonely"}));
        let written = ask.within(Duration::from_secs(2)).send(cluster.port(0));
        assert!(written.is_err() || written.is_ok_and(|reply| reply.status >= 500));
        let read = Ask::get(ONE).within(Duration::from_secs(2)).send(cluster.port(0));
        assert!(read.is_err() || read.is_ok_and(|reply| reply.status >= 500));
    }
    let local = cluster.get(0, &format!("{ONE}?consistency=local"));
    assert_eq!(local.body["name"], "0", "{}", local.body);
    cluster.start(1);
    cluster.start(2);
    cluster.wait_until_whole();
    let read = cluster.get(1, ONE);
    assert_eq!(read.status, 200, "{}", read.body);
}
