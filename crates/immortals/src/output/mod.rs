//! What the program has sent, and where it is kept until its receivers confirm it.

pub(crate) mod awaits;
pub(crate) mod links;
pub(crate) mod outline;
pub(crate) mod output_state;
pub(crate) mod spill;
pub(crate) mod stream;
