//! Which words are names: as in standard SQL, and a few more. And that tables have a past.

use sqlparser::dialect::Dialect;

#[derive(Debug)]
pub(crate) struct AmritaDialect;

impl Dialect for AmritaDialect {
    fn is_identifier_start(&self, letter: char) -> bool {
        letter.is_alphabetic() || letter == '_'
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        letter.is_alphanumeric() || letter == '_' || letter == '$'
    }

    /// `FOR SYSTEM_TIME AS OF`, of SQL:2011.
    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        letter == '"' || letter == '`'
    }
}
