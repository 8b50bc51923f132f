//! Calls of programs that have the handlers of kinds: from owners here and at other nodes, to
//! copies here and at other nodes. What is replicated is what a call gives, so a call may be made
//! again at any time, and an answer that nobody waits for any more is thrown away.

mod calls;
mod copies;
mod lines;
#[cfg(test)]
mod tests;
pub(crate) mod words;

pub(crate) use calls::Serving;
pub(crate) use copies::LetGo;
