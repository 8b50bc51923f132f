//! Who belongs to the cluster goes into the audit trail, however a node has come in: by a token, by
//! a person, or because it proves to be one by its certificate. The owner of the directory writes
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::Request;
use protocol::node_group::{self, NodeGroupState};

use crate::ask::ask_as_system;
use crate::login::Doorkeeper;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The members as they were seen last, and where each is; `None` before the first look.
#[derive(Default)]
struct Members(Option<BTreeMap<String, String>>);

/// Looks for ever.
pub(crate) async fn keep(keeper: Arc<Doorkeeper>, node_id: String) {
    let mut members = Members::default();
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let answer = ask_as_system(&keeper.inbox, Request::get(node_group::LINK)).await;
        let Ok(group) = serde_json::from_slice::<NodeGroupState>(&answer.body) else { continue };
        let is_owner = group.document_owner.as_deref() == Some(&*node_id);
        for note in members.news(&group).into_iter().filter(|_| is_owner) {
            keeper.members_changed(&note).await;
        }
    }
}

impl Members {
    /// What is different from the last time. Nothing at the first look: who was there by then was
    /// recorded by another one, or before this start.
    fn news(&mut self, group: &NodeGroupState) -> Vec<String> {
        let address = |text: &str| text.trim_end_matches(node_group::LINK).to_owned();
        let now: BTreeMap<String, String> = group
            .nodes
            .iter()
            .map(|(id, node)| (id.clone(), address(&node.group_reference)))
            .collect();
        let Some(before) = self.0.replace(now.clone()) else { return Vec::new() };
        let come = now.iter().filter(|(id, _)| !before.contains_key(*id));
        let moved = now.iter().filter(|(id, at)| before.get(*id).is_some_and(|was| was != *at));
        let gone = before.keys().filter(|id| !now.contains_key(*id));
        let come = come.map(|(id, at)| format!("node {id} at {at} is a member now"));
        let moved = moved.map(|(id, at)| format!("node {id} is at {at} now"));
        come.chain(moved).chain(gone.map(|id| format!("node {id} is no member any more"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(nodes: &[(&str, &str)]) -> NodeGroupState {
        let of = |(id, at): &(&str, &str)| {
            let reference = format!("{at}{}", node_group::LINK);
            let state = json!({"id": id, "groupReference": reference, "status": "AVAILABLE",
                "options": [], "membershipQuorum": 1, "ownedPartitions": 0,
                "documentSelfLink": "/x", "documentKind": "k"});
            ((*id).to_owned(), state)
        };
        let nodes: serde_json::Map<String, Value> = nodes.iter().map(of).collect();
        let group = json!({"nodes": nodes, "membershipQuorum": 1, "documentOwner": "n1",
            "documentSelfLink": node_group::LINK, "documentKind": "k", "partitionOwners": []});
        serde_json::from_value(group).unwrap()
    }

    #[test]
    fn who_comes_moves_and_goes_is_news_and_who_was_there_is_none() {
        let mut members = Members::default();
        assert!(members.news(&group(&[("n1", "https://a:1")])).is_empty());
        let two = [("n1", "https://a:1"), ("n2", "https://b:1")];
        assert_eq!(members.news(&group(&two)), ["node n2 at https://b:1 is a member now"]);
        assert!(members.news(&group(&two)).is_empty());
        let other = [("n1", "https://c:1")];
        let expected = ["node n1 is at https://c:1 now", "node n2 is no member any more"];
        assert_eq!(members.news(&group(&other)), expected);
    }
}
