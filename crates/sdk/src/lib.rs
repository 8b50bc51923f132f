//! What a Rust program imports: to write services and tasks and run them in a node of its own
//! ([`service`], [`Host`]), to write a program that does not die ([`immortal`]), or to be a client of a
//! cluster ([`Client`]).

mod client;
mod host;
pub mod immortal;
pub mod service;
mod wire;

pub use client::{Client, ClientError, request};
pub use host::Host;
pub use protocol::{BodyType, Method, Problem, Request, Response};
pub use server::{Address, Config, Failure};
