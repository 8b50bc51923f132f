//! A node that is a cluster of its own and is to join another one. The node gives up what it has,
//! so it first looks whether there is a cluster at that address, and whether it can speak with it.

use cluster::{Hello, Links, Profile, WIRE_VERSION};
use protocol::{Code, Outcome, Problem};

use crate::view::View;
use crate::work::{Effects, Purpose};

/// How long the other node may take to say that it belongs to a cluster, in microseconds. After
/// that it is not joined.
const LOOK_MICROS: u64 = 3_000_000;

/// How many requests to join the same cluster may wait at a time; one more is refused.
const ASKERS_MAX: usize = 64;

/// A look at the cluster that is to be joined.
pub(crate) struct Joining {
    contact: String,
    since: u64,
    askers: Vec<Purpose>,
}

/// What a look has shown.
pub(crate) enum Found {
    /// Nobody has said anything so far.
    Nothing,
    /// It cannot be joined; the text says why.
    Impossible(String),
    Cluster,
}

fn refused(why: String) -> Problem {
    Problem::new(Code::Refused, why).with_outcome(Outcome::NotApplied)
}

/// # Errors
/// Why this node must stay in its cluster.
pub(crate) fn check_that_it_may_leave(view: &View<'_>) -> Result<(), Problem> {
    if view.is_stopping {
        return Err(refused("this node is stopping".into()));
    }
    let size = view.topology().size();
    if size > 1 {
        return Err(refused(format!(
            "this node belongs to a cluster of {size} nodes already; start one with an empty \
             --sandbox to join another cluster"
        )));
    }
    let counts = view.shard.partitions.values().map(|it| it.machine().partition().document_count());
    let (documents, instances): (u64, usize) = (counts.sum(), view.topology().instance_count());
    if documents > 0 || instances > 0 {
        return Err(refused(format!(
            "this node has {documents} documents and {instances} immortals of its own, which would \
             be lost by joining. Move them first, or start it with an empty --sandbox. Nothing was \
             changed"
        )));
    }
    Ok(())
}

impl Joining {
    pub(crate) fn new(contact: String, since: u64, asker: Purpose) -> Self {
        Self { contact, since, askers: vec![asker] }
    }

    pub(crate) fn contact(&self) -> &str {
        &self.contact
    }

    /// Another request asks to join the same cluster.
    ///
    /// # Errors
    /// When it is another cluster, or when too many ask.
    pub(crate) fn add(&mut self, contact: &str, asker: Purpose) -> Result<(), Problem> {
        if self.contact != contact || self.askers.len() >= ASKERS_MAX {
            return Err(refused(format!(
                "this node is looking whether it can join {} at the moment: try again",
                self.contact
            )));
        }
        self.askers.push(asker);
        Ok(())
    }

    /// The node at the other end has said who it is.
    pub(crate) fn looked(&self, hello: &Hello, profile: &Profile) -> Found {
        let (contact, node) = (&self.contact, &hello.node_id);
        if hello.wire_version != WIRE_VERSION {
            return Found::Impossible(format!(
                "node '{node}' at {contact} speaks version {} of the peers' protocol, this one \
                 version {WIRE_VERSION}: run the same release on all nodes",
                hello.wire_version
            ));
        }
        if hello.sandbox_id == profile.sandbox_id {
            return Found::Impossible(format!(
                "{contact} is this very node: name a node of the other cluster"
            ));
        }
        if hello.node_id == profile.node_id {
            return Found::Impossible(format!(
                "the node at {contact} is called '{node}' as this one is: start this one with \
                 another --id and an empty --sandbox"
            ));
        }
        if hello.cluster.is_none() {
            return Found::Impossible(format!(
                "node '{node}' at {contact} belongs to no cluster yet: wait until that has formed, \
                 or name a node of one that serves"
            ));
        }
        Found::Cluster
    }

    /// What is known so far: a link that was there before may have told already, or it may be too
    /// late.
    pub(crate) fn look(&self, links: &Links, profile: &Profile, now: u64) -> Found {
        let dialed = |link: u64| links.get(link).and_then(|link| link.dialed.as_ref());
        let there = links
            .hellos()
            .find(|(link, hello)| hello.cluster.is_some() && dialed(*link) == Some(&self.contact));
        if let Some((_, hello)) = there {
            return self.looked(hello, profile);
        }
        if now.saturating_sub(self.since) <= LOOK_MICROS {
            return Found::Nothing;
        }
        Found::Impossible(format!(
            "no node of a cluster answers at {}. Start it, see that it can be reached from here and \
             is of the same release, or name another one, and ask again",
            self.contact
        ))
    }

    /// Answers those who have asked.
    pub(crate) fn answer(self, outcome: &Result<(), Problem>, effects: &mut Effects) {
        for asker in &self.askers {
            match outcome {
                Ok(()) => {
                    effects.respond(asker, protocol::Response::bytes(200, bytes::Bytes::new()));
                }
                Err(problem) => effects.respond(asker, problem.clone()),
            }
        }
    }

    /// Why the node stays where it is.
    pub(crate) fn stays(why: &str) -> Problem {
        refused(format!("{why}. Nothing was changed"))
    }
}
