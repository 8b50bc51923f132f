//! The bodies of `/core/node-groups/default` and `/core/node-selectors/default`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The factory of node groups, of which there is one.
pub const FACTORY_LINK: &str = "/core/node-groups";
pub const LINK: &str = "/core/node-groups/default";
pub const SELECTOR_LINK: &str = "/core/node-selectors/default";
/// Passes a request on to a node.
pub const FORWARDING_LINK: &str = "/core/node-selectors/default/forwarding";
/// Where a node asks another one for a link.
pub const PEER_LINK: &str = "/core/peer-link";
pub const MANAGEMENT_LINK: &str = "/core/management";

/// Below the node group: nodes that wait for a person to let them in.
pub const ASKING: &str = "asking";

/// Below the node group: the cluster, explained.
pub const EXPLAIN: &str = "explain";

const PREFIX: &str = "com:vmware:xenon:services:common:NodeGroupService:";

/// What a POST or PATCH to the node group asks, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeGroupRequest {
    Join(JoinPeerRequest),
    UpdateQuorum(UpdateQuorumRequest),
}

/// POST: the node that gets it joins the cluster of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub struct JoinPeerRequest {
    /// Xenon's whole name of it, or the last part.
    pub kind: String,
    /// The node group of any member: `http://127.0.0.1:8000/core/node-groups/default`.
    pub member_group_reference: String,
    /// Only what the cluster that is joined has already.
    pub membership_quorum: Option<usize>,
    /// There are no locations: only null.
    #[serde(default)]
    pub location_quorum: (),
    /// Every node is a peer.
    #[serde(default)]
    pub local_node_options: Option<Vec<NodeOption>>,
}

/// What a node may be in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeOption {
    Peer,
}

/// PATCH: a new membership quorum, from the majority up to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
pub struct UpdateQuorumRequest {
    /// Xenon's whole name of it, or the last part.
    pub kind: String,
    /// Not false: the quorum is one setting of the whole cluster.
    #[serde(default)]
    pub is_group_update: Option<bool>,
    pub membership_quorum: usize,
    /// There are no locations: only null.
    #[serde(default)]
    pub location_quorum: (),
}

impl NodeGroupRequest {
    /// `kind` may be Xenon's whole name or its last part.
    ///
    /// # Errors
    /// A sentence that says which field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let value =
            crate::json::parse(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let kind = value["kind"].as_str().unwrap_or_default();
        let wrong =
            |needs: &str, error: serde_json::Error| format!("{kind} needs {needs}: {error}");
        match kind.strip_prefix(PREFIX).unwrap_or(kind) {
            "JoinPeerRequest" => {
                let needs = "'memberGroupReference', the address of a node group";
                let read = serde_json::from_value(value.clone());
                read.map(Self::Join).map_err(|error| wrong(needs, error))
            }
            "UpdateQuorumRequest" => {
                let needs = "'membershipQuorum', a whole number";
                let read = serde_json::from_value(value.clone());
                read.map(Self::UpdateQuorum).map_err(|error| wrong(needs, error))
            }
            "" => Err("the body needs a 'kind': JoinPeerRequest or UpdateQuorumRequest".into()),
            other => Err(format!(
                "unknown kind '{other}'; use {PREFIX}JoinPeerRequest or {PREFIX}UpdateQuorumRequest"
            )),
        }
    }
}

/// Whether a node can be reached from the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeStatus {
    Available,
    Unavailable,
    /// It is still being brought up to date: it has joined and is being filled, or its program
    /// lacks services that another member's has.
    Synchronizing,
}

/// One node in the answer to GET (Xenon's `NodeState`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    pub id: String,
    pub group_reference: String,
    pub status: NodeStatus,
    pub options: Vec<String>,
    pub membership_quorum: usize,
    /// How many partitions it owns, as far as the answering node knows.
    pub owned_partitions: usize,
    /// It shall own nothing, as a person has said.
    #[serde(default)]
    pub is_drained: bool,
    /// It is being removed for good.
    #[serde(default)]
    pub is_leaving: bool,
    /// The factories that its program lacks, and that of another member has. It owns nothing that
    /// another one can own.
    #[serde(default)]
    pub missing_services: Vec<String>,
    pub document_self_link: String,
    pub document_kind: String,
}

/// The answer to GET (Xenon's `NodeGroupState`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupState {
    pub nodes: BTreeMap<String, NodeState>,
    pub membership_quorum: usize,
    /// The owner of the directory.
    pub document_owner: Option<String>,
    pub document_self_link: String,
    pub document_kind: String,
    /// For each partition, the id of the node that owns it; null while there is none.
    pub partition_owners: Vec<Option<String>>,
    /// Nodes that wait for a person to let them in.
    #[serde(default)]
    pub asking: Vec<AskingNode>,
}

/// A node that asks to join the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskingNode {
    pub id: String,
    /// Where it says that it is.
    pub address: String,
    /// The members whose names or addresses it has: they are down, and it would take their place.
    pub replaces: Vec<String>,
    pub document_self_link: String,
}

/// PATCH of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePatch {
    /// Whether it shall own nothing.
    pub is_drained: bool,
}

/// POST to the node selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectOwnerRequest {
    pub key: String,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectOwnerResponse {
    pub key: String,
    pub owner_node_id: Option<String>,
    pub owner_node_group_reference: Option<String>,
    pub is_local_host_owner: bool,
    pub available_node_count: usize,
    pub partition: u32,
}
