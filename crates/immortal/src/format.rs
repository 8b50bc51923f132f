//! How values stand in bytes. Arguments and answers are JSON; a state in a checkpoint is CBOR. CBOR
//! says of itself what it is, so that any language can read it and a field with a default can be
//! added; it keeps every number as it was (JSON has no infinity, and not every map is one of
//! JSON's); and whatever serde can describe can be written.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn save(value: &impl Serialize, to: &mut dyn io::Write) -> io::Result<()> {
    ciborium::into_writer(value, to).map_err(|error| match error {
        ciborium::ser::Error::Io(error) => error,
        ciborium::ser::Error::Value(text) => {
            io::Error::other(format!("the state cannot be written: {text}"))
        }
    })
}

pub(crate) fn load<T: DeserializeOwned>(from: &mut dyn io::Read) -> io::Result<T> {
    ciborium::from_reader(from).map_err(|error| match error {
        ciborium::de::Error::Io(error) => error,
        other => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the checkpoint is not this program's state: {other}"),
        ),
    })
}

/// Writes arguments as a JSON array.
///
/// # Panics
/// When they cannot be JSON (a map whose keys are no texts): a mistake in the program, found at the
/// first try.
pub(crate) fn put_arguments(out: &mut Vec<u8>, arguments: &impl Serialize) {
    serde_json::to_writer(&mut *out, arguments).expect("arguments can be written as JSON");
    // No arguments are `()`, which JSON has as null.
    if out == b"null" {
        out.clear();
        out.extend_from_slice(b"[]");
    }
}
