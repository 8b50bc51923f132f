//! What a request needs before it is let in.

use protocol::links;

/// What a request needs before it is let in. Each path and verb has it in the table of the node
/// (`node`'s `surface.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It answers everybody.
    Nothing,
    /// Somebody must be logged in.
    Login,
    /// The router decides, by the path and the verb.
    Right,
    /// The owner of the document decides, on the state as it is then.
    Document,
    /// Somebody must be logged in, and sees what a role allows that one to see.
    Filtered,
    /// Another node of the cluster.
    Link,
}

/// The link that a right on a path is looked up for: a utility belongs to what it tells of.
pub fn link_of(path: &str) -> &str {
    links::split_utility(path).0
}
