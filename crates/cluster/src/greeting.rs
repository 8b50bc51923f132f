//! What two nodes say when they meet, and whether they go together.

use protocol::{Address, Moment, ReplicaId};
use serde::{Deserialize, Serialize};
use storage::Witness;

use crate::claim::Claim;
use crate::identity::{Member, Profile};
use crate::pulse::Echo;
use crate::staleness::CommittedAt;

/// Raised when a frame between nodes changes so that an older node could not read it.
pub const WIRE_VERSION: u32 = 16;

/// The first thing on each link, from both ends: who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub wire_version: u32,
    pub node_id: String,
    pub uri: String,
    pub sandbox_id: u64,
    /// Which start of the sandbox it is, and what the log had then.
    pub start: Witness,
    /// At this start a person said that it has all that it promised, whatever others remember of
    /// earlier ones; 0 if nobody did.
    pub trusted_boot: u64,
    /// What it cannot prove to have any more, if it is a newcomer for that reason.
    pub forgot: Option<String>,
    /// `None` until it has one.
    pub replica: Option<ReplicaId>,
    /// The cluster that its sandbox belongs to, if it has a replica id there.
    pub cluster: Option<u64>,
    /// A digest of its list of peers, to be equal on all while a cluster forms.
    pub peers_digest: u64,
    /// The partitions that it would form a cluster with.
    pub partitions: u32,
    /// The factories of the services that its program has, in order.
    pub services: Vec<String>,
}

/// A node that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub node_id: String,
    pub uri: String,
    pub sandbox_id: u64,
}

/// The longest name and address of a node that asks, in bytes.
const CANDIDATE_BYTES_MAX: usize = 320;

impl Candidate {
    /// Whether its name and its address are such as a node has: people will read them.
    pub fn is_plain(&self) -> bool {
        let Self { node_id, uri, .. } = self;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !node_id.is_empty()
            && node_id.len() + uri.len() <= CANDIDATE_BYTES_MAX
            && node_id.chars().all(is_name)
            && uri.chars().all(|c| c.is_ascii_graphic())
            && Address::parse(uri).is_ok()
    }

    /// Whether it has the name or the address of that member.
    pub fn is_like(&self, member: &Member) -> bool {
        self.node_id == member.node_id || self.uri == member.uri
    }
}

/// How a node is, as far as others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Its disk does.
    pub takes_writes: bool,
    /// Its disk is so slow, or its clock so far off, that others should own what they can, or it
    /// lacks services that others have.
    pub is_unfit: bool,
    /// The state of some group there was wrong and is being filled anew.
    pub is_filled: bool,
    /// How many groups there have members that they should not have any more.
    pub shedding: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { takes_writes: true, is_unfit: false, is_filled: false, shedding: 0 }
    }
}

/// What is said to all others now and then, and when it changes in a way that they must hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    pub health: Health,
    /// What its own clock shows.
    pub wall: Moment,
    /// About the membership quorum.
    pub claim: Claim,
    /// How many frames of its log are durable.
    pub frames: u64,
    /// Of the groups that it owns.
    pub committed: Vec<CommittedAt>,
    /// When it was sent, in steady microseconds of the sender.
    pub sent: u64,
    /// Of the last ping that came over the same link.
    pub echo: Option<Echo>,
}

/// What a node knows of its own place when it meets another one.
pub struct Home<'a> {
    pub profile: &'a Profile,
    /// The cluster that this sandbox belongs to.
    pub cluster: Option<u64>,
    /// The cluster's directory has an owner, as far as is known here.
    pub is_served: bool,
    /// Whether a sandbox belongs to a member of the cluster.
    pub knows: &'a dyn Fn(u64) -> bool,
}

/// What becomes of a link after the greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Welcome,
    /// The other end is this very node.
    Itself,
    /// The other end is told why, and the link is closed.
    Refuse(String),
    /// This node must end; the text says why.
    Yield(String),
    /// The link is closed, and people are told why.
    Leave(String),
}

impl Hello {
    pub fn new(profile: &Profile, replica: Option<ReplicaId>, cluster: Option<u64>) -> Self {
        Self {
            wire_version: WIRE_VERSION,
            node_id: profile.node_id.clone(),
            uri: profile.uri.clone(),
            sandbox_id: profile.sandbox_id,
            start: profile.start,
            trusted_boot: profile.trusted_boot,
            forgot: profile.forgot.clone().filter(|_| replica.is_none()),
            replica,
            cluster,
            peers_digest: profile.peers_digest(),
            partitions: profile.partitions,
            services: profile.services.clone(),
        }
    }
}

/// Whether this node and the one that has just said hello go together.
pub fn judge(home: &Home<'_>, hello: &Hello) -> Judgement {
    let profile = home.profile;
    if hello.wire_version != WIRE_VERSION {
        return Judgement::Refuse(format!(
            "node {} speaks version {} of the peers' protocol, this one version {WIRE_VERSION}: \
             run the same release on all nodes",
            hello.node_id, hello.wire_version
        ));
    }
    if hello.sandbox_id == profile.sandbox_id {
        return Judgement::Itself;
    }
    // A former life of this node has the same name and the same address.
    if hello.node_id == profile.node_id && hello.uri != profile.uri {
        return judge_twin(home, hello);
    }
    if home.cluster.is_some() && hello.cluster.is_some() && home.cluster != hello.cluster {
        return judge_foreigner(home, hello);
    }
    Judgement::Welcome
}

