//! The cluster: which nodes there are, what the directory says, and who should own what.
//!
//! | part | what it knows |
//! |---|---|
//! | [`Topology`] | the directory's state: nodes, quorum, slots, and one table of all groups |
//! | [`DirectoryMachine`] | the directory as the machine of group 0 |
//! | `instance_entry`, `instances` | instances in that table, and how a person changes them |
//! | `instance_index` | what is found among all instances without a look at each |
//! | [`Links`] | the connections to other nodes, and who is behind each |
//! | `pulse` | how regularly another node is heard, and how long a round trip takes |
//! | `greeting` | what two nodes say when they meet, and whether they go together |
//! | [`Asking`] | nodes that ask to be let in |
//! | `leaving` | members that are being removed, or shall own nothing |
//! | [`Newcomer`] | a sandbox without a cluster: it founds one or asks to be admitted |
//! | [`Claims`] | which membership quorum counts before everybody has heard of a change |
//! | `placement` | who should own what |
//! | [`Staleness`] | how far this node's replicas may be behind |
//!
//! Nothing here decides by the time alone, and nothing here sends anything: each part says what it
//! has found out, and the node acts on it.

mod asking;
mod claim;
mod claims;
mod clock;
mod departures;
mod greeting;
mod identity;
mod instance_entry;
mod instance_index;
mod instances;
mod leaving;
mod links;
mod machine;
mod newcomer;
mod placement;
mod pulse;
mod staleness;
mod topology;
mod witness;

pub use asking::{ASKING_MAX, Asking};
pub use claim::Claim;
pub use claims::{Claims, highest_quorum};
pub use clock::{ClusterClock, OFF_MICROS_MAX};
pub use greeting::{Candidate, Health, Hello, Home, Judgement, Ping, WIRE_VERSION, judge};
pub use identity::{Identity, InitialConfig, Member, Profile, Stamp};
pub use instance_entry::{
    InstanceCommand, InstanceEntry, InstanceOptions, InstanceReplica, REPLICAS_MAX, Standing,
    unknown_instance,
};
pub use leaving::Place;
pub use links::{LINKS_MAX, Link, Links, Patience, SILENCE_MICROS_MAX};
pub use machine::{DirectoryAnswer, DirectoryChange, DirectoryMachine, Question};
pub use newcomer::{Newcomer, NewcomerWish, waits_for_a_person, waits_for_admission, who_forgot};
pub use placement::{NodeLoad, choose_nodes, order};
pub use pulse::Echo;
pub use staleness::{CommittedAt, Staleness};
pub use topology::{Change, DirectoryCommand, GroupEntry, Topology};
pub use witness::{Witnesses, has_gone_back};
