//! The start-up sequences of AMBROSIA, byte for byte.

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use protocol::Term;
use protocol::immortal::{Message, ToNode, ToProgram};

use crate::wire::{
    a_fork, adapter, from_client, from_node, hear, load, loaded_adapter, options, tell,
};

/// Bytes from their digits; blanks are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|two| u8::try_from(two[0] * 16 + two[1]).unwrap()).collect()
}

fn start(payload: &'static [u8]) -> ToProgram {
    from_node(1, &[Message::Start { payload: Bytes::from_static(payload) }])
}

const PRIMARY: ToProgram = ToProgram::Primary { term: Term(1) };

const TAKE_BECOMING_PRIMARY_CHECKPOINT: &str =
    "07000000 1a000000 0000000000000000 ffffffffffffffff 02 0b";
const BECOMING_PRIMARY: &str = "07000000 1a000000 0000000000000000 ffffffffffffffff 02 0f";
const CHECKPOINT_ABC: &str = "07000000 1b000000 0000000000000000 feffffffffffffff 04 08 06 616263";

fn upgrading(active_active: bool) -> AmbrosiaOptions {
    AmbrosiaOptions { upgrade_to: 4, active_active, ..options() }
}

/// As the C# binding does it: its initial message has a length of its own inside.
#[test]
fn first_start() {
    let mut adapter = adapter(options());
    assert_eq!(tell(&mut adapter, &ToProgram::Genesis), hex(TAKE_BECOMING_PRIMARY_CHECKPOINT));
    let said = hear(&mut adapter, hex("0e 09 0a 68656c6c6f  04 08 06 616263"));
    let wanted = [
        ToNode::Initial(Bytes::from_static(b"\x0ahello")),
        ToNode::Checkpoint { request: 0 },
        ToNode::Chunk(Bytes::from_static(b"abc")),
        ToNode::CheckpointEnd { crc: 0x3524_41c2 },
    ];
    assert_eq!(said, wanted);
    assert_eq!(
        tell(&mut adapter, &start(b"\x0ahello")),
        hex("07000000 20000000 0000000000000000 0000000000000000 0e 09 0a 68656c6c6f")
    );
    assert_eq!(tell(&mut adapter, &PRIMARY), hex(""), "its first checkpoint has told it");
    assert_eq!(
        tell(&mut adapter, &from_client(2, &[a_fork(1, b"x")])),
        hex("07000000 1e000000 0000000000000000 0100000000000000 0a 00 00 02 01 78")
    );
}

/// The JavaScript binding sends its version, without a length inside.
#[test]
fn first_start_of_the_javascript_binding() {
    let mut adapter = adapter(options());
    tell(&mut adapter, &ToProgram::Genesis);
    let said = hear(&mut adapter, hex("0c 09 322e302e31"));
    assert_eq!(said, [ToNode::Initial(Bytes::from_static(b"2.0.1"))]);
    assert_eq!(
        tell(&mut adapter, &start(b"2.0.1")),
        hex("07000000 1f000000 0000000000000000 0000000000000000 0c 09 322e302e31")
    );
}

#[test]
fn recovery_alone() {
    let mut adapter = adapter(options());
    assert_eq!(load(&mut adapter, 1, b"abc"), hex(CHECKPOINT_ABC));
    assert_eq!(
        tell(&mut adapter, &from_client(2, &[a_fork(1, b"x")])),
        hex("07000000 1e000000 0000000000000000 0000000000000000 0a 00 00 02 01 78")
    );
    assert_eq!(tell(&mut adapter, &ToProgram::EndOfReplay { input: 2 }), hex(""));
    assert_eq!(tell(&mut adapter, &PRIMARY), hex(TAKE_BECOMING_PRIMARY_CHECKPOINT));
    assert_eq!(hear(&mut adapter, hex("04 08 06 646566")), [ToNode::Done { input: 2 }]);
}

/// An older TypeScript binding says its initial message again when it becomes primary.
#[test]
fn an_initial_message_after_recovery_is_passed_over() {
    let mut adapter = loaded_adapter(options(), 1);
    tell(&mut adapter, &PRIMARY);
    assert_eq!(hear(&mut adapter, hex("0e 09 0a 68656c6c6f  04 08 06 646566")), []);
}

#[test]
fn recovery_with_standbys() {
    let mut adapter = adapter(AmbrosiaOptions { active_active: true, ..options() });
    assert_eq!(load(&mut adapter, 1, b"abc"), hex(CHECKPOINT_ABC));
    tell(&mut adapter, &from_client(2, &[a_fork(1, b"x")]));
    assert_eq!(tell(&mut adapter, &ToProgram::EndOfReplay { input: 2 }), hex(""));
    assert_eq!(tell(&mut adapter, &PRIMARY), hex(BECOMING_PRIMARY));
}

#[test]
fn upgrade() {
    for active_active in [false, true] {
        let mut adapter = loaded_adapter(upgrading(active_active), 1);
        tell(&mut adapter, &from_client(2, &[a_fork(1, b"x")]));
        assert_eq!(tell(&mut adapter, &PRIMARY), hex(""), "the upgrade will tell it");
        let inputs = [Message::Upgrade { version: 4 }, Message::Skipped];
        assert_eq!(
            tell(&mut adapter, &from_node(3, &inputs)),
            hex("07000000 1a000000 0000000000000000 ffffffffffffffff 02 0a")
        );
        assert_eq!(hear(&mut adapter, hex("04 08 06 646566")), [ToNode::Done { input: 3 }]);
        assert_eq!(hear(&mut adapter, crate::wire::impulse("", 1, b"")).len(), 1);
        assert_eq!(
            tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 8 }),
            hex("07000000 1a000000 0000000000000000 ffffffffffffffff 02 02")
        );
        assert_eq!(
            hear(&mut adapter, hex("04 08 06 646566"))[1],
            ToNode::Checkpoint { request: 8 }
        );
    }
}

