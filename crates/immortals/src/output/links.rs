//! Messages to links of documents. Those to all documents of a partition are one stream, since a
//! partition remembers one number for each instance: see [`protocol::instance_write`].

use bytes::Bytes;
use protocol::GroupId;
use protocol::immortal::{Garbled, Message, messages, put_message};
use protocol::instance_write::{partition_of_write, put_link, stream_to};

use crate::adapter::MESSAGE_BYTES_MAX;

/// Messages that go to one stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ToStream {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) messages: Bytes,
}

/// What is said to a link, as what is sent to its partition: each message has the link. An action
/// goes to the partition of its document, so a SEND may have messages for two.
///
/// # Errors
/// When they are no messages, or such as no document takes, or more than fit: their links alone
/// would take more than a SEND may.
pub(crate) fn to_partitions(
    link: &str,
    said: Bytes,
    partitions: u32,
) -> Result<Vec<ToStream>, Garbled> {
    let mut all: Vec<(GroupId, u64, Vec<u8>)> = Vec::new();
    let mut of_links = 0;
    for message in messages(said) {
        of_links += link.len();
        if of_links > MESSAGE_BYTES_MAX {
            return Err(Garbled::expected("fewer messages to so long a link in one SEND"));
        }
        let message = with_link(link, message?)?;
        let (Message::Fork { method, .. } | Message::Call { method, .. }) = message else {
            unreachable!("it was just made one of them")
        };
        let group = partition_of_write(link, method, partitions);
        let place = all.iter().position(|(known, ..)| *known == group).unwrap_or(all.len());
        if place == all.len() {
            all.push((group, 0, Vec::new()));
        }
        let (_, count, out) = &mut all[place];
        *count += 1;
        put_message(out, &message);
    }
    let to_stream = |(group, count, messages): (GroupId, u64, Vec<u8>)| ToStream {
        name: stream_to(group),
        count,
        messages: messages.into(),
    };
    Ok(all.into_iter().map(to_stream).collect())
}

fn with_link(link: &str, message: Message) -> Result<Message, Garbled> {
    match message {
        Message::Fork { method, payload } => {
            Ok(Message::Fork { method, payload: put_link(link, &payload) })
        }
        Message::Call { id, method, payload } => {
            Ok(Message::Call { id, method, payload: put_link(link, &payload) })
        }
        _ => Err(Garbled::expected("only FORK and CALL to the link of a document")),
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::Status;
    use protocol::instance_write::WriteMethod;

    use super::*;

    fn said(all: &[Message]) -> Bytes {
        let mut out = Vec::new();
        all.iter().for_each(|message| put_message(&mut out, message));
        out.into()
    }

    fn fork(method: WriteMethod) -> Message {
        Message::Fork { method: method.number(), payload: Bytes::from_static(b"{}") }
    }

    #[test]
    fn messages_to_documents_of_one_partition_are_one_stream() {
        let call = Message::Call { id: 7, method: 3, payload: Bytes::from_static(b"[1]") };
        let all = said(&[fork(WriteMethod::Post), call, fork(WriteMethod::Delete)]);
        for link in ["/app/seats/A1", "/app/orders/7"] {
            let [stream] = &to_partitions(link, all.clone(), 1).unwrap()[..] else { panic!("one") };
            assert_eq!((stream.name.as_str(), stream.count), ("/1", 3));
            let found: Vec<Message> =
                messages(stream.messages.clone()).map(Result::unwrap).collect();
            let payload = put_link(link, b"[1]");
            assert_eq!(found[1], Message::Call { id: 7, method: 3, payload });
        }
    }

    #[test]
    fn an_action_and_a_change_at_one_link_may_go_to_two_partitions() {
        let (act, post) = (fork(WriteMethod::Act), fork(WriteMethod::Post));
        let all = said(&[act.clone(), post, act]);
        let link = "/app/seats/A1/actions/hold";
        let streams = to_partitions(link, all, 4096).unwrap();
        assert_eq!(streams.iter().map(|it| it.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn nothing_else_is_said_to_a_document() {
        let payload = Bytes::new();
        for wrong in [
            Message::Answer { id: 1, status: Status::Empty, payload: payload.clone() },
            Message::Impulse { method: 1, payload },
            Message::Skipped,
        ] {
            assert!(to_partitions("/a/b", said(&[wrong]), 1).is_err());
        }
        assert!(to_partitions("/a/b", Bytes::from_static(&[9, 0]), 1).is_err(), "cut short");
    }

    #[test]
    fn what_becomes_of_a_send_is_bounded() {
        let link = format!("/a/{}", "x".repeat(1_000));
        let one_too_many = MESSAGE_BYTES_MAX / link.len() + 1;
        let many = said(&vec![fork(WriteMethod::Patch); one_too_many]);
        assert!(many.len() < 1 << 20, "they take little as they are said");
        assert!(to_partitions(&link, many, 1).is_err());
    }
}
