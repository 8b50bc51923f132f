//! What the adapter is told about a program that cannot say it itself.

/// What a coordinator is told by flags, and an LB never says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbrosiaOptions {
    /// The instance that the program is.
    pub instance: String,
    /// A primary is told to take a checkpoint when it becomes one, unless it has standbys.
    pub active_active: bool,
    /// Stands in the header of each record. Any number; no binding looks at it.
    pub committer_id: i32,
    pub program_version: u64,
    /// The version that the program can turn its state into; the same when it cannot.
    pub upgrade_to: u64,
}
