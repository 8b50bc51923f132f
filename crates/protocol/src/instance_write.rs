//! What an instance of an immortal writes to documents. A write is a message to a link, which is
//! numbered as every message of an instance is; the partition of the document takes each once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::immortal::{Garbled, Taker, put_text};
use crate::{GroupId, links};

/// What is to be done at a link: the method of a message to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMethod {
    /// The document is made. The factory is what the link is in.
    Post = 1,
    Put = 2,
    Patch = 3,
    Delete = 4,
    /// An action of the document, at a link such as `/app/seats/A1/actions/hold`.
    Act = 5,
}

impl WriteMethod {
    pub const ALL: [Self; 5] = [Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Act];

    /// The method with that number, if there is one.
    pub fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.number() == number)
    }

    pub fn number(self) -> i64 {
        self as i64
    }
}

/// Whether a destination is a link, and no name of an instance.
pub fn is_link(destination: &str) -> bool {
    destination.starts_with('/')
}

/// The document that a message to a link is about. Nothing but the message decides about that: all
/// copies of a program must say the same, whatever kinds are known where they run.
fn document_of(link: &str, method: i64) -> &str {
    let action = || links::split(link)?.0.strip_suffix("/actions");
    let document = if method == WriteMethod::Act.number() { action() } else { None };
    document.unwrap_or(link)
}

/// The partition that takes a message to a link.
pub fn partition_of_write(link: &str, method: i64, partitions: u32) -> GroupId {
    links::partition(document_of(link, method), partitions)
}

/// The name of the stream of all messages to links of a partition. No instance has such a name.
pub fn stream_to(partition: GroupId) -> String {
    format!("/{}", partition.0)
}

/// The partition that a stream goes to, by its name; `None` when it goes to an instance.
pub fn partition_of_stream(name: &str) -> Option<GroupId> {
    let group = GroupId(name.strip_prefix('/')?.parse().ok()?);
    group.is_partition().then_some(group)
}

/// The payload of a message in such a stream: the link, and the body as the program gave it.
pub fn put_link(link: &str, body: &[u8]) -> Bytes {
    let mut payload = Vec::with_capacity(link.len() + body.len() + 2);
    put_text(&mut payload, link);
    payload.extend_from_slice(body);
    payload.into()
}

/// What [`put_link`] has put together.
///
/// # Errors
/// When it is something else.
pub fn take_link(payload: Bytes) -> Result<(String, Bytes), Garbled> {
    let mut from = Taker::new(payload);
    let link = from.text("a link")?;
    Ok((link, from.rest()))
}

/// The place of a write among all that its instance has sent to the partition. A partition that has
/// noted `after` for that instance takes it, and notes `number`; no other one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    pub partition: GroupId,
    /// The group of the instance.
    pub instance: GroupId,
    /// The number before it: lower by more than one only when messages between them are lost.
    pub after: u64,
    pub number: u64,
    /// Who wants to know what became of it.
    pub asker: Option<Asker>,
}

/// Where the outcome of a write goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The name of the instance.
    pub instance: String,
    /// The link as the program gave it. The answer comes from there.
    pub link: String,
    /// Of the call.
    pub id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_goes_to_the_partition_of_its_document() {
        let partition = |link, method: WriteMethod| partition_of_write(link, method.number(), 4096);
        let document = partition("/app/seats/A1", WriteMethod::Patch);
        assert_eq!(partition("/app/seats/A1/actions/hold", WriteMethod::Act), document);
        assert_ne!(partition("/app/seats/A1/actions/hold", WriteMethod::Post), document);
        assert_ne!(partition("/app/seats/A2", WriteMethod::Patch), document);
        // What is no action goes somewhere, and is refused there.
        for wrong in ["/", "//", "/actions/x", "/app"] {
            partition(wrong, WriteMethod::Act);
        }
    }

    #[test]
    fn the_name_of_a_stream_is_no_link_and_no_instance() {
        let partition = GroupId(17);
        assert_eq!(partition_of_stream(&stream_to(partition)), Some(partition));
        assert!(!crate::is_instance_name(&stream_to(partition)));
        for other in ["17", "/app/seats", "/", "/0", "/1048576", "/x", "ledger"] {
            assert_eq!(partition_of_stream(other), None, "{other}");
        }
    }

    #[test]
    fn a_link_and_a_body_come_apart_again() {
        let payload = put_link("/app/seats/A1", b"{}");
        let (link, body) = take_link(payload.clone()).unwrap();
        assert_eq!((link.as_str(), &body[..]), ("/app/seats/A1", &b"{}"[..]));
        assert!(take_link(payload.slice(..5)).is_err());
    }

    #[test]
    fn methods_have_numbers() {
        assert!(WriteMethod::ALL.iter().all(|it| WriteMethod::of(it.number()) == Some(*it)));
        assert!(WriteMethod::of(0).is_none() && WriteMethod::of(6).is_none());
    }
}
