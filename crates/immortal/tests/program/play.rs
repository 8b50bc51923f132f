//! Programs in plays, as users test them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use immortal::testing::{FakeNode, Message, Play, Said};
use immortal::{Context, Immortal, Incoming, Outcome, RunError};
use serde::{Deserialize, Serialize};

use crate::bank::{BankProxy, PERFORMED, Vault};

fn bank() -> Play {
    Play::with_initial("bank", &(100_u64,), Vault::default)
}

fn texts(said: Vec<Said>) -> Vec<String> {
    said.iter()
        .filter(|said| said.to == "log")
        .map(|said| said.arguments::<(String,)>().0)
        .collect()
}

#[test]
fn calls_are_answered_with_values_and_refusals() {
    let mut play = bank();
    let balance = play.call("client", BankProxy::me().balance());
    let good = play.call("client", BankProxy::me().withdraw(30));
    let bad = play.call("client", BankProxy::me().withdraw(71));
    let done = play.call("client", BankProxy::me().deposit(1));
    assert_eq!(play.answer_to::<u64>("client", balance), Ok(100));
    assert_eq!(play.answer_to::<u64>("client", good), Ok(70));
    assert_eq!(play.answer_to::<u64>("client", bad), Err("only 70 is there".into()));
    assert_eq!(play.answer_to::<()>("client", done), Ok(()));
    play.check().unwrap();
}

#[test]
fn a_reply_is_kept_over_a_crash() {
    let mut play = bank();
    let call = play.call("client", BankProxy::me().when_rich(150));
    play.checkpoint();
    play.fork("other", BankProxy::me().deposit(20));
    play.crash();
    play.fork("other", BankProxy::me().deposit(30));
    assert_eq!(play.answer_to::<u64>("client", call), Ok(150));
    play.check().unwrap();
}

#[test]
fn timers_fire_at_their_time_unless_they_are_cancelled() {
    let mut play = bank();
    play.fork("client", BankProxy::me().remind("milk".into(), 60));
    play.wait(Duration::from_secs(59));
    assert!(play.said().is_empty());
    play.crash();
    play.wait(Duration::from_secs(1));
    assert_eq!(texts(play.said()), ["remember milk at 1700000060000000"]);
    play.fork("client", BankProxy::me().remind("bread".into(), 60));
    play.fork("client", BankProxy::me().forget());
    play.fork("client", BankProxy::me().forget());
    play.wait(Duration::from_secs(600));
    assert_eq!(texts(play.said()), ["forgotten: true", "forgotten: false"]);
    play.check().unwrap();
}

#[test]
fn answers_come_back_to_what_was_to_be_done_next() {
    let mut play = bank();
    for _ in 0..2 {
        play.fork("client", BankProxy::me().fetch(BankProxy::at("other"), 5));
    }
    let calls: Vec<u64> = play
        .said()
        .iter()
        .map(|said| match said.message {
            Message::Call { id, method: 2, .. } if said.to == "other" => id,
            _ => panic!("{said:?}"),
        })
        .collect();
    play.checkpoint();
    play.crash();
    // An answer of somebody else, or to nothing, is no answer.
    play.answer("thief", calls[0], &9);
    play.answer("other", 4_711, &9);
    assert!(play.said().is_empty());
    play.answer("other", calls[1], &42);
    play.refuse("other", calls[0], "closed");
    play.answer("other", calls[0], &43);
    let refused = r#"other has left Err(Refused("closed"))"#;
    assert_eq!(texts(play.said()), ["other has left Ok(42)", refused]);
    play.check().unwrap();
}

#[test]
fn the_result_of_an_effect_is_taken_once_and_kept() {
    let mut play = bank();
    let before = PERFORMED.load(Ordering::SeqCst);
    play.fork("client", BankProxy::me().ask_rate("gone".into()));
    play.fork("client", BankProxy::me().ask_rate("panic".into()));
    play.fork("client", BankProxy::me().ask_rate("gold".into()));
    let first = texts(play.said());
    assert_eq!(first[0], "gone is no such currency");
    assert_eq!(first[1], "panic is the machine is broken");
    assert!(first[2].starts_with("gold is gold number"));
    assert_eq!(PERFORMED.load(Ordering::SeqCst), before + 3);
    play.crash();
    play.check().unwrap();
    assert_eq!(PERFORMED.load(Ordering::SeqCst), before + 3, "replay does nothing outside");
}

#[test]
fn what_a_program_says_to_itself_comes_back_as_an_input() {
    let mut play = bank();
    play.impulse(BankProxy::me().count_down(3));
    assert_eq!(texts(play.said()), ["3", "2", "1", "0"]);
    assert_eq!(play.inputs(), 5);
    play.check().unwrap();
}

