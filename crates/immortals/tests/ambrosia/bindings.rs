//! Whole lives of a program, with a binding that speaks as AMBROSIA's C# binding does, and a core
//! that does no more than keep a log and a checkpoint.

mod binding;
mod core;

use self::binding::{App, Binding};
use self::core::Core;
use crate::wire::options;
use immortals::ambrosia::AmbrosiaOptions;

fn server_options() -> AmbrosiaOptions {
    options()
}

fn client_options() -> AmbrosiaOptions {
    AmbrosiaOptions { instance: "client".to_owned(), ..options() }
}

fn standby(options: AmbrosiaOptions) -> AmbrosiaOptions {
    AmbrosiaOptions { active_active: true, ..options }
}

/// The answers of the server to three messages.
fn three_answers() -> Vec<(String, i64, Vec<u8>)> {
    (1..=3).map(|count| ("client".to_owned(), 2, vec![count])).collect()
}

#[test]
fn a_server_starts_counts_and_answers() {
    let mut core = Core::default();
    let mut server = core.start(server_options(), Binding::new(App::Server));
    core.become_primary(&mut server);
    for text in ["Hello World 1!", "Hello World 2!", "Hello World 3!"] {
        core.message(&mut [&mut server], text);
    }
    assert_eq!(
        server.binding.state.messages,
        ["Hello World 1!", "Hello World 2!", "Hello World 3!"]
    );
    assert_eq!(server.sent, three_answers());
    assert_eq!(server.binding.first_starts, 1);
    assert_eq!(server.binding.becomings, 1);
}

#[test]
fn a_server_recovers_alone() {
    let mut core = Core::default();
    let mut server = core.start(server_options(), Binding::new(App::Server));
    core.become_primary(&mut server);
    core.message(&mut [&mut server], "one");
    core.take_checkpoint(&mut server);
    assert_eq!(server.done, 2, "START and one message");
    core.message(&mut [&mut server], "two");
    drop(server);

    let mut server = core.start(server_options(), Binding::new(App::Server));
    assert_eq!(server.binding.state.messages, ["one", "two"]);
    assert_eq!(server.sent, three_answers()[1..2], "said again in replay");
    assert_eq!(server.binding.becomings, 0);
    core.become_primary(&mut server);
    assert_eq!(server.binding.becomings, 1);
    assert_eq!(server.done, 3, "its checkpoint was not wanted, but shows what is handled");
    core.message(&mut [&mut server], "three");
    assert_eq!(server.sent, three_answers()[1..]);
    assert_eq!(server.binding.first_starts, 0, "START lies before the checkpoint");
}

#[test]
fn a_standby_takes_over_with_the_same_state_and_outputs() {
    let mut core = Core::default();
    let mut first = core.start(standby(server_options()), Binding::new(App::Server));
    core.become_primary(&mut first);
    let mut second = core.start(standby(server_options()), Binding::new(App::Server));
    core.message(&mut [&mut first, &mut second], "one");
    core.message(&mut [&mut first, &mut second], "two");
    assert_eq!(first.binding.state, second.binding.state);
    assert_eq!(first.sent, second.sent);
    // The checkpoint is taken on the standby, while the primary goes on.
    core.take_checkpoint(&mut second);
    drop(first);

    core.become_primary(&mut second);
    assert_eq!(second.binding.becomings, 1);
    core.message(&mut [&mut second], "three");
    assert_eq!(second.sent, three_answers());
    let third = core.start(standby(server_options()), Binding::new(App::Server));
    assert_eq!(third.binding.state, second.binding.state);
    assert_eq!(third.sent, three_answers()[2..]);
}

/// Client1 of the sample sends from its first start. Restarted, it sends the same again, and the
/// core drops by number what was sent before.
#[test]
fn a_client_that_is_restarted_sends_the_same() {
    let mut core = Core::default();
    let mut client = core.start(client_options(), Binding::new(App::Client));
    core.become_primary(&mut client);
    let sent = client.sent.clone();
    let texts: Vec<&[u8]> = sent.iter().map(|(_, _, text)| &text[..]).collect();
    assert_eq!(texts, [b"Hello World 1!", b"Hello World 2!", b"Hello World 3!"]);
    assert!(sent.iter().all(|(destination, ..)| destination == "server"));
    drop(client);

    let client = core.start(client_options(), Binding::new(App::Client));
    assert_eq!(client.sent, sent);
    assert_eq!(client.binding.first_starts, 1, "replayed from the first checkpoint");
}

/// Client2 of the sample: what is typed is an impulse to itself, and its handler sends to the
/// server.
#[test]
fn an_impulse_is_logged_and_handled_by_each_copy() {
    let mut core = Core::default();
    let mut first = core.start(standby(client_options()), Binding::new(App::Client));
    // An impulse that is typed before the core has said PRIMARY waits.
    core.impulse(&mut first, "early");
    assert_eq!(core.impulses, 0);
    core.become_primary(&mut first);
    assert_eq!(core.impulses, 1);
    core.impulse(&mut first, "typed");
    let second = core.start(standby(client_options()), Binding::new(App::Client));
    assert_eq!(first.binding.state, second.binding.state);
    assert_eq!(second.sent, first.sent);
    assert_eq!(
        second.sent[3..],
        [("server".to_owned(), 1, b"early".to_vec()), ("server".to_owned(), 1, b"typed".to_vec()),]
    );
}

#[test]
fn a_standby_upgrades_and_goes_on_with_the_new_code() {
    let mut core = Core::default();
    let mut old = core.start(standby(server_options()), Binding::new(App::Server));
    core.become_primary(&mut old);
    core.message(&mut [&mut old], "one");
    let options = AmbrosiaOptions { upgrade_to: 4, ..standby(server_options()) };
    let mut new = core.start(options, Binding::new(App::Server));
    drop(old);
    core.become_primary(&mut new);
    core.message(&mut [&mut new], "two");
    assert_eq!(new.binding.becomings, 0, "the upgrade tells it");
    core.upgrade(&mut [&mut new], 4);
    assert_eq!(new.binding.becomings, 1);
    assert_eq!(new.binding.upgrades, 1);
    core.message(&mut [&mut new], "three");
    assert_eq!(new.binding.state.messages, ["one", "two", "THREE"]);
    core.take_checkpoint(&mut new);
    let options =
        AmbrosiaOptions { program_version: 4, upgrade_to: 4, ..standby(server_options()) };
    let after = core.start(options, Binding::new(App::Server));
    assert_eq!(after.binding.state, new.binding.state);
}

#[test]
fn an_upgrade_is_tested_on_the_old_log() {
    let mut core = Core::default();
    let mut old = core.start(standby(server_options()), Binding::new(App::Server));
    core.message(&mut [&mut old], "one");
    let options = AmbrosiaOptions { upgrade_to: 4, ..standby(server_options()) };
    let tested = core.start_tested(options, Binding::new(App::Server));
    assert_eq!(tested.binding.state.messages, ["ONE"]);
    assert_eq!(tested.binding.becomings, 0);
}
