//! What a Rust program imports: to write services and tasks and run them in a node of its own
//! ([`service`], [`Host`]), or to be a client of a cluster ([`Client`]).

mod client;
mod host;
pub mod service;
mod wire;

pub use client::{Client, ClientError, request};
pub use host::Host;
pub use protocol::{BodyType, Method, Problem, Request, Response};
pub use server::{Address, Config, Failure};
