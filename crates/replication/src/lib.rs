//! One replica of one replicated log, as a value: what happened goes in, what must be done comes
//! out. It has no clock, no socket, no file and no thread, and chance has no part in it.
//!
//! # What goes in
//!
//! | input | what it means |
//! |---|---|
//! | [`Group::tick`] | time goes on |
//! | [`Group::receive`] | a message of another replica |
//! | [`Group::propose`], [`Group::change`] | the owner shall append an entry |
//! | [`Group::confirm`] | a quorum shall say that this is still the owner (for a read) |
//! | [`Group::hand_over`] | another replica shall own the group |
//! | [`Group::peer_lost`], [`Group::peer_back`] | the node knows it before a timeout does |
//! | [`Group::campaign_if_free`] | this replica shall own the group if no other one does |
//! | [`Group::persisted`], [`Group::applied`], [`Group::snapshot_sent`] | the node has done it |
//! | [`Group::compact`] | the state is durable: entries may go |
//!
//! # What comes out
//!
//! After every input [`Group::ready`] is called until it says nothing. A [`Ready`] is a list of
//! things to do, and the order between them is all that safety asks of the node:
//!
//! 1. `install` first, durably; then `records` into the log.
//! 2. `send_now` at any time: an owner's entries travel while its own disk is busy.
//! 3. `send_durable` when the records of this and all earlier readys are durable. A vote or an
//!    acknowledgement that leaves earlier may be broken by a crash.
//! 4. [`Group::persisted`] at that same moment, at the latest before the messages leave.
//! 5. `committed` in order, into the state machine; then [`Group::applied`].
//!
//! Readys do not wait for each other: the next may be asked for, carried out and sent while the
//! disk is still busy with the first. `committed` only ever holds entries that are durable here.
//!
//! ```text
//!   propose ──► ready 1: records, send_now ──► log ──► persisted(1) ──► ready 3: committed
//!   propose ──► ready 2: records, send_now ──► log ────────► persisted(2) ──► ...
//! ```
//!
//! # What raft-rs does, and what is ours
//!
//! Elections, replication, commitment, joint memberships and read rounds are raft-rs's, which has
//! run under TiKV for years. None of its types can be seen from outside. Ours is:
//!
//! - **The log** (`log`): raft-rs reads entries from memory, durable or not, and older ones from
//!   the disk. The window in memory is shrunk by whoever owns all groups
//!   ([`Group::shrink_window`]).
//! - **Elections by hint** (`election`). The kernel closes a dead process's sockets, and that is
//!   news long before any timeout. [`Group::peer_lost`] forgets the owner and asks the others with
//!   a pre-vote; whoever has also lost it agrees, whoever has not says no, and a living owner is
//!   not disturbed. The others' leases do not stand in the way: those who lost the owner have none,
//!   and a pre-vote that came a moment too early is answered when the second connection breaks. The
//!   lease that is given up here protects nothing but quiet: reads are confirmed by a quorum.
//! - **No chance.** raft-rs draws election timeouts; [`Group::tick`] puts a fixed number in their
//!   place. Each replica of a group is to be given another ([`Group::set_election_ticks`]).
//! - **Reads** (`reads`): many tickets share a round, at most one round is on its way, and tickets
//!   wait until the owner has committed an entry of its term (raft-rs drops such reads without a
//!   word). A lost round is repeated by the next heartbeat. When the ownership is lost, all are
//!   refused.
//! - **Snapshots carry no state.** An offer says where the state stands and who the members are
//!   there; the node streams the state its own way and gives the message to the receiver at the
//!   end.
//! - **Newcomers ask for a snapshot.** The first members of a group are in no entry, so a replica
//!   without members takes no entries, or it would count other votes than the rest.
//! - **What raft-rs would die of is kept from it** (`guard`, and the notes below). Messages are not
//!   trusted to make sense, and nothing from outside is parsed by its protobuf library.
//!
//! # Where raft-rs 0.7 needs care
//!
//! Found by reading or by the random histories; each has a test.
//!
//! - *A lone voter wins before its vote is durable*, speaks at once as the owner, and can win the
//!   same term again after a crash. Its messages wait until the vote is durable. If entries of the
//!   past are not durable yet it must not even campaign: raft-rs asserts that they are.
//! - *Campaigning while an installed snapshot is not durable* panics: entries before the base are
//!   looked for. Such a replica does not campaign.
//! - *An owner that applies its own removal* goes on as the owner, and panics with the next write.
//!   It steps down at once here. An owner asked to remove itself hands over instead.
//! - *Such an owner alone knows that its removal is committed.* What it says about that when it
//!   refuses a vote is ignored if its term is behind, and the rest may need that vote for ever. We
//!   listen.
//! - *The call to campaign* of an owner that hands over is ignored while a committed membership is
//!   not applied. It is kept for a moment.
//! - *The end of a joint membership* is appended and then lies there until the next heartbeat. It
//!   is sent at once.
//! - *Joined appends* know no limit of size. They are cut into pieces.
//! - *A request for a snapshot* is forgotten only if the report of the sending comes before the
//!   answer of the receiver; else the whole state would be offered again.
//! - *A second change of the membership* becomes an empty entry, silently. It is refused here.

mod change;
mod convert;
mod election;
mod group;
mod guard;
mod log;
mod members;
mod message;
mod options;
mod reads;
mod ready;
mod refill;
mod rest;
mod status;
mod tail;
mod view;
mod window;
mod work;

pub use group::Group;
pub use members::{Members, MembershipChange};
pub use message::{Message, MessageKind, SnapshotMeta};
pub use options::{Durability, GroupOptions, RestoreError, Restored};
pub use ready::{Committed, CommittedData, Install, Ready, SnapshotOffer};
pub use status::{ConfirmError, Progress, ProposeError, Role, Status};
pub use tail::{Need, TailLimits};
pub use window::WindowBudget;
