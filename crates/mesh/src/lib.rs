//! Links between nodes that cannot reach each other: by datagrams, and over other nodes.
//!
//! A TCP connection needs a path in both directions. A network may have none between two nodes and
//! still let every node reach every other: by way of a third one, or round a ring of paths that
//! work in one direction only. The mesh finds such ways and makes *streams* along them, which do
//! what links do: they carry frames, whole and in order. The node does not know one from the other.
//!
//! | part | what it knows |
//! |---|---|
//! | `hearing` | who hears whom, and which way leads to a node |
//! | `stream` | how frames go over packets that get lost |
//! | `packet` | what goes over the network |
//! | [`Mesh`] | when a stream is needed, and all of it together |
//!
//! - Ten times a second each node tells the others whom it has heard lately, and what it was told
//!   by others: by datagrams, and beside the frames of its links where datagrams do not pass.
//! - When the link to a wanted node is not well in both directions for 400 ms, the node is known to
//!   live, and there is a way there and one back, a stream begins. It ends when the link has been
//!   well for three seconds, and is used while it lasts.
//! - A packet names its whole way. Who passes it on takes itself off, so none goes in a circle. A
//!   way has at most three nodes between.
//! - Packets carry a checksum and no more protection than links have: who can send to the port of
//!   a node is trusted in both.

mod hearing;
mod mesh;
mod packet;
mod stream;

pub use mesh::{Input, Mesh, Output};
pub use packet::{NodeKey, PACKET_BYTES_MAX};
