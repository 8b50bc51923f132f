//! The house rules, as tests: who may import whom, what a core must not touch, the shape of files
//! and structs, the words, and that the docs say what is so.
//!
//! Each rule is a function from text to complaints, so that a test of the rule can show it a text
//! that breaks it. Where the house does not keep a rule yet, a list names the exceptions, and the
//! list may only shrink.

mod circles;
mod crates;
mod docs;
mod limits;
mod logs;
mod packages;
mod shape;
mod source;
mod tree;
mod words;