/// Another node has this one's name. The one that the cluster knows stays; of two newcomers, the
/// one with the lower address.
fn judge_twin(home: &Home<'_>, hello: &Hello) -> Judgement {
    let profile = home.profile;
    let (mine, theirs) = ((home.knows)(profile.sandbox_id), (home.knows)(hello.sandbox_id));
    let why = |one: &str, other: &str| {
        format!(
            "two nodes are called '{}': the one at {one} and the one at {other}; give each its own \
             --id",
            hello.node_id
        )
    };
    if theirs || (!mine && profile.uri > hello.uri) {
        Judgement::Yield(why(&profile.uri, &hello.uri))
    } else {
        Judgement::Refuse(why(&hello.uri, &profile.uri))
    }
}

/// The other node belongs to another cluster. The one that is at home, with a working cluster round
/// it, stays.
fn judge_foreigner(home: &Home<'_>, hello: &Hello) -> Judgement {
    let why = |node: &str, uri: &str| {
        format!(
            "the sandbox of node '{node}' at {uri} belongs to another cluster: start it with the \
             peers it belongs to, or with an empty --sandbox to join this one"
        )
    };
    if home.is_served {
        return Judgement::Refuse(why(&hello.node_id, &hello.uri));
    }
    let text = why(&home.profile.node_id, &home.profile.uri);
    Judgement::Leave(format!("{text} (met at {})", hello.uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: &str, port: u16, sandbox_id: u64) -> Profile {
        Profile {
            node_id: id.into(),
            uri: format!("http://127.0.0.1:{port}"),
            sandbox_id,
            start: Witness::default(),
            trusted_boot: 0,
            forgot: None,
            peers: Vec::new(),
            partitions: 4,
            join: None,
            services: Vec::new(),
        }
    }

    /// What `me` thinks of `other`, where the cluster knows the sandboxes of `known`.
    fn met(me: (&str, u16, u64), other: (&str, u16, u64), known: &[u64]) -> Judgement {
        let profile_of = |(id, port, sandbox): (&str, u16, u64)| profile(id, port, sandbox);
        let (mine, theirs) = (profile_of(me), profile_of(other));
        let knows = |sandbox| known.contains(&sandbox);
        let home = Home { profile: &mine, cluster: Some(1), is_served: true, knows: &knows };
        judge(&home, &Hello::new(&theirs, None, None))
    }

    #[test]
    fn of_two_nodes_with_one_name_the_known_one_stays() {
        assert_eq!(met(("n1", 1, 1), ("n2", 2, 2), &[]), Judgement::Welcome);
        assert_eq!(met(("n1", 1, 1), ("n1", 1, 1), &[]), Judgement::Itself);
        assert_eq!(met(("n1", 1, 1), ("n1", 1, 9), &[1]), Judgement::Welcome, "a former life");
        assert!(matches!(met(("n1", 1, 1), ("n1", 2, 2), &[1]), Judgement::Refuse(_)));
        assert!(matches!(met(("n1", 1, 1), ("n1", 2, 2), &[2]), Judgement::Yield(_)));
        assert!(matches!(met(("n1", 2, 1), ("n1", 1, 2), &[]), Judgement::Yield(_)));
        assert!(matches!(met(("n1", 1, 1), ("n1", 2, 2), &[]), Judgement::Refuse(_)));
    }

    #[test]
    fn who_asks_has_a_name_and_an_address_that_can_be_shown() {
        let plain = |node_id: &str, uri: &str| {
            let (node_id, uri) = (node_id.to_owned(), uri.to_owned());
            Candidate { node_id, uri, sandbox_id: 1 }.is_plain()
        };
        assert!(plain("n-1_a.b", "http://10.0.0.1:8000"));
        assert!(!plain("", "http://10.0.0.1:8000") && !plain("n1", "no address"));
        assert!(!plain("n1\u{1b}[31m", "http://10.0.0.1:8000"));
        assert!(!plain(&"n".repeat(400), "http://10.0.0.1:8000"));
    }

    #[test]
    fn nodes_of_two_clusters_do_not_go_together() {
        let (mine, theirs) = (profile("n1", 1, 1), profile("n2", 2, 2));
        let knows = |_| true;
        let judged = |is_served, cluster| {
            let home = Home { profile: &mine, cluster: Some(1), is_served, knows: &knows };
            judge(&home, &Hello::new(&theirs, Some(ReplicaId(2)), cluster))
        };
        assert_eq!(judged(true, Some(1)), Judgement::Welcome);
        assert_eq!(judged(true, None), Judgement::Welcome);
        assert!(matches!(judged(true, Some(2)), Judgement::Refuse(_)));
        assert!(matches!(judged(false, Some(2)), Judgement::Leave(_)));
    }

    #[test]
    fn another_version_of_the_protocol_is_refused_with_both_numbers() {
        let (mine, theirs) = (profile("n1", 1, 1), profile("n2", 2, 2));
        let knows = |_| false;
        let home = Home { profile: &mine, cluster: None, is_served: false, knows: &knows };
        let hello = Hello { wire_version: 3, ..Hello::new(&theirs, None, None) };
        let Judgement::Refuse(why) = judge(&home, &hello) else { panic!("it cannot be read") };
        assert!(why.contains("version 3") && why.contains(&format!("version {WIRE_VERSION}")));
    }
}