#[test]
fn chance_is_the_same_on_every_copy_and_not_the_same_twice() {
    let mut play = bank();
    let calls: Vec<u64> = (0..20).map(|_| play.call("client", BankProxy::me().lottery())).collect();
    let mut seen: Vec<(u64, u64)> =
        calls.iter().map(|call| play.answer_to("client", *call).unwrap()).collect();
    assert!(seen.iter().all(|(_, small)| *small < 6));
    seen.sort_unstable();
    seen.dedup_by_key(|(number, _)| *number);
    assert_eq!(seen.len(), 20);
    play.check().unwrap();
}

#[test]
fn a_message_that_makes_no_sense_changes_nothing() {
    let mut play = bank();
    let call = |id, method, payload: &'static str| Message::Call {
        id,
        method,
        payload: payload.as_bytes().into(),
    };
    play.message_from("client", call(101, 1, r#"["many"]"#));
    play.message_from("client", call(102, 99, "[]"));
    play.message_from("client", call(103, -5, "[]"));
    play.message_from("client", call(104, 1, "\u{0}"));
    let fork = Message::Fork { method: 1, payload: b"nonsense"[..].into() };
    play.message_from("client", fork);
    play.message_from("client", Message::Skipped);
    assert!(play.answer_to::<()>("client", 101).unwrap_err().contains("arguments of method 1"));
    assert_eq!(play.answer_to::<()>("client", 102), Err("there is no method 99".into()));
    assert!(play.answer_to::<()>("client", 103).unwrap_err().contains("reserved"));
    assert!(play.answer_to::<()>("client", 104).is_err());
    let balance = play.call("client", BankProxy::me().balance());
    assert_eq!(play.answer_to::<u64>("client", balance), Ok(100));
    play.check().unwrap();
}

#[test]
fn an_impulse_of_a_thread_beside_the_primary_is_handled() {
    // The thread is started after START has set the balance.
    let mut play = Play::with_initial("bank", &(77_u64,), Vault::default);
    play.wait_for_impulses(1);
    let balance = play.call("client", BankProxy::me().balance());
    assert_eq!(play.answer_to::<u64>("client", balance), Ok(78));
}

/// Says what it must not: something that no input brought.
#[derive(Default, Serialize, Deserialize)]
struct Cheat {
    handled: u64,
    /// Left out of the checkpoint: gone after a crash.
    #[serde(skip)]
    forgotten: u64,
    by: Cheating,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
enum Cheating {
    #[default]
    OutsideCounter,
    ForgottenField,
    StateOnly,
}

static OUTSIDE: AtomicU64 = AtomicU64::new(0);

impl Immortal for Cheat {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, _: Incoming<'_>) {
        self.forgotten += 1;
        let outside = OUTSIDE.fetch_add(1, Ordering::SeqCst);
        let said = match self.by {
            Cheating::OutsideCounter => outside,
            Cheating::ForgottenField => self.forgotten,
            Cheating::StateOnly => {
                self.handled = outside;
                0
            }
        };
        context.fork("log", 1, format!("[{said}]").as_bytes());
    }

    fn resume(&mut self, _: &mut Context<'_, Self>, (): (), _: Outcome<'_>) {}
}

#[test]
fn a_program_that_is_not_deterministic_is_found() {
    for (by, clue) in [
        (Cheating::OutsideCounter, "at input 2"),
        (Cheating::ForgottenField, "loaded after input"),
        (Cheating::StateOnly, "the state at the end is another"),
    ] {
        let mut play = Play::new("cheat", move || Cheat { by, ..Cheat::default() });
        for _ in 0..3 {
            play.message_from("x", Message::Fork { method: 1, payload: b"[]"[..].into() });
        }
        let why = play.check().unwrap_err();
        assert!(why.starts_with("not deterministic") && why.contains(clue), "{why}");
    }
}

#[derive(Serialize, Deserialize)]
struct Unordered(HashMap<u64, u64>);

impl Immortal for Unordered {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, _: &mut Context<'_, Self>, _: Incoming<'_>) {}
}

#[test]
fn a_first_state_without_an_order_is_refused_at_once() {
    let node = FakeNode::start("map", || Unordered((0..50).map(|n| (n, n)).collect()));
    for _ in 0..3 {
        let mut attached = node.accept();
        attached.send(&immortal::testing::ToProgram::Genesis);
        while attached.frame().is_some() {}
    }
    let Err(RunError::Fault { input: 0, text }) = node.ended() else { panic!("it must fail") };
    assert!(text.contains("a HashMap in it"), "{text}");
}
