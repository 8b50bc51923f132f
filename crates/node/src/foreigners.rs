//! Nodes that do not go together with this one, and a node that has begun a cluster of its own
//! although another cluster misses it: its disk was lost, and it was started without a list of its
//! peers.
//!
//! The members of that cluster dial the node's address. It does not know what they know; so, as
//! long as it has nothing that could be lost, it leaves their links open and waits for their word.
//! `Frame::Stranger` says that they miss it. It does then what a `JoinPeerRequest` has it do: it
//! puts its sandbox aside and asks to be let in, and as it has the name and the address of a member
//! which is down, it comes in by itself.

use cluster::{Hello, Judgement, WIRE_VERSION};

use crate::frame::Frame;
use crate::io::{Level, Output};
use crate::joining::check_that_it_may_leave;
use crate::member::Member;
use crate::membership::{Fate, Host, view};
use crate::view::View;

impl Member {
    /// Does with a link what was judged of the node at its other end, who is not welcome.
    pub(crate) fn turn_away(
        &mut self,
        link: u64,
        hello: &Hello,
        judgement: Judgement,
        host: &mut Host<'_>,
    ) {
        match judgement {
            Judgement::Welcome => {}
            Judgement::Itself => host.effects.outputs.push(Output::Close { link }),
            Judgement::Yield(why) => host.effects.halt(why),
            Judgement::Refuse(_) | Judgement::Leave(_) if self.may_be_missed(link, hello, host) => {
                if let Some(link) = host.links.get_mut(link) {
                    link.foreign = Some(hello.uri.clone());
                }
            }
            Judgement::Refuse(why) => {
                if self.misses(hello, host) {
                    host.effects.outbox.send_on(link, Frame::Stranger);
                }
                host.effects.refuse(link, why);
            }
            Judgement::Leave(why) => {
                host.effects.outputs.push(Output::Close { link });
                host.effects.note(Level::Warn, why);
            }
        }
    }

    /// Whether it may be a member of the other node's cluster, and nothing of this one would be
    /// lost. The other one has dialed it: of two that dial each other, one ends the link.
    fn may_be_missed(&self, link: u64, hello: &Hello, host: &Host<'_>) -> bool {
        let own = self.membership.control.initial.cluster;
        let is_dialed = host.links.get(link).is_none_or(|link| link.dialed.is_some());
        hello.wire_version == WIRE_VERSION
            && hello.cluster.is_some_and(|cluster| cluster != own)
            && hello.node_id != host.config.node_id
            && !is_dialed
            && self.joining.is_none()
            && check_that_it_may_leave(&view!(self.membership, host, self.router.len())).is_ok()
    }

    /// Whether that node has the name and the address of a member which is down.
    fn misses(&self, hello: &Hello, host: &Host<'_>) -> bool {
        let control = &self.membership.control;
        let topology = &control.map.topology;
        hello.wire_version == WIRE_VERSION
            && topology.members().iter().any(|(id, member)| {
                member.node_id == hello.node_id
                    && member.uri == hello.uri
                    && !topology.is_leaving(*id)
                    && !control.is_up(*id, host.links, host.now)
            })
    }

    /// A node of another cluster says that this one is missed there.
    pub(crate) fn is_missed(&mut self, link: u64, host: &mut Host<'_>) -> Fate {
        let foreign = host.links.get(link).and_then(|link| link.foreign.clone());
        let Some(contact) = foreign else { return Fate::GoesOn };
        // Something may have been written since.
        if let Err(problem) =
            check_that_it_may_leave(&view!(self.membership, host, self.router.len()))
        {
            let text = format!(
                "the cluster of {contact} lists this node, which is a second cluster at its address \
                 now: {}",
                problem.message
            );
            host.effects.note(Level::Error, text);
            return Fate::GoesOn;
        }
        let text = format!(
            "the cluster of {contact} lists node '{}' at {}, and there is nothing in this sandbox: \
             its disk was lost. It began a cluster of its own, as it was started without \
             --peer-nodes. It leaves that and asks to be filled. Start it with --peer-nodes from \
             now on",
            host.config.node_id, host.config.public_uri
        );
        host.effects.note(Level::Error, text);
        host.effects.outputs.push(Output::Rejoin { contact });
        Fate::Ended
    }
}
