//! What a node says about itself and the cluster: node group, node selector, management.

use std::collections::BTreeMap;

use protocol::node_group::{
    self, NodeGroupState, NodeState, NodeStatus, SelectOwnerRequest, SelectOwnerResponse,
};
use protocol::{Code, GroupId, Method, Outcome, Problem, ReplicaId, Request, Response, links};
use serde_json::json;

use crate::client::only;
use crate::directory::DirectoryCommand;
use crate::edge::Purpose;
use crate::node::Node;

impl Node {
    pub(crate) fn node_group_state(&self) -> Response {
        let owners: Vec<Option<String>> = (1..=self.partitions())
            .map(|group| self.owner_of(GroupId(group)))
            .map(|owner| owner.and_then(|id| self.map.node_id(id)).map(str::to_owned))
            .collect();
        let quorum = self.map.effective_quorum();
        let mut nodes = BTreeMap::new();
        for (replica, member) in &self.map.members {
            let owned = owners.iter().flatten().filter(|owner| **owner == member.node_id).count();
            let state = NodeState {
                id: member.node_id.clone(),
                group_reference: format!("{}{}", member.uri, node_group::LINK),
                status: self.status_of(*replica),
                options: vec!["PEER".into()],
                membership_quorum: quorum,
                owned_partitions: owned,
                document_self_link: format!("{}/{}", node_group::LINK, member.node_id),
                document_kind: "com:vmware:xenon:services:common:NodeState".into(),
            };
            nodes.insert(member.node_id.clone(), state);
        }
        let state = NodeGroupState {
            nodes,
            membership_quorum: quorum,
            document_owner: self
                .owner_of(GroupId::DIRECTORY)
                .and_then(|id| self.map.node_id(id))
                .map(str::to_owned),
            document_self_link: node_group::LINK.into(),
            document_kind: "com:vmware:xenon:services:common:NodeGroupService:NodeGroupState"
                .into(),
            partition_owners: owners,
        };
        Response::json(200, &serde_json::to_value(state).expect("a state is JSON"))
    }

    fn status_of(&self, replica: ReplicaId) -> NodeStatus {
        if !self.is_up(replica) {
            return NodeStatus::Unavailable;
        }
        let voter =
            |group: &crate::replica::Replica| group.group.members().voters.contains(&replica);
        if self.replicas.range(..GroupId::INSTANCES).all(|(_, group)| voter(group)) {
            NodeStatus::Available
        } else {
            NodeStatus::Synchronizing
        }
    }

    pub(crate) fn selector(&self, request: &Request) -> Result<Response, Problem> {
        only(request, &[Method::Get, Method::Post])?;
        if request.method == Method::Get {
            return Ok(Response::json(
                200,
                &json!({
                    "nodeGroupLink": node_group::LINK,
                    "membershipQuorum": self.map.effective_quorum(),
                    "status": if self.majority_is_up() { "AVAILABLE" } else { "UNAVAILABLE" },
                    "documentSelfLink": node_group::SELECTOR_LINK,
                    "documentKind": "com:vmware:xenon:common:NodeSelectorState",
                }),
            ));
        }
        let SelectOwnerRequest { key } =
            serde_json::from_slice(&request.body).map_err(|error| {
                Problem::new(Code::BadBody, format!("the body must be {{\"key\": LINK}}: {error}"))
            })?;
        if self.partitions() == 0 {
            return Err(Problem::new(Code::NoOwner, "this node is not part of a cluster yet"));
        }
        let group = links::partition(&key, self.partitions());
        let owner = self.owner_of(group);
        let member = owner.and_then(|id| self.map.members.get(&id));
        let response = SelectOwnerResponse {
            key,
            owner_node_id: member.map(|member| member.node_id.clone()),
            owner_node_group_reference: member.map(|m| format!("{}{}", m.uri, node_group::LINK)),
            is_local_host_owner: owner.is_some() && owner == self.me,
            available_node_count: self.nodes_up(),
            partition: group.0,
        };
        Ok(Response::json(200, &serde_json::to_value(response).expect("an answer is JSON")))
    }

    pub(crate) fn management(&mut self, request: &Request) -> Result<Response, Problem> {
        only(request, &[Method::Get, Method::Delete])?;
        if request.method == Method::Delete {
            self.stop();
            return Ok(Response::bytes(202, bytes::Bytes::new()));
        }
        let owned = self.offices.keys().filter(|group| !group.is_directory()).count();
        Ok(Response::json(
            200,
            &json!({
                "id": self.config.node_id,
                "publicUri": self.config.public_uri,
                "initialPeerNodes": self.config.peers,
                "isPeerSynchronizationEnabled": true,
                "isAuthorizationEnabled": false,
                "clusterId": self.map.cluster.map(|id| format!("{id:016x}")),
                "replicaId": self.me.map(|id| id.0),
                "bootCount": self.config.boot,
                "partitionCount": self.partitions(),
                "ownedPartitionCount": owned,
                "requestsUnderWay": self.edge.errands.len(),
                "version": env!("CARGO_PKG_VERSION"),
                "documentSelfLink": node_group::MANAGEMENT_LINK,
                "documentKind": "com:vmware:xenon:common:ServiceHost:ServiceHostState",
            }),
        ))
    }

    pub(crate) fn update_quorum(
        &mut self,
        purpose: &Purpose,
        quorum: usize,
    ) -> Result<(), Problem> {
        self.map
            .check_quorum(quorum)
            .map_err(|why| Problem::new(Code::Refused, why).with_outcome(Outcome::NotApplied))?;
        self.direct(purpose.clone(), &DirectoryCommand::SetQuorum { quorum });
        Ok(())
    }
}
