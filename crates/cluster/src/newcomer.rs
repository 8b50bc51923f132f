//! A sandbox that belongs to no cluster so far.
//!
//! It takes no part in anything until it is known what it is: a founder, when all named peers are
//! new as well or the cluster still waits for it; a candidate for admission, when the cluster knows
//! the node but not its sandbox. So a node whose disk was lost can never vote with an empty memory
//! in the name of its former self.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ReplicaId;

use crate::greeting::{Candidate, Hello};
use crate::identity::{Identity, InitialConfig, Member, Profile};
use crate::links::Links;

/// What a newcomer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewcomerWish {
    /// It waits for enough others to form a cluster with.
    Form,
    /// It waits to be admitted to a cluster.
    Join,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    wish: NewcomerWish,
    /// A person is to say whether it may come in.
    is_listed: bool,
}

impl Newcomer {
    pub fn new(profile: &Profile) -> Self {
        let wish = if profile.join.is_some() { NewcomerWish::Join } else { NewcomerWish::Form };
        Self { wish, is_listed: false }
    }

    pub fn wish(&self) -> NewcomerWish {
        self.wish
    }

    /// A cluster does not know this sandbox. True when that is news.
    pub fn is_stranger(&mut self) -> bool {
        std::mem::replace(&mut self.wish, NewcomerWish::Join) == NewcomerWish::Form
    }

    /// A member has listed it among those who ask. True when that is news.
    pub fn is_listed(&mut self) -> bool {
        !std::mem::replace(&mut self.is_listed, true)
    }

    pub fn waits_for_a_person(&self) -> bool {
        self.is_listed
    }

    /// A new cluster begins when all named peers are there with the same list, and none of them
    /// knows of a cluster. A majority is not enough: a founder whose disk was lost looks new, and
    /// with one that was never started it would begin a second cluster, with nothing in it.
    pub fn found(&self, profile: &Profile, links: &Links) -> Option<Identity> {
        if self.wish != NewcomerWish::Form
            || links.hellos().any(|(_, hello)| hello.cluster.is_some())
        {
            return None;
        }
        let founders = founders(profile, links)?;
        let mine = |member: &Member| member.sandbox_id == profile.sandbox_id;
        let me = founders.iter().find(|(_, member)| mine(member)).map(|(id, _)| *id);
        let replica = me.expect("this node is one of those that are there");
        Some(Identity { replica, initial: InitialConfig::new(profile.partitions, founders) })
    }

    /// The link to a node that belongs to a cluster, to ask for admission over it.
    pub fn a_member(links: &Links) -> Option<u64> {
        let member = links.hellos().find(|(_, hello)| hello.cluster.is_some());
        member.map(|(link, _)| link)
    }

    pub fn candidate(profile: &Profile) -> Candidate {
        Candidate {
            node_id: profile.node_id.clone(),
            uri: profile.uri.clone(),
            sandbox_id: profile.sandbox_id,
        }
    }

    /// What it waits for, for people.
    pub fn waits_for(&self, profile: &Profile, links: &Links) -> Option<String> {
        match self.wish {
            NewcomerWish::Form => Some(missing(profile, links)),
            NewcomerWish::Join if profile.forgot.is_some() => {
                let own = profile.forgot.iter().map(|why| (profile.node_id.as_str(), why.as_str()));
                let all: Vec<_> = own.chain(who_forgot(links)).collect();
                Some(waits_for_admission(&all))
            }
            NewcomerWish::Join if Self::a_member(links).is_some() => {
                self.is_listed.then(|| waits_for_a_person(&profile.node_id))
            }
            NewcomerWish::Join => {
                let whom = profile.join.clone().unwrap_or_else(|| profile.peers.join(", "));
                Some(format!(
                    "this node is to join the cluster of {whom}, and no node of that cluster is \
                     reached: start it, or name another one with a JoinPeerRequest"
                ))
            }
        }
    }

    /// The same in a few words, for an answer.
    pub fn why_not_serving(&self, links: &Links) -> &'static str {
        match self.wish {
            NewcomerWish::Form => "it waits for all nodes named by --peer-nodes",
            NewcomerWish::Join if Self::a_member(links).is_none() => {
                "it is to join another one and has reached no node of that"
            }
            NewcomerWish::Join if self.is_listed => {
                "it asks to be let in, and waits for a person: `amrita admit` on a node of the \
                 cluster"
            }
            NewcomerWish::Join => "it has asked to be admitted",
        }
    }
}

/// What a node waits for that asks to be let in, for people.
pub fn waits_for_a_person(node_id: &str) -> String {
    format!(
        "this node asks to join the cluster, and waits until a person lets it in: on a node of the \
         cluster, `amrita admit {node_id}` (if it is a member that has lost its sandbox, it is let in \
         after two minutes, too)"
    )
}

/// The nodes that said why they cannot prove to have what they promised.
pub fn who_forgot(links: &Links) -> impl Iterator<Item = (&str, &str)> {
    links.hellos().filter_map(|(_, hello)| Some((hello.node_id.as_str(), hello.forgot.as_deref()?)))
}

/// What such nodes wait for, for people.
pub fn waits_for_admission(forgot: &[(&str, &str)]) -> String {
    let named: BTreeSet<String> = forgot.iter().map(|(id, why)| format!("{id} ({why})")).collect();
    let named: Vec<String> = named.into_iter().collect();
    format!(
        "these nodes cannot prove that they still have what they promised, and take part again when \
         the others have admitted them: {}. If those that are left are no majority, nothing is read \
         or written until a person decides. Nothing was deleted: bring back the sandboxes as they \
         were, or start a node with --trust-sandbox on what it has; see 'Nodes that forgot' in \
         docs/operations.md",
        named.join(", ")
    )
}

