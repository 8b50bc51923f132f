//! `amrita admit`, `remove` and `drain`: who belongs to the cluster, and who rests.

use std::time::{Duration, Instant};

use client::{Client, Response};
use protocol::node_group::{ASKING, LINK};
use serde_json::{Value, json};

use crate::access::session;
use crate::admin::{check_it_is_no_way_out, group};
use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble, refusal, unreachable};
use crate::screen;
use crate::verbs::client;

/// How long `admit` waits until the node is filled, and `remove` until it has left every group.
/// After that it goes on by itself.
const DONE_MAX: Duration = Duration::from_secs(30);

/// How long `drain` waits until the node owns nothing.
const DRAINED_MAX: Duration = Duration::from_secs(10);

/// Between two looks at the cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Lets a node in that asks to join the cluster, or refuses it. Without a name: who asks.
pub(crate) async fn admit(
    cluster: &Cluster,
    node: Option<&str>,
    at: Option<&str>,
    is_refused: bool,
) -> Outcome {
    let client = client(cluster)?;
    let Some(node) = node else { return show_who_asks(&client, cluster).await };
    let mut link = format!("{LINK}/{ASKING}/{node}");
    if let Some(at) = at {
        link.push_str("?address=");
        link.push_str(at);
    }
    let asked = match is_refused {
        true => client.delete(&link).await,
        false => client.post(&link, &json!({})).await,
    };
    let answer = asked.map_err(|error| unreachable(&error))?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    if is_refused {
        return done(
            cluster,
            &json!({ "refused": node }),
            &format!(
                "Node '{node}' is refused: its process ends, and what is in its sandbox stays out \
                 of the cluster."
            ),
        );
    }
    let is_in = |group: &Value| group["nodes"][node]["status"] == "AVAILABLE";
    let is_filled = wait(&client, DONE_MAX, is_in).await?;
    let text = match is_filled {
        true => format!("Node '{node}' is in: it has a copy of everything, and votes."),
        false => format!(
            "Node '{node}' is let in, and is still being filled; `amrita nodes` shows when it is \
             AVAILABLE."
        ),
    };
    done(cluster, &json!({ "admitted": node, "isFilled": is_filled }), &text)
}

async fn show_who_asks(client: &Client, cluster: &Cluster) -> Outcome {
    let (answer, group) = group(client).await?;
    if cluster.json {
        let asking = answer.to_json()["asking"].clone();
        screen::say(&json!({ "asking": asking }).to_string());
        return Ok(());
    }
    match group.asking.is_empty() {
        true => screen::say("No node asks to join the cluster."),
        false => crate::admin::say_who_asks(&group),
    }
    Ok(())
}

/// Removes a node for good, and waits until it has left.
pub(crate) async fn remove(cluster: &Cluster, node: &str) -> Outcome {
    let client = client(cluster)?;
    let all = with_all_but(node, &client).await?;
    let answer = ask_about(node, client.delete(&format!("{LINK}/{node}")).await)?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let is_gone =
        |group: &Value| group["nodes"].as_object().is_some_and(|nodes| !nodes.contains_key(node));
    // The node that was asked may be the one that goes.
    if wait(&all, DONE_MAX, is_gone).await? {
        let text = format!(
            "Node '{node}' is removed. Its sandbox is of no use to the cluster any more; take its \
             address out of --peer-nodes of the others when you start them next."
        );
        return done(cluster, &json!({ "removed": node }), &text);
    }
    let seconds = DONE_MAX.as_secs();
    Err(Trouble::unknown(format!(
        "node '{node}' counts no more, and after {seconds} s it has not left every group: that goes \
         on as soon as a majority of the others is up and has what it needs; `amrita nodes` shows \
         it as leaving until then"
    )))
}

/// Speaks with the nodes that were named, and where none of them answers, with the other ones.
async fn with_all_but(node: &str, client: &Client) -> Result<Client, Trouble> {
    let (_, group) = group(client).await?;
    let mut addresses: Vec<String> = client.addresses().map(ToString::to_string).collect();
    for other in group.nodes.values().filter(|other| other.id != node) {
        let address = other.group_reference.trim_end_matches(LINK);
        check_it_is_no_way_out(client, address)?;
        addresses.push(address.to_owned());
    }
    session::client_of(&addresses)
}

/// Has a node own nothing, or lets it own again.
pub(crate) async fn drain(cluster: &Cluster, node: &str, is_drained: bool) -> Outcome {
    let client = client(cluster)?;
    let body = json!({ "isDrained": is_drained });
    let answer = ask_about(node, client.patch(&format!("{LINK}/{node}"), &body).await)?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    if !is_drained {
        let text = format!("Node '{node}' may own again, and gets its share slowly.");
        return done(cluster, &json!({ "drained": node, "undone": true }), &text);
    }
    let owns_nothing = |group: &Value| {
        group["nodes"][node]["ownedPartitions"] == 0 && group["documentOwner"] != node
    };
    if wait(&client, DRAINED_MAX, owns_nothing).await? {
        let text = format!(
            "Node '{node}' owns no partition, until `amrita drain --undo {node}`. It still holds a \
             copy of everything, and votes."
        );
        return done(cluster, &json!({ "drained": node }), &text);
    }
    Err(Trouble::unknown(format!(
        "node '{node}' is to own nothing, and after {} s it still does: no other node that is well \
         can take over. It goes on by itself; see `amrita nodes`",
        DRAINED_MAX.as_secs()
    )))
}

/// What has become of a request about that node.
fn ask_about(
    node: &str,
    asked: Result<Response, client::ClientError>,
) -> Result<Response, Trouble> {
    asked.map_err(|error| {
        let Trouble { ending, why } = unreachable(&error);
        Trouble { ending, why: format!("node '{node}': {why}") }
    })
}

/// True when that is so within the time.
async fn wait(
    client: &Client,
    longest: Duration,
    is_so: impl Fn(&Value) -> bool,
) -> Result<bool, Trouble> {
    let begun = Instant::now();
    loop {
        let answer = client.get(LINK).await.map_err(|error| unreachable(&error))?;
        if answer.is_success() && is_so(&answer.to_json()) {
            return Ok(true);
        }
        if begun.elapsed() > longest {
            return if answer.is_success() { Ok(false) } else { Err(refusal(&answer)) };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn done(cluster: &Cluster, value: &Value, text: &str) -> Outcome {
    screen::say(&if cluster.json { value.to_string() } else { text.to_owned() });
    Ok(())
}
