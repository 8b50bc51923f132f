//! What the adapter is told about a program, because the program cannot say it itself.

/// What a coordinator is told by flags, and what an LB never says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbrosiaOptions {
    /// The name of the instance.
    pub instance: String,
    /// Without this, a primary is told to take a checkpoint when it becomes one.
    pub active_active: bool,
    /// A number for the header of each record. Any number will do, since no binding looks at it.
    pub committer_id: i32,
    pub program_version: u64,
    /// The version that the program can turn its state into, or its own version when it cannot.
    pub upgrade_to: u64,
}
