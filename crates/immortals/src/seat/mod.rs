//! The place for one program beside a replica: what the program was told, what it has sent, and how
//! far it has come.

pub(crate) mod checks;
pub(crate) mod connection;
pub(crate) mod cursor;
pub(crate) mod health;
pub(crate) mod running;
pub(crate) mod states;
pub(crate) mod taking;
pub(crate) mod window;
