//! How a cluster forms, and how a node comes into it: who is behind a link, who may stay, and which
//! replica id a sandbox has.
//!
//! A sandbox that is new takes no part in anything until it is known what it is: a founder, when
//! all named peers are new as well or the cluster still waits for it; a newcomer, when
//! the cluster knows the node but not its sandbox. So a node whose disk was lost can never vote
//! with an empty memory in the name of its former self.

use protocol::{GroupId, ReplicaId};

use crate::directory::{Changed, DirectoryCommand, Member};
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
            cluster: self.map.cluster,
            peers_digest: self.peers_digest(),
            founding: self.founding(),
            serving: self.me.is_some(),
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

    pub(crate) fn founder_count(&self) -> u64 {
        self.founder_uris().len().max(1) as u64
    }

    /// The replica id that a founder has by its place in the peer list.
    fn founder(&self, uri: &str) -> Option<ReplicaId> {
        let place = self.founder_uris().iter().position(|peer| peer == uri)?;
        Some(ReplicaId(place as u64 + 1))
    }

    /// Tells all links who this is, when that has changed.
    pub(crate) fn greet_all(&mut self) {
        for link in self.peers.ids() {
            self.outbox.send_on(link, Frame::Hello(self.hello()));
        }
    }

    /// Somebody says who it is.
    pub(crate) fn greeted(&mut self, link: u64, hello: Hello) {
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
        if let (Some(mine), Some(theirs)) = (self.map.cluster, hello.cluster)
            && mine != theirs
        {
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
        } else if hello.serving {
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

    /// Finds out which replica is behind a link, and tells it if it does not know.
    fn identify(&mut self, link: u64, hello: &Hello) {
        // A founder that is not registered yet is believed if it founded with the same sandboxes.
        // Who was admitted later knows nothing of that, and takes the members' word.
        let mine = self.founding();
        let founder = hello.replica.filter(|_| mine == 0 || hello.founding == mine);
        let replica = match self.map.replica_of(hello.sandbox_id) {
            None if self.map.cluster.is_none() => founder,
            None => founder.filter(|id| self.map.awaits(*id)),
            known => known,
        };
        let formed = self.map.cluster.is_some();
        // A replica id that is not given away yet as far as is known here: the map is behind, and
        // this is looked at again when it has caught up.
        let ahead = hello.replica.is_some_and(|id| id.0 > self.map.last_replica);
        if formed && !ahead && (hello.replica != replica || replica.is_none()) {
            match (replica, hello.replica) {
                (Some(replica), None) => {
                    let (partitions, founders) = (self.map.partitions, self.map.founders);
                    self.outbox.send_on(link, Frame::Known { replica, partitions, founders });
                }
                (None, None) => self.outbox.send_on(link, Frame::Stranger),
                _ => {
                    let why = format!(
                        "the sandbox of node '{}' was replaced by another one: start it with an \
                         empty --sandbox",
                        hello.node_id
                    );
                    return self.refuse(link, why);
                }
            }
        }
        if hello.replica.is_some() && hello.replica == replica {
            let lane = self.peers.get_mut(link);
            let fresh = lane
                .is_some_and(|lane| lane.replica.replace(replica.unwrap_or_default()).is_none());
            if fresh && let Some(replica) = replica {
                for group in self.replicas.values_mut() {
                    group.group.peer_back(replica);
                }
                self.mind_elections();
            }
        }
    }

    /// A new cluster begins when all named peers are there with the same list, and none of them
    /// knows of a cluster. A majority is not enough: a founder whose disk was lost looks new, and
    /// with one that was never started it would begin a second cluster, with nothing in it.
    fn try_to_form(&mut self) {
        if self.peers.hellos().any(|(_, hello)| hello.cluster.is_some()) {
            return; // There is a cluster already; it will say what this node is to it.
        }
        if !self.missing_founders().is_empty() {
            return;
        }
        let founding = self.founding_of_all();
        let differs = |hello: &Hello| hello.serving && hello.founding != founding;
        let other = self.peers.hellos().map(|(_, hello)| hello).find(|hello| differs(hello));
        if let Some(other) = other.cloned() {
            let text = format!(
                "node '{}' has begun a cluster with other sandboxes, which is not complete yet: a \
                 disk was lost meanwhile. Start all named nodes with empty sandboxes",
                other.node_id
            );
            return self.note(Level::Error, text);
        }
        let me = self.founder(&self.config.public_uri).unwrap_or(ReplicaId(1));
        let all = self.founder_count();
        self.note(Level::Info, format!("all {all} named peers are here: forming a cluster"));
        self.become_replica(me, self.config.partitions, all, founding);
    }

    /// A digest of the sandboxes of all named peers. Who began with another set of them began
    /// another cluster.
    fn founding_of_all(&self) -> u64 {
        let mut sandboxes = vec![self.config.sandbox_id];
        let digest = self.peers_digest();
        let named = self.peers.hellos().filter(|(_, hello)| hello.peers_digest == digest);
        sandboxes.extend(named.map(|(_, hello)| hello.sandbox_id));
        sandboxes.sort_unstable();
        sandboxes.dedup();
        let bytes: Vec<[u8; 8]> = sandboxes.into_iter().map(u64::to_be_bytes).collect();
        fnv(bytes.iter().map(<[u8; 8]>::as_slice))
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
    pub(crate) fn known_as(&mut self, replica: ReplicaId, partitions: u32, founders: u64) {
        if matches!(self.stage, Stage::Forming | Stage::Joining) {
            self.note(Level::Info, format!("known to the cluster as replica {replica}"));
            self.become_replica(replica, partitions, founders, 0);
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
            founder: self.founder(&self.config.public_uri),
        };
        let serving: Vec<u64> =
            self.peers.hellos().filter(|(_, hello)| hello.serving).map(|(link, _)| link).collect();
        if let Some(link) = serving.first() {
            self.outbox.send_on(*link, Frame::Admit(newcomer));
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

    /// What the directory's owner sees to: the forming, and founders that have come.
    pub(crate) fn mind_directory(&mut self) {
        if !self.offices.contains_key(&GroupId::DIRECTORY) {
            return;
        }
        if self.map.cluster.is_none() {
            let command = DirectoryCommand::Form {
                cluster: self.config.seed ^ self.config.sandbox_id,
                partitions: self.partitions_at_start,
                quorum: self.config.membership_quorum,
                founders: self.founder_count(),
            };
            return self.direct(Purpose::Own, &command);
        }
        let mut present = vec![self.hello()];
        present.extend(self.peers.hellos().map(|(_, hello)| hello.clone()));
        present.dedup_by(|a, b| a.sandbox_id == b.sandbox_id);
        for hello in present {
            let Some(replica) = hello.replica else { continue };
            if self.map.awaits(replica) {
                let Hello { node_id, uri, sandbox_id, .. } = hello;
                let member = Member { node_id, uri, sandbox_id };
                self.direct(Purpose::Own, &DirectoryCommand::Register { replica, member });
            }
        }
    }

    pub(crate) fn directory_opened(&mut self) {
        self.mind_directory();
    }

    /// The directory was changed by an entry of its log (or by a snapshot).
    pub(crate) fn directory_changed(&mut self, changed: &Changed) {
        if !matches!(changed, Changed::Done) {
            return;
        }
        self.read_map();
        let mine = self.map.replica_of(self.config.sandbox_id);
        let retired = self.me.is_some_and(|me| self.map.retired.contains(&me));
        if retired && mine != self.me {
            return self.halt(format!(
                "this sandbox was replaced: another node '{}' was admitted with an empty one. If \
                 that was not meant, give each node its own --id",
                self.config.node_id
            ));
        }
        self.say_if_flag_differs();
        self.mind_directory();
        self.dial_all();
        for link in self.peers.ids() {
            let hello = self.peers.get(link).and_then(|link| link.hello.clone());
            if let Some(hello) = hello {
                self.identify(link, &hello);
            }
        }
        self.greet_all();
        self.set_ranks();
    }

    pub(crate) fn say_if_flag_differs(&mut self) {
        let flag = self.config.membership_quorum;
        let in_force = self.map.effective_quorum();
        if let Some(flag) = flag
            && flag != in_force
            && !std::mem::replace(&mut self.said_flag_differs, true)
            && self.map.quorum.is_some()
        {
            let text = format!(
                "--membership-quorum {flag} was given, but {in_force} is in force in this cluster and \
                 stays; change it with 'amrita quorum {flag}'"
            );
            self.note(Level::Warn, text);
        }
    }

    /// The addresses of all nodes that this one should have a link to.
    pub(crate) fn dial_all(&mut self) {
        let mut addresses: Vec<String> =
            self.map.members.values().map(|member| member.uri.clone()).collect();
        addresses.extend(self.config.peers.iter().cloned());
        addresses.extend(self.config.join.iter().cloned());
        addresses.retain(|address| *address != self.config.public_uri);
        addresses.sort_unstable();
        addresses.dedup();
        if addresses != self.dialed {
            self.dialed.clone_from(&addresses);
            self.outputs.push(Output::Dial { addresses });
        }
    }
}
