//! One node as one value: groups, documents and services joined behind one `step`.

mod io;

pub use io::{Input, Level, NodeConfig, Output, Timing};
