//! The state of a partition, looked at pair by pair outside of any store, as in a backup: can each
//! document be read?
//!
//! The pairs come in the order of their keys, and so the documents before the names that they refer
//! to by number. Which numbers were used is noted, and held against the names at the end.

use serde::de::IgnoredAny;
use storage::StoreError;

use crate::family;
use crate::names::Names;
use crate::record::{Record, is_living};

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Made when a document comes, and not kept after the end.
    names: Option<Names>,
    /// How many names there must be, and how many there are.
    names_used: usize,
    names_there: usize,
    /// Latest versions of documents that were not deleted.
    pub documents: u64,
}

impl Inspection {
    /// Takes the next pair. The key begins with its family.
    ///
    /// # Errors
    /// What cannot be read, or belongs to a later version of this program.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let (family, rest) = key.split_first().ok_or_else(|| wrong("an empty key"))?;
        match *family {
            family::HEAD | family::VERSION => {
                self.document(rest, value)?;
                self.documents += u64::from(is_living(key, value)?);
            }
            family::NAME => {
                std::str::from_utf8(value).map_err(|_| wrong("a name is not text"))?;
                self.names_there += 1;
            }
            other if family::STATE.contains(&other) => {}
            other => return Err(wrong(&format!("a key of the unknown family {other}"))),
        }
        Ok(())
    }

    fn document(&mut self, rest: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let link = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        let link = String::from_utf8_lossy(link);
        let cannot = |what: &str| wrong(&format!("{link}: {what}"));
        let names = self.names.get_or_insert_with(Names::unknown);
        let record = Record::decode(value, names).map_err(|error| cannot(&error.why))?;
        let named = [Some(record.kind), Some(record.owner), record.author];
        let numbers = named.into_iter().flatten().filter_map(Names::number_of_unknown);
        let used = numbers.max().map_or(0, |number| number + 1);
        serde_json::from_slice::<IgnoredAny>(record.body)
            .map_err(|error| cannot(&format!("its body is not JSON: {error}")))?;
        self.names_used = self.names_used.max(used);
        Ok(())
    }

    /// All pairs have come.
    ///
    /// # Errors
    /// When some are missing.
    pub fn end(&mut self) -> Result<(), StoreError> {
        self.names = None;
        if self.names_used > self.names_there {
            return Err(wrong(&format!(
                "documents refer to {} names of kinds and owners, and {} are there",
                self.names_used, self.names_there
            )));
        }
        Ok(())
    }
}

fn wrong(what: &str) -> StoreError {
    StoreError::failed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use protocol::{Action, GroupId, Moment, Position, Term};
    use storage::{Batch, MemoryStore, Space};

    use super::*;

    fn encoded(body: &[u8]) -> Vec<u8> {
        let (space, _) = Space::open(&MemoryStore::new(), GroupId(1)).unwrap();
        let mut names = Names::default();
        for known in ["a:kind", "n1"] {
            names.learn(known, space, &mut Batch::new());
        }
        let record = Record {
            version: 3,
            epoch: Term(1),
            kind: "a:kind",
            action: Action::Put,
            updated: Moment(7),
            expires: Moment(0),
            owner: "n1",
            author: None,
            body,
            oldest: 3,
            task: false,
            position: Position(9),
        };
        record.encode(&names)
    }

    #[test]
    fn a_document_that_cannot_be_read_is_named() {
        let bytes = encoded(b"{\"name\":\"x\"}");
        let key = [&[family::HEAD][..], b"/core/one"].concat();
        let mut inspection = Inspection::default();
        inspection.take(&key, &bytes).unwrap();
        assert_eq!(inspection.documents, 1);
        let why = inspection.end().unwrap_err().to_string();
        assert!(why.contains("2 names") && why.contains("0 are there"), "{why}");
        for name in 0..2_u16 {
            let key = [&[family::NAME][..], &name.to_be_bytes()].concat();
            inspection.take(&key, b"a name").unwrap();
        }
        inspection.end().unwrap();
        let short = &bytes[..bytes.len() - 3];
        let why = inspection.take(&key, short).unwrap_err().to_string();
        assert!(why.contains("/core/one: its body is not JSON"), "{why}");
        assert!(inspection.take(&key, &bytes[..2]).is_err());
        let why = inspection.take(&[0x7f, 1], b"").unwrap_err().to_string();
        assert!(why.contains("unknown family 127"), "{why}");
    }
}
