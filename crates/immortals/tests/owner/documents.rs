//! The program writes to documents: all that goes to one partition is one stream.

use bytes::Bytes;
use immortals::{Between, Input, Lane};
use protocol::GroupId;
use protocol::immortal::{Message, ToNode, messages, put_message};
use protocol::instance_write::{WriteMethod, put_link, take_link};

use super::{GOOD, Owner};

/// How many partitions there are in these tests.
const PARTITIONS: u32 = 4;

/// Two links of one partition.
fn two_of(partition: GroupId) -> [String; 2] {
    let links = (0..).map(|number| format!("/app/seats/{number}"));
    let of = links.filter(|link| protocol::links::partition(link, PARTITIONS) == partition);
    let found: Vec<String> = of.take(2).collect();
    found.try_into().expect("there are many")
}

fn write_to(link: &str, body: &str) -> ToNode {
    let (method, payload) = (WriteMethod::Patch.number(), Bytes::from(body.to_owned()));
    let mut bytes = Vec::new();
    put_message(&mut bytes, &Message::Fork { method, payload });
    ToNode::Send { destination: link.to_owned(), count: 1, messages: bytes.into() }
}

fn ack(logged: u64, resend_from: Option<u64>) -> Between {
    Between::Ack { lane: Lane::Stream, logged, resend_from }
}

/// The first number of what is sent, and the link and the body of each write.
fn sent(said: &[Between]) -> (u64, Vec<(String, String)>) {
    let [Between::Send { first, messages: all, .. }] = said else { panic!("{said:?}") };
    let writes = messages(all.clone()).map(|message| {
        let Ok(Message::Fork { payload, .. }) = message else { panic!("{message:?}") };
        let (link, body) = take_link(payload).expect(GOOD);
        (link, String::from_utf8(body.to_vec()).expect(GOOD))
    });
    (*first, writes.collect())
}

#[test]
fn writes_to_documents_of_a_partition_are_sent_in_order_and_again_to_its_next_owner() {
    let partition = GroupId(3);
    let [one, two] = two_of(partition);
    let mut owner = Owner::new();
    let asked = owner.says(&write_to(&one, "[1]"));
    assert_eq!(asked, [Between::Probe { lane: Lane::Stream }]);
    let first = owner.step(Input::Between { from: partition, message: ack(0, Some(1)) });
    assert_eq!(sent(&first), (1, vec![(one.clone(), "[1]".into())]));
    let second = owner.says(&write_to(&two, "[2]"));
    assert_eq!(sent(&second), (2, vec![(two.clone(), "[2]".into())]));
    // Another owner has the first one, and wants the others.
    assert_eq!(
        owner.step(Input::OwnerChanged { group: partition }),
        [Between::Probe { lane: Lane::Stream }]
    );
    let again = owner.step(Input::Between { from: partition, message: ack(1, Some(2)) });
    assert_eq!(sent(&again), (2, vec![(two, "[2]".into())]));
    owner.step(Input::Between { from: partition, message: ack(2, None) });
    let to = owner.instance.destinations();
    assert_eq!((to[0].to.as_str(), to[0].sent, to[0].confirmed), ("/3", 2, 2));
}

#[test]
fn what_an_operator_is_shown_names_the_first_link_that_is_not_written() {
    let [one, two] = two_of(GroupId(2));
    let mut owner = Owner::new();
    owner.says(&write_to(&one, "[1]"));
    owner.says(&write_to(&two, "[2]"));
    assert_eq!(owner.instance.destinations()[0].first_link, Some(one));
    owner.step(Input::Between { from: GroupId(2), message: ack(1, Some(2)) });
    assert_eq!(owner.instance.destinations()[0].first_link, Some(two));
}

#[test]
fn a_document_takes_no_impulse_and_no_link_is_longer_than_a_link_may_be() {
    let refused = |frame: &ToNode| {
        let mut owner = Owner::new();
        owner.says(frame);
        owner.told_last
    };
    let mut message = Vec::new();
    put_message(&mut message, &Message::Impulse { method: 3, payload: put_link("/a/b", b"") });
    let destination = "/app/seats/1".to_owned();
    let impulse = ToNode::Impulse { number: 1, destination, message: message.into() };
    assert_eq!(refused(&impulse), "BAD_FRAME");
    let long = |bytes| format!("/{}", "x".repeat(bytes));
    assert_eq!(refused(&write_to(&long(1_024), "[]")), "BAD_FRAME");
    assert_eq!(refused(&write_to(&long(1_023), "[]")), "");
}
