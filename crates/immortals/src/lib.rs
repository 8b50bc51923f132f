//! Immortals: programs that do not die. Their inputs are logged before they see them, and a copy that
//! stands by carries on when one is lost.
//!
//! [`ambrosia`] is the door for programs that were written for AMBROSIA's coordinator.

pub mod ambrosia;
