//! Programs that have the handlers of a kind, and nodes that die between a call and its answer.

use protocol::service::Answer;
use protocol::{Method, Request};
use serde_json::{Value, json};

use crate::setup::Setup;
use crate::{formed, is_whole, patch};

pub(crate) const COUNTERS: &str = "/app/counters";

fn count(number: u64) -> Answer {
    Answer::State(json!({ "count": number }).to_string().into())
}

/// Three nodes, a kind whose PATCH is a program's, and a document of it that `owner` owns.
pub(crate) fn with_a_counter(owner: usize) -> (Setup, String) {
    let mut setup = formed(3);
    let schema = json!({"type": "object", "properties": {"count": {"type": "integer"}}});
    let definition = json!({"link": COUNTERS, "schema": schema, "handlers": ["patch"]});
    made(&mut setup, "/core/factories", &definition);
    for name in 0..100 {
        let link = format!("{COUNTERS}/c{name}");
        let key = Request::new(Method::Post, "/core/node-selectors/default")
            .with_json(&json!({ "key": link }));
        let ticket = setup.ask(owner, key);
        let select = setup.answer(owner, ticket).expect("it is answered at once").to_json();
        if select["isLocalHostOwner"] == true {
            let body = json!({ "documentSelfLink": link, "count": 0 });
            made(&mut setup, COUNTERS, &body);
            return (setup, link);
        }
    }
    panic!("node {owner} owns nothing");
}

fn made(setup: &mut Setup, factory: &str, body: &Value) {
    let ticket = setup.ask(0, Request::new(Method::Post, factory).with_json(body));
    setup.until("it is made", |setup| setup.answer(0, ticket).is_some());
    let answer = setup.answer(0, ticket).expect("it is there");
    assert_eq!(answer.status, 200, "{}", answer.to_json());
}

fn plus_one(link: &str) -> Request {
    let mut request = patch(link, &json!({ "count": 1 }));
    request.idempotency_key = Some("plus one".into());
    request
}

/// The document, by a linearizable read.
fn look_at(setup: &mut Setup, node: usize, link: &str) -> Value {
    let ticket = setup.ask(node, Request::new(Method::Get, link));
    setup.until("it is read", |setup| setup.answer(node, ticket).is_some());
    setup.answer(node, ticket).expect("it is there").to_json()
}

#[test]
fn a_call_whose_node_dies_is_made_at_another_node() {
    let (mut setup, link) = with_a_counter(0);
    let far = [setup.serve(1, COUNTERS), setup.serve(2, COUNTERS)];
    setup.run(50);
    let asked = setup.ask(0, plus_one(&link));
    setup.run(50);
    let nodes = [1, 2];
    let first = nodes.iter().position(|node| setup.calls(*node, far[node - 1]).len() == 1);
    let first = first.expect("one of them is asked");
    let other = 1 - first;
    assert!(setup.calls(nodes[other], far[other]).is_empty(), "one is asked, not both");
    setup.kill(nodes[first]);
    setup.until("the other one is asked", |setup| setup.calls(nodes[other], far[other]).len() == 1);
    let (number, call) = setup.calls(nodes[other], far[other])[0].clone();
    assert_eq!((call.link.as_str(), call.version), (link.as_str(), 1));
    assert!(setup.answer(0, asked).is_none(), "nobody has answered");
    setup.program_answers(nodes[other], far[other], number, count(1));
    setup.until("the client is answered", |setup| setup.answer(0, asked).is_some());
    assert_eq!(setup.answer(0, asked).map(|answer| answer.status), Some(200));
    let shown = look_at(&mut setup, 0, &link);
    assert_eq!((&shown["count"], &shown["documentVersion"]), (&json!(1), &json!(1)));
}

#[test]
fn an_answer_to_an_owner_that_was_replaced_has_no_effect() {
    let (mut setup, link) = with_a_counter(0);
    let program = setup.serve(2, COUNTERS);
    setup.run(50);
    let asked = setup.ask(1, plus_one(&link));
    setup.until("the program is asked", |setup| setup.calls(2, program).len() == 1);
    setup.kill(0);
    setup.until("the next owner asks it as well", |setup| setup.calls(2, program).len() == 2);
    let calls = setup.calls(2, program).to_vec();
    // The first answer is for the owner that is gone.
    setup.program_answers(2, program, calls[0].0, count(99));
    setup.run(100);
    assert!(setup.answer(1, asked).is_none(), "nobody waits for the first answer");
    setup.program_answers(2, program, calls[1].0, count(1));
    setup.until("the client is answered", |setup| setup.answer(1, asked).is_some());
    assert_eq!(setup.answer(1, asked).map(|answer| answer.status), Some(200));
    setup.start(0);
    setup.until("it is whole again", |setup| is_whole(setup, 0, 3));
    let shown = look_at(&mut setup, 0, &link);
    assert_eq!((&shown["count"], &shown["documentVersion"]), (&json!(1), &json!(1)));
    // A repeat is known, and nobody is asked.
    let again = setup.ask(0, plus_one(&link));
    setup.until("the repeat is answered", |setup| setup.answer(0, again).is_some());
    assert_eq!(setup.answer(0, again).map(|answer| answer.status), Some(200));
    assert!(setup.calls(2, program).is_empty(), "it was asked twice in all");
}
