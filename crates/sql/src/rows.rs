//! What was found, as rows of JSON. Documents are JSON already, and stay as they are written.

use std::collections::{BTreeMap, BTreeSet};

use query::pick;
use serde_json::Value;
use serde_json::value::RawValue;

/// How the fields begin that the system keeps.
const BUILT_IN: &str = "document";

/// Of these `*` shows two.
const SHOWN_OF_ALL: [&str; 2] = ["documentSelfLink", "documentVersion"];

/// A column of rows that are documents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DocumentColumn {
    /// `*`: the link, the version, and every field that some document has.
    All,
    Field {
        name: String,
        path: String,
    },
}

/// The answer to a statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    /// Each cell is JSON.
    pub(crate) rows: Vec<Vec<String>>,
    /// By column: how many values were no numbers.
    pub(crate) left_out: Vec<(String, u64)>,
}

/// The answer would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// How many columns `*` may come to: the names of all fields of all documents.
const COLUMNS_OF_ALL_MAX: usize = 4_096;

/// What a cell takes beside its text, in bytes.
const CELL_BYTES: usize = 32;

/// How much longer an answer may become.
pub(crate) struct Room(pub(crate) usize);

impl Room {
    /// # Errors
    /// When that cell is too much.
    pub(crate) fn take(&mut self, cell: &str) -> Result<(), TooLong> {
        self.0 = self.0.checked_sub(cell.len() + CELL_BYTES).ok_or(TooLong)?;
        Ok(())
    }
}

impl Rows {
    /// # Errors
    /// When the rows would have more than `bytes_max`.
    pub(crate) fn of_documents(
        columns: &[DocumentColumn],
        documents: &[&[u8]],
        bytes_max: usize,
    ) -> Result<Self, TooLong> {
        // What is no JSON does not come out of a store of JSON.
        let documents: Vec<&RawValue> =
            documents.iter().copied().filter_map(|it| serde_json::from_slice(it).ok()).collect();
        let mut names = Vec::new();
        for column in columns {
            match column {
                DocumentColumn::Field { name, path } => names.push((name.clone(), path.clone())),
                DocumentColumn::All => {
                    let mut fields = BTreeSet::new();
                    for document in &documents {
                        fields.extend(fields_of(document));
                        if fields.len() > COLUMNS_OF_ALL_MAX {
                            return Err(TooLong);
                        }
                    }
                    let shown = SHOWN_OF_ALL.iter().map(|name| (*name).to_owned()).chain(fields);
                    names.extend(shown.map(|name| (name.clone(), name)));
                }
            }
        }
        let mut room = Room(bytes_max);
        let mut rows = Vec::with_capacity(documents.len());
        for document in documents {
            // A document is read once, however many columns there are.
            let fields: BTreeMap<String, &RawValue> =
                serde_json::from_str(document.get()).unwrap_or_default();
            let mut cells = Vec::with_capacity(names.len());
            for (_, path) in &names {
                let cell = match fields.get(path) {
                    Some(found) => found.get().to_owned(),
                    None if !path.contains('.') => "null".to_owned(),
                    None => pick(document, path).unwrap_or_else(|| "null".to_owned()),
                };
                room.take(&cell)?;
                cells.push(cell);
            }
            rows.push(cells);
        }
        let columns = names.into_iter().map(|(name, _)| name).collect();
        Ok(Self { columns, rows, ..Self::default() })
    }

    pub(crate) fn to_json(&self, took_micros: u64) -> Vec<u8> {
        let columns: Vec<String> =
            self.columns.iter().map(|name| Value::from(name.as_str()).to_string()).collect();
        let rows: Vec<String> =
            self.rows.iter().map(|cells| format!("[{}]", cells.join(","))).collect();
        let mut json = format!(
            "{{\"columns\":[{}],\"rows\":[{}],\"rowCount\":{}",
            columns.join(","),
            rows.join(","),
            rows.len()
        );
        if !self.left_out.is_empty() {
            let each = self
                .left_out
                .iter()
                .map(|(name, count)| format!("{}:{count}", Value::from(name.as_str())));
            json.push_str(&format!(",\"leftOut\":{{{}}}", each.collect::<Vec<_>>().join(",")));
        }
        json.push_str(&format!(",\"queryTimeMicros\":{took_micros}}}"));
        json.into_bytes()
    }
}

/// The names of a document's own fields.
fn fields_of(document: &RawValue) -> Vec<String> {
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(document.get());
    let names = fields.unwrap_or_default().into_keys();
    names.filter(|name| !name.starts_with(BUILT_IN)).collect()
}
