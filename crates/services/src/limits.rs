//! How much one leader of a partition takes on.

/// How many requests may wait for one document. More are answered with BUSY.
pub const DOCUMENT_QUEUE_MAX: usize = 1_000;
/// How many tasks of one partition take steps at the same time. Others wait their turn.
pub const TASKS_RUNNING_MAX: usize = 256;
/// How many bytes of messages may wait in a partition for one immortal. A write that sends more to
/// it is refused with BUSY. What is on its way into the log is not counted.
const OUTBOX_BYTES_MAX: u64 = 16 << 20;
/// The same for all immortals together.
const OUTBOX_OF_ALL_BYTES_MAX: u64 = 256 << 20;
/// How many bytes of changes each partition keeps if nothing else is said.
const CHANGES_BYTES: usize = 4 << 20;

/// How much one leader takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many requests may wait for one document; more are BUSY.
    pub document_queue_max: usize,
    /// How many tasks take steps at the same time; others wait.
    pub tasks_running_max: usize,
    /// How many bytes of the newest changes are kept for those who watch.
    pub changes_bytes: usize,
    /// How many bytes of messages may wait for one immortal; a write that sends more is BUSY.
    pub outbox_bytes_max: u64,
    /// The same for all immortals together.
    pub outbox_of_all_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_queue_max: DOCUMENT_QUEUE_MAX,
            tasks_running_max: TASKS_RUNNING_MAX,
            changes_bytes: CHANGES_BYTES,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            outbox_of_all_bytes_max: OUTBOX_OF_ALL_BYTES_MAX,
        }
    }
}