/// All named peers with their sandboxes, each by its place in the list. `None` as long as one is
/// missing, or seems to have two sandboxes: the link to its former life is still to break then.
fn founders(profile: &Profile, links: &Links) -> Option<BTreeMap<ReplicaId, Member>> {
    let mine = Hello::new(profile, None, None);
    let fits = |hello: &&Hello| {
        hello.peers_digest == mine.peers_digest && hello.partitions == mine.partitions
    };
    let present = || links.hellos().map(|(_, hello)| hello).filter(fits).chain([&mine]);
    let mut uris = profile.founder_uris();
    if uris.is_empty() {
        uris.push(mine.uri.clone());
    }
    let mut founders = BTreeMap::new();
    for (id, uri) in (1..).map(ReplicaId).zip(uris) {
        let first = present().find(|hello| hello.uri == uri)?;
        if present().any(|hello| hello.uri == uri && hello.sandbox_id != first.sandbox_id) {
            return None;
        }
        let Hello { node_id, uri, sandbox_id, .. } = first.clone();
        founders.insert(id, Member { node_id, uri, sandbox_id });
    }
    Some(founders)
}

/// Which of the named peers a new cluster waits for.
fn missing(profile: &Profile, links: &Links) -> String {
    let digest = profile.peers_digest();
    let fits =
        |hello: &Hello| hello.peers_digest == digest && hello.partitions == profile.partitions;
    if let Some((_, odd)) = links.hellos().find(|(_, hello)| !fits(hello)) {
        return format!(
            "node '{}' was started with another --peer-nodes or --partitions than this one; no \
             cluster can form with it",
            odd.node_id
        );
    }
    let mut missing = profile.founder_uris();
    missing.retain(|uri| *uri != profile.uri);
    for (_, hello) in links.hellos() {
        missing.retain(|uri| *uri != hello.uri);
    }
    format!("a new cluster forms when all named peers are there; missing: {}", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use storage::Witness;

    use super::*;

    fn profile(number: u64) -> Profile {
        Profile {
            node_id: format!("n{number}"),
            uri: format!("http://n{number}"),
            sandbox_id: number,
            start: Witness::default(),
            trusted_boot: 0,
            forgot: None,
            peers: (1..=3).map(|number| format!("http://n{number}")).collect(),
            partitions: 4,
            join: None,
            services: Vec::new(),
        }
    }

    fn links(hellos: &[Hello]) -> Links {
        let mut links = Links::default();
        for (id, hello) in (1..).zip(hellos) {
            links.opened(id, None, 0);
            links.get_mut(id).expect("it was opened").hello = Some(hello.clone());
        }
        links
    }

    fn hello(number: u64) -> Hello {
        Hello::new(&profile(number), None, None)
    }

    #[test]
    fn a_cluster_is_founded_by_all_named_peers_and_by_no_majority() {
        let (me, newcomer) = (profile(1), Newcomer::new(&profile(1)));
        assert_eq!(newcomer.found(&me, &links(&[hello(2)])), None);
        let identity = newcomer.found(&me, &links(&[hello(3), hello(2)])).expect("all are there");
        assert_eq!(identity.replica, ReplicaId(1));
        let other = Newcomer::new(&profile(3));
        let same = other.found(&profile(3), &links(&[hello(1), hello(2)])).expect("all are there");
        assert_eq!((same.replica, same.initial), (ReplicaId(3), identity.initial));
    }

    #[test]
    fn a_newcomer_founds_nothing_beside_a_cluster_that_is_there() {
        let member = Hello { cluster: Some(7), ..hello(3) };
        let (me, newcomer) = (profile(1), Newcomer::new(&profile(1)));
        assert_eq!(newcomer.found(&me, &links(&[hello(2), member])), None);
    }

    #[test]
    fn a_peer_with_two_sandboxes_or_another_list_is_waited_for() {
        let (me, newcomer) = (profile(1), Newcomer::new(&profile(1)));
        let former = Hello { sandbox_id: 99, ..hello(2) };
        assert_eq!(newcomer.found(&me, &links(&[hello(2), hello(3), former])), None);
        let odd = Hello { partitions: 8, ..hello(3) };
        assert_eq!(newcomer.found(&me, &links(&[hello(2), odd.clone()])), None);
        let said = newcomer.waits_for(&me, &links(&[hello(2), odd])).expect("it waits");
        assert!(said.contains("'n3'"), "{said}");
    }

    #[test]
    fn who_is_listed_says_what_it_waits_for() {
        let member = Hello { cluster: Some(7), ..hello(3) };
        let (me, mut newcomer) = (profile(1), Newcomer::new(&profile(1)));
        newcomer.is_stranger();
        let links = links(&[member]);
        assert_eq!(newcomer.waits_for(&me, &links), None, "it will be told soon");
        assert!(newcomer.is_listed() && !newcomer.is_listed());
        let said = newcomer.waits_for(&me, &links).expect("it waits for a person");
        assert!(said.contains("amrita admit n1"), "{said}");
    }

    #[test]
    fn a_stranger_asks_to_be_admitted_from_then_on() {
        let mut newcomer = Newcomer::new(&profile(1));
        assert!(newcomer.is_stranger() && !newcomer.is_stranger());
        assert_eq!(newcomer.wish(), NewcomerWish::Join);
        assert_eq!(newcomer.found(&profile(1), &links(&[hello(2), hello(3)])), None);
    }
}
