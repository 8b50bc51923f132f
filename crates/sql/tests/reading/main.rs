//! Statements that are read and run over documents, one by one and at random.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod model;
mod statements;
mod world;
