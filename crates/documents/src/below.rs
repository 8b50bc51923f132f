//! The latest versions of all documents of one factory, for who reads them all.

use std::ops::ControlFlow;

use protocol::Document;
use storage::{Reader, StoreError};

use crate::family;
use crate::partition::Partition;
use crate::record::Record;

impl Partition {
    /// The latest version of every document of a factory, in order of their links; without those
    /// that are deleted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn below(&self, store: &dyn Reader, factory: &str) -> Result<Vec<Document>, StoreError> {
        let (from, to) = self.space.range_of(family::HEAD, format!("{factory}/").as_bytes());
        let mut found = Vec::new();
        let mut broken = None;
        store.scan(&from, &to, false, &mut |key, value| {
            let link = String::from_utf8_lossy(self.space.rest(key));
            match Record::decode(value, &self.names) {
                Ok(record) if record.is_deleted() => {}
                Ok(record) => found.push(record.to_document(&link)),
                Err(error) => broken = Some(error),
            }
            if broken.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match broken {
            None => Ok(found),
            Some(error) => Err(error),
        }
    }
}
