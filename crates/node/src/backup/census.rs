//! What is in a group of a backup: all of it is decoded, and counted.

use bytes::Bytes;
use cluster::DirectoryCommand;
use documents::{Command, Inspection};
use protocol::{GroupId, Position, Term};

use super::page::{Block, Head};

/// What was found so far.
#[derive(Clone, Debug)]
pub struct Census {
    group: GroupId,
    head: Option<Head>,
    last: (Position, Term),
    /// Of a partition.
    state: Inspection,
    /// Latest versions of documents that are there.
    pub documents: u64,
    /// Keys of the state.
    pub pairs: u64,
    /// What was logged behind the state.
    pub entries: u64,
}

impl Census {
    pub fn of(group: GroupId) -> Self {
        let last = (Position(0), Term(0));
        let state = Inspection::default();
        Self { group, head: None, last, state, documents: 0, pairs: 0, entries: 0 }
    }

    /// Takes the next block of the group.
    ///
    /// # Errors
    /// What cannot be read, or is not where it should be.
    pub fn take(&mut self, block: &Block) -> Result<(), String> {
        match (block, &self.head) {
            (Block::Head(head), None) if head.group == self.group => {
                self.head = Some(*head);
                self.last = head.applied;
                Ok(())
            }
            (Block::Head(_), _) => Err("a head that should not be there".into()),
            (_, None) => Err("it does not begin with a head".into()),
            (Block::State(pairs), Some(_)) => {
                for (key, value) in pairs {
                    self.pairs += 1;
                    if self.group.is_partition() {
                        self.state.take(key, value).map_err(|error| error.why)?;
                    }
                }
                self.documents = self.state.documents;
                Ok(())
            }
            (Block::Entries(entries), Some(_)) => {
                for (position, term, data) in entries {
                    if self.last.0.0.checked_add(1) != Some(position.0) {
                        return Err(format!("position {position} comes after {}", self.last.0));
                    }
                    self.last = (*position, *term);
                    self.entries += 1;
                    decode(self.group, data)
                        .map_err(|why| format!("position {position}: {why}"))?;
                }
                Ok(())
            }
        }
    }

    /// Where the group ends; all blocks have come.
    ///
    /// # Errors
    /// When some are missing.
    pub fn end(&mut self) -> Result<(u64, u64), String> {
        let head = self.head.ok_or("it is empty")?;
        let (position, term) = head.position;
        self.state.end().map_err(|error| error.why)?;
        if self.last.0 == position {
            return Ok((position.0, term.0));
        }
        Err(format!("it ends at position {} and should go on to {position}", self.last.0))
    }
}

fn decode(group: GroupId, data: &Bytes) -> Result<(), String> {
    if data.is_empty() {
        return Ok(());
    }
    if group.is_directory() {
        DirectoryCommand::decode(data).map(drop)
    } else if group.is_partition() {
        Command::decode(data).map(drop).map_err(|problem| problem.message)
    } else {
        immortals::Entry::decode(data.clone()).map(drop).map_err(|garbled| garbled.to_string())
    }
}
