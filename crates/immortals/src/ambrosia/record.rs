//! Log records are what a coordinator sends to an LB. Each has a header of 24 bytes, then messages.

use bytes::Bytes;
use protocol::immortal::{Message, put_signed};

use super::kind;
use super::rpc::{put_incoming, put_size};

/// The size at which a record is ended, so that the next message is in a new one. A message that is
/// longer has a record of its own. AMBROSIA's own limit is 8 MiB, and bindings have buffers made
/// for that.
pub const RECORD_BYTES: usize = 1 << 20;

const HEADER_BYTES: usize = 24;

/// The number of a record that holds a request of the coordinator, not inputs.
const CONTROL: i64 = -1;

/// The number of a record that announces a checkpoint. The checkpoint follows the record without a
/// header.
const CHECKPOINT: i64 = -2;

/// Writes records, one after the other.
#[derive(Debug)]
pub(super) struct Records {
    committer_id: i32,
    /// The number of the next record of inputs. A binding takes any number for the first one.
    next: i64,
    open: Vec<u8>,
}

impl Records {
    pub(super) fn new(committer_id: i32) -> Self {
        Self { committer_id, next: 0, open: Vec::new() }
    }

    /// Adds an input to the open record. False when AMBROSIA has no message for it.
    pub(super) fn input(&mut self, sender: &str, message: &Message, out: &mut Vec<Bytes>) -> bool {
        if self.open.is_empty() {
            self.open.resize(HEADER_BYTES, 0);
        }
        let told = put_incoming(&mut self.open, sender, message);
        if self.open.len() >= RECORD_BYTES {
            self.end(out);
        }
        told
    }

    /// Ends the open record, if there is something in it.
    pub(super) fn end(&mut self, out: &mut Vec<Bytes>) {
        if self.open.len() > HEADER_BYTES {
            let record = std::mem::take(&mut self.open);
            out.push(self.with_header(record, self.next));
            self.next += 1;
        }
    }

    /// Writes a request of the coordinator in a record of its own: a binding may read no further in
    /// the first record of a connection.
    pub(super) fn control(&mut self, kind: u8, out: &mut Vec<Bytes>) {
        self.end(out);
        let mut record = vec![0; HEADER_BYTES];
        put_size(&mut record, 1);
        record.push(kind);
        out.push(self.with_header(record, CONTROL));
    }

    /// Announces a checkpoint of this many bytes.
    pub(super) fn checkpoint(&mut self, bytes: u64, out: &mut Vec<Bytes>) {
        self.end(out);
        let mut message = vec![kind::CHECKPOINT];
        put_signed(&mut message, i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut record = vec![0; HEADER_BYTES];
        put_size(&mut record, message.len());
        record.extend_from_slice(&message);
        out.push(self.with_header(record, CHECKPOINT));
    }

    fn with_header(&self, mut record: Vec<u8>, number: i64) -> Bytes {
        let size = i32::try_from(record.len())
            .expect("a message fits into a frame of ours, and those are far below 2 GiB");
        record[0..4].copy_from_slice(&self.committer_id.to_le_bytes());
        record[4..8].copy_from_slice(&size.to_le_bytes());
        // 8..16: the check bytes, which no binding looks at.
        record[16..24].copy_from_slice(&number.to_le_bytes());
        record.into()
    }
}
