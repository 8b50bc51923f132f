//! A client of a cluster, for a program in Rust: asks the nodes over HTTP, and knows nothing of
//! what is inside of them.
//!
//! ```no_run
//! # async fn show() -> Result<(), client::ClientError> {
//! let cluster = client::Client::new(&["http://127.0.0.1:8000", "http://127.0.0.1:8001"])?;
//! let answer = cluster.get("/core/examples").await?;
//! # drop(answer);
//! # Ok(())
//! # }
//! ```

mod batch;
mod client;
mod keys;
mod socket;
mod wire;

pub use batch::{Batch, BatchAnswer, WriteOutcome};
pub use client::{ATTEMPT_MAX, Client, ClientError, request};
pub use protocol::{
    Address, BodyType, Conditions, EntityTags, Method, Problem, Request, Response, WriteQuorum,
};
