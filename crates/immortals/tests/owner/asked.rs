//! What is said to those who want something of an owner that takes no inputs.

use bytes::Bytes;
use immortals::{Input, Request, Response};

use super::{Owner, TERM};

impl Owner {
    fn is_asked(&mut self) -> Response {
        self.answers.clear();
        let (from, payload) = ("rest".to_owned(), Bytes::from_static(b"1"));
        let request = Request::Impulse { from, method: 1, payload, key: None };
        self.step(Input::Request { ticket: 1, request });
        self.answers.pop().expect("there is an answer at once")
    }
}

#[test]
fn while_another_program_may_come_an_impulse_is_asked_to_come_again() {
    let mut owner = Owner::new();
    assert!(matches!(owner.is_asked(), Response::Done { .. }));
    let program = owner.program;
    owner.step(Input::Detached { program });
    for _ in 0..9 {
        let told = owner.is_asked();
        assert!(matches!(&told, Response::NotNow(why) if why.contains("try again")), "{told:?}");
        owner.waits(1_000_000);
    }
    owner.waits(1_000_000);
    let told = owner.is_asked();
    assert!(matches!(&told, Response::Refused(why) if why.contains("start one")), "{told:?}");
    owner.attach(0, 0);
    assert!(matches!(owner.is_asked(), Response::Done { .. }));
}

#[test]
fn an_instance_that_never_had_a_program_says_so_at_once() {
    let mut owner = Owner::replica(1, &[1]);
    owner.leads(TERM);
    let told = owner.is_asked();
    assert!(matches!(&told, Response::Refused(why) if why.contains("start one")), "{told:?}");
}

#[test]
fn while_a_program_on_another_node_lives_an_impulse_is_asked_to_come_again() {
    let former = Owner::new();
    let mut owner = Owner::beside(&former);
    owner.leads(TERM);
    owner.waits(20_000_000);
    assert!(matches!(owner.is_asked(), Response::Refused(_)));
    owner.hears_of_a_program_that_has_handled(0);
    assert!(matches!(owner.is_asked(), Response::NotNow(_)));
}
