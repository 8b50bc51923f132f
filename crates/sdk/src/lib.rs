//! All that a Rust program can be, behind one import: services and tasks in a node of its own
//! ([`service`], [`Host`]), a program that does not die ([`immortal`]), or a client of a cluster
//! ([`Client`]).
//!
//! A node of one's own brings the whole server with it. Who writes an immortal or a client only
//! imports the crate [`immortal`] or `client` instead, and compiles nothing of the server.

mod host;
pub mod service;

pub use client::{Client, ClientError, request};
pub use host::Host;
pub use immortal;
pub use immortal::interface;
pub use protocol::{Address, BodyType, Method, Problem, Request, Response};
pub use server::{Config, Failure, Founding, Room, Security, Tuning};
