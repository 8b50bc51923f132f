//! How a command ends.

/// Why a command failed, for people; the lines are shown as they are.
pub(crate) type Outcome = Result<(), String>;