/// The inputs around an upgrade stand in records of their own, in their order.
#[test]
fn an_upgrade_keeps_its_place_in_the_log() {
    let mut adapter = loaded_adapter(upgrading(true), 1);
    let inputs = [a_fork(1, b"x"), Message::Upgrade { version: 4 }, a_fork(1, b"y")];
    assert_eq!(
        tell(&mut adapter, &from_client(2, &inputs)),
        hex("07000000 1e000000 0000000000000000 0000000000000000 0a 00 00 02 01 78
             07000000 1a000000 0000000000000000 ffffffffffffffff 02 0a
             07000000 1e000000 0000000000000000 0100000000000000 0a 00 00 02 01 79")
    );
}

/// A copy that replays an upgrade of the past takes itself for the primary, and may not be it.
#[test]
fn an_upgrade_in_replay_leaves_a_standby() {
    let mut adapter = loaded_adapter(upgrading(true), 1);
    tell(&mut adapter, &from_node(2, &[Message::Upgrade { version: 4 }]));
    assert_eq!(hear(&mut adapter, hex("04 08 06 646566")), [ToNode::Done { input: 2 }]);
    assert_eq!(hear(&mut adapter, crate::wire::impulse("", 1, b"")), []);
    assert_eq!(tell(&mut adapter, &PRIMARY), hex(""));
    assert_eq!(hear(&mut adapter, "").len(), 1, "the impulse has waited");
}

#[test]
fn an_upgrade_to_another_version_is_not_told() {
    let mut adapter = loaded_adapter(upgrading(true), 1);
    assert_eq!(tell(&mut adapter, &from_node(2, &[Message::Upgrade { version: 5 }])), hex(""));
    let mut adapter = loaded_adapter(options(), 1);
    assert_eq!(tell(&mut adapter, &from_node(2, &[Message::Upgrade { version: 3 }])), hex(""));
}

#[test]
fn replay_for_debugging() {
    let mut adapter = adapter(options());
    assert_eq!(load(&mut adapter, 1, b"abc"), hex(CHECKPOINT_ABC));
    tell(&mut adapter, &from_client(2, &[a_fork(1, b"x")]));
    assert_eq!(tell(&mut adapter, &ToProgram::EndOfReplay { input: 2 }), hex(""));
}

#[test]
fn upgrade_test() {
    let mut adapter = AmbrosiaAdapter::new(upgrading(true)).test_upgrade();
    hear(&mut adapter, "");
    assert_eq!(
        load(&mut adapter, 1, b"abc"),
        hex(&format!("{CHECKPOINT_ABC} 07000000 1a000000 0000000000000000 ffffffffffffffff 02 0c"))
    );
    assert_eq!(tell(&mut adapter, &from_node(2, &[Message::Upgrade { version: 4 }])), hex(""));
    assert_eq!(
        tell(&mut adapter, &from_client(3, &[a_fork(1, b"x")])),
        hex("07000000 1e000000 0000000000000000 0000000000000000 0a 00 00 02 01 78")
    );
}

/// AMBROSIA's coordinator tells nothing between a request for a checkpoint and its last byte, and
/// the JavaScript binding dies when it is asked for a second one meanwhile.
#[test]
fn nothing_is_to_be_told_before_a_checkpoint_has_come() {
    let mut adapter = adapter(options());
    assert!(!adapter.is_taking_checkpoint());
    tell(&mut adapter, &ToProgram::Genesis);
    assert!(adapter.is_taking_checkpoint());
    hear(&mut adapter, hex("0c 09 322e302e31"));
    assert!(adapter.is_taking_checkpoint());
    hear(&mut adapter, hex("04 08 06 61"));
    assert!(adapter.is_taking_checkpoint(), "two more bytes");
    hear(&mut adapter, hex("62"));
    assert!(adapter.is_taking_checkpoint(), "one more byte");
    hear(&mut adapter, hex("63"));
    assert!(!adapter.is_taking_checkpoint());

    let mut adapter = loaded_adapter(options(), 1);
    assert!(!adapter.is_taking_checkpoint(), "it was given one");
    tell(&mut adapter, &PRIMARY);
    assert!(adapter.is_taking_checkpoint());
    hear(&mut adapter, hex("04 08 00"));
    assert!(!adapter.is_taking_checkpoint(), "an empty one is one");
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 8 });
    assert!(adapter.is_taking_checkpoint());
    hear(&mut adapter, hex("04 08 02 61"));
    assert!(!adapter.is_taking_checkpoint());

    let mut adapter = loaded_adapter(upgrading(true), 1);
    tell(&mut adapter, &from_node(2, &[Message::Upgrade { version: 4 }]));
    assert!(adapter.is_taking_checkpoint(), "of the new state");
    hear(&mut adapter, hex("04 08 06 646566"));
    assert!(!adapter.is_taking_checkpoint());
}

#[test]
fn to_become_the_primary_is_no_checkpoint_with_standbys() {
    let mut adapter = loaded_adapter(AmbrosiaOptions { active_active: true, ..options() }, 1);
    tell(&mut adapter, &PRIMARY);
    assert!(!adapter.is_taking_checkpoint());
}
