//! A node that is a cluster of its own and is to join another one. It leaves what it has, so it first looks
//! whether there is a cluster at that address, and one that it can speak with.

use protocol::node_group;
use protocol::{Code, Outcome, Problem, Response};

use crate::edge::Purpose;
use crate::frame::{Hello, Told, WIRE_VERSION};
use crate::io::{Level, Output};
use crate::node::{Node, Stage};
use crate::replicas::Touch;

/// Who has not said by then that it belongs to a cluster is not joined, in microseconds.
const LOOK_MICROS: u64 = 3_000_000;

/// So many may ask for the same at a time; one more is refused.
const ASKERS_MAX: usize = 64;

/// A look at the cluster that is to be joined.
pub(crate) struct Leaving {
    contact: String,
    since: u64,
    askers: Vec<Purpose>,
}

fn refused(why: String) -> Problem {
    Problem::new(Code::Refused, why).with_outcome(Outcome::NotApplied)
}

impl Node {
    /// It is answered when it is known whether there is a cluster to join, and before that is done. The
    /// quorum in the request means nothing, as the cluster has one.
    pub(crate) fn join_request(
        &mut self,
        purpose: &Purpose,
        reference: &str,
    ) -> Result<Option<Response>, Problem> {
        let contact = reference.trim_end_matches('/');
        let contact = contact.strip_suffix(node_group::LINK).unwrap_or(contact).to_owned();
        if !contact.starts_with("http://") || contact == self.config.public_uri {
            return Err(refused(format!(
                "memberGroupReference must be the node group of another node, such as \
                 http://127.0.0.1:8001{}, not '{reference}'",
                node_group::LINK
            )));
        }
        if self.map.members.values().any(|member| member.uri == contact) {
            return Ok(Some(self.node_group_state()));
        }
        self.check_that_it_may_leave()?;
        match &mut self.leaving {
            Some(leaving) if leaving.contact != contact || leaving.askers.len() >= ASKERS_MAX => {
                return Err(refused(format!(
                    "this node is looking whether it can join {} at the moment: try again",
                    leaving.contact
                )));
            }
            Some(leaving) => leaving.askers.push(purpose.clone()),
            None => {
                let (since, askers) = (self.now.steady_micros, vec![purpose.clone()]);
                self.leaving = Some(Leaving { contact, since, askers });
                self.dial_all();
                self.mind_leaving();
            }
        }
        Ok(None)
    }

    fn check_that_it_may_leave(&mut self) -> Result<(), Problem> {
        if self.is_stopping() {
            return Err(refused("this node is stopping".into()));
        }
        if self.map.size() > 1 {
            return Err(refused(format!(
                "this node belongs to a cluster of {} nodes already; start one with an empty \
                 --sandbox to join another cluster",
                self.map.size()
            )));
        }
        let (documents, instances) = (self.document_count(), self.map.registry.instances.len());
        if documents > 0 || instances > 0 {
            return Err(refused(format!(
                "this node has {documents} documents and {instances} immortals of its own, which \
                 would be lost by joining. Move them first, or start it with an empty --sandbox. \
                 Nothing was changed"
            )));
        }
        Ok(())
    }

    fn document_count(&mut self) -> u64 {
        let mut count = 0;
        self.replicas.each(|replica| {
            count += replica.partition().map_or(0, |partition| partition.document_count());
            Touch::Still
        });
        count
    }

    /// The address that is looked at, if no link to it is wanted for another reason.
    pub(crate) fn looked_at(&self) -> Option<&str> {
        let contact = self.leaving.as_ref()?.contact.as_str();
        let usual = self.usual_addresses();
        (!usual.iter().any(|address| address == contact)).then_some(contact)
    }

    /// Over such a link this node does not say who it is: it belongs to another cluster yet, and would be
    /// refused for that.
    pub(crate) fn only_looks(&self, link: u64) -> bool {
        let dialed = self.peers.get(link).and_then(|link| link.dialed.as_deref());
        dialed.is_some() && dialed == self.looked_at()
    }

    /// Who is there has said who it is.
    pub(crate) fn looked(&mut self, hello: &Hello) {
        let Some(leaving) = &self.leaving else { return };
        let (contact, node) = (&leaving.contact, &hello.node_id);
        if hello.wire_version != WIRE_VERSION {
            self.stay(format!(
                "node '{node}' at {contact} speaks version {} of the peers' protocol, this one version \
                 {WIRE_VERSION}: run the same release on all nodes",
                hello.wire_version
            ));
        } else if hello.sandbox_id == self.config.sandbox_id {
            self.stay(format!("{contact} is this very node: name a node of the other cluster"));
        } else if hello.node_id == self.config.node_id {
            self.stay(format!(
                "the node at {contact} is called '{node}' as this one is: start this one with another \
                 --id and an empty --sandbox"
            ));
        } else if hello.cluster.is_none() {
            self.stay(format!(
                "node '{node}' at {contact} belongs to no cluster yet: wait until that has formed, or \
                 name a node of one that serves"
            ));
        } else {
            self.leave();
        }
    }

    /// A link that was there before may have told already; and at some time it is too late.
    pub(crate) fn mind_leaving(&mut self) {
        let Some(Leaving { contact, since, .. }) = &self.leaving else { return };
        let dialed = |link: u64| self.peers.get(link).and_then(|link| link.dialed.as_ref());
        let there = self
            .peers
            .hellos()
            .find(|(link, hello)| hello.cluster.is_some() && dialed(*link) == Some(contact))
            .map(|(_, hello)| hello.clone());
        if let Some(hello) = there {
            self.looked(&hello);
        } else if self.now.steady_micros.saturating_sub(*since) > LOOK_MICROS {
            self.stay(format!(
                "no node of a cluster answers at {contact}. Start it, see that it can be reached from \
                 here and is of the same release, or name another one, and ask again"
            ));
        }
    }

    fn stay(&mut self, why: String) {
        let Some(leaving) = self.leaving.take() else { return };
        self.dial_all();
        let problem = refused(format!("{why}. Nothing was changed"));
        self.note(Level::Warn, format!("did not join: {}", problem.message));
        for asker in leaving.askers {
            self.finish(&asker, Told::Response(problem.clone().into()));
        }
    }

    fn leave(&mut self) {
        // Something may have been written while it looked.
        let may = self.check_that_it_may_leave();
        let Some(Leaving { contact, askers, .. }) = self.leaving.take() else { return };
        for asker in askers {
            let answer = match &may {
                Ok(()) => Response::bytes(200, bytes::Bytes::new()),
                Err(problem) => problem.clone().into(),
            };
            self.finish(&asker, Told::Response(answer));
        }
        if may.is_err() {
            return self.dial_all();
        }
        self.note(Level::Info, format!("leaving the cluster of one to join {contact}"));
        self.stage = Stage::Ended;
        self.outputs.push(Output::Rejoin { contact });
    }
}
