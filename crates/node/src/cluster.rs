//! How a cluster forms, and how a node comes into it: who is behind a link, who may stay, and which
//! replica id a sandbox has.
//!
//! A sandbox that is new takes no part in anything until it is known what it is: a founder, when
//! all named peers are new as well or the cluster still waits for it; a newcomer, when
//! the cluster knows the node but not its sandbox. So a node whose disk was lost can never vote
//! with an empty memory in the name of its former self.

use std::collections::BTreeMap;

use protocol::{GroupId, ReplicaId};

use crate::directory::{Changed, Charter, DirectoryCommand, Member};
use crate::edge::{Purpose, fnv};
use crate::frame::{Frame, Hello, Newcomer, Question, WIRE_VERSION};
use crate::io::{Level, Output};
use crate::node::{Node, Stage};

impl Node {
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            wire_version: WIRE_VERSION,
            node_id: self.config.node_id.clone(),
            uri: self.config.public_uri.clone(),
            sandbox_id: self.config.sandbox_id,
            boot: self.config.boot,
            replica: self.me,
            cluster: self.charter().map(|charter| charter.cluster),
            peers_digest: self.peers_digest(),
            partitions: self.config.partitions,
        }
    }

    fn peers_digest(&self) -> u64 {
        fnv(self.founder_uris().iter().map(|uri| uri.as_bytes()))
    }

    /// The named peers in an order that is the same on all of them.
    fn founder_uris(&self) -> Vec<String> {
        let mut uris = self.config.peers.clone();
        uris.sort_unstable();
        uris.dedup();
        uris
    }

    /// Tells all links who this is, when that has changed.
    pub(crate) fn greet_all(&mut self) {
        for link in self.peers.ids() {
            self.outbox.send_on(link, Frame::Hello(self.hello()));
        }
    }

    /// Somebody says who it is.
    pub(crate) fn greeted(&mut self, link: u64, hello: Hello) {
        if self.only_looks(link) {
            return self.looked(&hello);
        }
        if hello.wire_version != WIRE_VERSION {
            let why = format!(
                "node {} speaks version {} of the peers' protocol, this one version {WIRE_VERSION}: \
                 run the same release on all nodes",
                hello.node_id, hello.wire_version
            );
            return self.refuse(link, why);
        }
        if hello.sandbox_id == self.config.sandbox_id {
            self.outputs.push(Output::Close { link });
            return;
        }
        if hello.node_id == self.config.node_id && !self.is_former_self(&hello) {
            return self.met_a_twin(link, &hello);
        }
        let mine = self.charter().map(|charter| charter.cluster);
        if mine.is_some() && hello.cluster.is_some() && mine != hello.cluster {
            return self.met_another_cluster(link, &hello);
        }
        for outdated in self.peers.outdated_by(&hello) {
            self.link_closed(outdated);
            self.outputs.push(Output::Close { link: outdated });
        }
        self.identify(link, &hello);
        if let Some(link) = self.peers.get_mut(link) {
            link.hello = Some(hello);
        }
        if matches!(self.stage, Stage::Forming) {
            self.try_to_form();
        }
        self.mind_directory();
        self.edge_is_stale();
    }

    /// A record of this node's own former life is no twin.
    fn is_former_self(&self, hello: &Hello) -> bool {
        hello.uri == self.config.public_uri
    }

    fn met_a_twin(&mut self, link: u64, hello: &Hello) {
        let known = |sandbox| self.map.replica_of(sandbox).is_some();
        let (mine, theirs) = (known(self.config.sandbox_id), known(hello.sandbox_id));
        let why = |me: &str, other: &str| {
            format!(
                "two nodes are called '{}': the one at {me} and the one at {other}; give each its \
                 own --id",
                hello.node_id
            )
        };
        let yield_to_them = theirs || (!mine && self.config.public_uri > hello.uri);
        if yield_to_them {
            self.halt(why(&self.config.public_uri, &hello.uri));
        } else {
            self.refuse(link, why(&hello.uri, &self.config.public_uri));
        }
    }

    fn met_another_cluster(&mut self, link: u64, hello: &Hello) {
        let why = |node: &str, uri: &str| {
            format!(
                "the sandbox of node '{node}' at {uri} belongs to another cluster: start it with \
                 the peers it belongs to, or with an empty --sandbox to join this one"
            )
        };
        // The one that is at home, with a working cluster round it, stays.
        let at_home = self.owner_of(GroupId::DIRECTORY).is_some();
        if at_home {
            self.refuse(link, why(&hello.node_id, &hello.uri));
        } else {
            self.outputs.push(Output::Close { link });
            let text = why(&self.config.node_id, &self.config.public_uri);
            self.note(Level::Warn, format!("{text} (met at {})", hello.uri));
        }
    }

    pub(crate) fn refuse(&mut self, link: u64, why: String) {
        self.note(Level::Warn, format!("refused a link: {why}"));
        self.outbox.send_on(link, Frame::Refused { why });
        self.closing.push(link);
    }

    /// Somebody will not have this node. Who is at home in a working cluster stays there.
    pub(crate) fn was_refused(&mut self, link: u64, why: String) {
        let at_home = self.owner_of(GroupId::DIRECTORY).is_some()
            && self.map.replica_of(self.config.sandbox_id).is_some();
        if at_home {
            self.note(Level::Warn, format!("a link was refused: {why}"));
            self.outputs.push(Output::Close { link });
        } else {
            self.halt(why);
        }
    }

    /// Finds out which replica is behind each link, and tells those that do not know it yet.
    pub(crate) fn identify_all(&mut self) {
        for link in self.peers.ids() {
            let hello = self.peers.get(link).and_then(|link| link.hello.clone());
            if let Some(hello) = hello {
                self.identify(link, &hello);
            }
        }
    }

    fn identify(&mut self, link: u64, hello: &Hello) {
        let Some(charter) = self.charter() else { return };
        let formed = self.map.cluster.is_some();
        // A founder is known by the charter alone. So all adopt the first one that was made, as long
        // as they have none.
        let known = if formed {
            self.map.replica_of(hello.sandbox_id)
        } else {
            charter.founder(hello.sandbox_id)
        };
        match (known, hello.replica) {
            (Some(known), Some(claimed)) if known == claimed => self.is_back(link, known),
            // It was given away after all that is known here. It is believed, as only this cluster
            // can have given it; who is behind may need this very node to catch up.
            (None, Some(claimed)) if claimed.0 > self.map.last_replica => {
                self.is_back(link, claimed);
            }
            (Some(replica), None) => {
                let charter = charter.clone();
                self.outbox.send_on(link, Frame::Known { replica, charter });
            }
            (None, None) if formed => self.outbox.send_on(link, Frame::Stranger),
            (None, None) => {}
            (_, Some(_)) => {
                let why = format!(
                    "the sandbox of node '{}' was replaced by another one: start it with an empty \
                     --sandbox",
                    hello.node_id
                );
                self.refuse(link, why);
            }
        }
    }

    fn is_back(&mut self, link: u64, replica: ReplicaId) {
        let lane = self.peers.get_mut(link);
        if lane.is_some_and(|lane| lane.replica.replace(replica).is_none()) {
            for group in self.replicas.values_mut() {
                group.group.peer_back(replica);
            }
            self.announce(replica);
            self.mind_elections();
        }
    }

    /// A new cluster begins when all named peers are there with the same list, and none of them
    /// knows of a cluster. A majority is not enough: a founder whose disk was lost looks new, and
    /// with one that was never started it would begin a second cluster, with nothing in it.
    pub(crate) fn try_to_form(&mut self) {
        if self.peers.hellos().any(|(_, hello)| hello.cluster.is_some()) {
            return; // There is a cluster already; it will say what this node is to it.
        }
        let Some(founders) = self.founders() else { return };
        let mine = |member: &Member| member.sandbox_id == self.config.sandbox_id;
        let me = founders.iter().find(|(_, member)| mine(member)).map(|(id, _)| *id);
        let me = me.expect("this node is one of those that are there");
        let all = founders.len();
        self.note(Level::Info, format!("all {all} named peers are here: forming a cluster"));
        self.become_replica(me, Charter::new(self.config.partitions, founders));
    }

    /// All named peers with their sandboxes, each by its place in the list. None as long as one is
    /// missing, or seems to have two sandboxes: the link to its former life is still to break then.
    fn founders(&self) -> Option<BTreeMap<ReplicaId, Member>> {
        let digest = self.peers_digest();
        let mine = self.hello();
        let fits =
            |hello: &&Hello| hello.peers_digest == digest && hello.partitions == mine.partitions;
        let present = || self.peers.hellos().map(|(_, hello)| hello).filter(fits).chain([&mine]);
        let mut uris = self.founder_uris();
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

    /// The named peers that have not shown themselves with the same list.
    fn missing_founders(&self) -> Vec<String> {
        let digest = self.peers_digest();
        let mut missing = self.founder_uris();
        missing.retain(|uri| *uri != self.config.public_uri);
        for (_, hello) in self.peers.hellos() {
            if hello.peers_digest == digest && hello.partitions == self.config.partitions {
                missing.retain(|uri| *uri != hello.uri);
            }
        }
        missing
    }

    /// Says now and then what a node that does not serve yet waits for.
    pub(crate) fn say_what_is_missing(&mut self) {
        let missing = self.missing_founders();
        let digest = self.peers_digest();
        let odd = self.peers.hellos().find(|(_, hello)| {
            hello.peers_digest != digest || hello.partitions != self.config.partitions
        });
        let text = match odd {
            Some((_, odd)) => format!(
                "node '{}' was started with another --peer-nodes or --partitions than this one; no \
                 cluster can form with it",
                odd.node_id
            ),
            None => format!(
                "a new cluster forms when all named peers are there; missing: {}",
                missing.join(", ")
            ),
        };
        self.note(Level::Info, text);
    }

    /// A cluster says which replica this sandbox is.
    pub(crate) fn known_as(&mut self, replica: ReplicaId, charter: Charter) {
        if matches!(self.stage, Stage::Forming | Stage::Joining) {
            self.note(Level::Info, format!("known to the cluster as replica {replica}"));
            self.become_replica(replica, charter);
        }
    }

    pub(crate) fn is_stranger(&mut self) {
        if matches!(self.stage, Stage::Forming) {
            let text = "this sandbox is not known to the cluster: asking to be admitted";
            self.note(Level::Info, text.into());
            self.stage = Stage::Joining;
        }
    }

    /// Asks again and again to be admitted, until somebody says who this is.
    pub(crate) fn ask_to_be_admitted(&mut self) {
        let newcomer = Newcomer {
            node_id: self.config.node_id.clone(),
            uri: self.config.public_uri.clone(),
            sandbox_id: self.config.sandbox_id,
        };
        if let Some(link) = self.a_member() {
            self.outbox.send_on(link, Frame::Admit(newcomer));
        }
    }

    /// The link to a node that belongs to a cluster.
    pub(crate) fn a_member(&self) -> Option<u64> {
        let member = self.peers.hellos().find(|(_, hello)| hello.cluster.is_some());
        member.map(|(link, _)| link)
    }

    /// Says now and then that nobody is there to admit this node.
    pub(crate) fn say_whom_it_joins(&mut self) {
        if self.a_member().is_none() {
            let whom = self.config.join.clone().unwrap_or_else(|| self.config.peers.join(", "));
            let text = format!(
                "this node is to join the cluster of {whom}, and no node of that is reached: start \
                 it, or name another one with a JoinPeerRequest"
            );
            self.note(Level::Warn, text);
        }
    }

    /// A newcomer asks. Its former self, if there is one, must be gone.
    pub(crate) fn admit(&mut self, link: u64, newcomer: Newcomer) {
        if self.map.replica_of(newcomer.sandbox_id).is_some() || self.map.cluster.is_none() {
            return;
        }
        let now = self.now.steady_micros;
        let twin = self.map.members.iter().find(|(id, member)| {
            member.node_id == newcomer.node_id
                && member.uri != newcomer.uri
                && self.peers.is_up(**id, now)
        });
        if let Some((_, twin)) = twin {
            let why = format!(
                "another node is called '{}', at {}; give each its own --id",
                twin.node_id, twin.uri
            );
            return self.refuse(link, why);
        }
        self.direct(Purpose::Own, &DirectoryCommand::Admit(newcomer));
    }

    /// Sends a command to the directory.
    pub(crate) fn direct(&mut self, purpose: Purpose, command: &DirectoryCommand) {
        let bytes = postcard::to_stdvec(command).expect("a directory command encodes");
        self.submit(purpose, GroupId::DIRECTORY, Question::Directory(bytes.into()));
    }

    /// What the directory's owner sees to: that the cluster begins to serve when it may.
    pub(crate) fn mind_directory(&mut self) {
        if !self.offices.contains_key(&GroupId::DIRECTORY) || self.map.cluster.is_some() {
            return;
        }
        let Some(charter) = self.charter() else { return };
        if charter.founders.values().all(|founder| self.is_bound(charter.cluster, founder)) {
            let (charter, quorum) = (charter.clone(), self.config.membership_quorum);
            self.direct(Purpose::Own, &DirectoryCommand::Form { charter, quorum });
        }
    }

    /// A founder that cannot begin another cluster any more: it belongs to this one for good, or its
    /// sandbox was lost and the one in its place is a newcomer. If the cluster served earlier, a
    /// founder that does not know of it could begin another one with a founder that lost its disk,
    /// and what was acknowledged would be gone.
    fn is_bound(&self, cluster: u64, founder: &Member) -> bool {
        let bound = |hello: &Hello| {
            let same = hello.sandbox_id == founder.sandbox_id;
            (same && hello.cluster == Some(cluster)) || (!same && hello.uri == founder.uri)
        };
        founder.sandbox_id == self.config.sandbox_id
            || self.peers.hellos().any(|(_, hello)| bound(hello))
    }

    pub(crate) fn directory_opened(&mut self) {
        self.mind_directory();
    }

    /// The directory was changed by an entry of its log (or by a snapshot): in that instance, or in anything.
    pub(crate) fn directory_changed(&mut self, changed: &Changed, about: Option<&str>) {
        if !matches!(changed, Changed::Done) {
            return;
        }
        self.read_map();
        if let Some(name) = about {
            if let Err(why) = self.mind_registered(name) {
                self.halt(why);
            }
            return;
        }
        let mine = self.map.replica_of(self.config.sandbox_id);
        let retired = self.me.is_some_and(|me| self.map.retired.contains(&me));
        if retired && mine != self.me {
            return self.halt(format!(
                "this sandbox was replaced: another node '{}' was admitted with an empty one. If \
                 that was not meant, give each node its own --id",
                self.config.node_id
            ));
        }
        if let Err(why) = self.mind_registry() {
            return self.halt(why);
        }
        self.say_if_flag_differs();
        self.mind_directory();
        self.dial_all();
        self.identify_all();
        self.greet_all();
        self.set_ranks();
    }

    pub(crate) fn say_if_flag_differs(&mut self) {
        // Before the cluster has formed nothing is in force yet.
        let Some(flag) = self.config.membership_quorum.filter(|_| self.map.cluster.is_some())
        else {
            return;
        };
        let in_force = self.map.effective_quorum();
        if flag != in_force && !std::mem::replace(&mut self.said_flag_differs, true) {
            let text = format!(
                "--membership-quorum {flag} was given, but {in_force} is in force in this cluster and \
                 stays; change it with 'amrita quorum {flag}'"
            );
            self.note(Level::Warn, text);
        }
    }

    pub(crate) fn usual_addresses(&self) -> Vec<String> {
        let members = self.map.members.values().map(|member| &member.uri);
        let named = self.config.peers.iter().chain(&self.config.join);
        members.chain(named).cloned().collect()
    }

    /// The addresses of all nodes that this one should have a link to.
    pub(crate) fn dial_all(&mut self) {
        let mut addresses = self.usual_addresses();
        addresses.extend(self.looked_at().map(str::to_owned));
        addresses.retain(|address| *address != self.config.public_uri);
        addresses.sort_unstable();
        addresses.dedup();
        if addresses != self.dialed {
            self.dialed.clone_from(&addresses);
            self.outputs.push(Output::Dial { addresses });
        }
    }
}
