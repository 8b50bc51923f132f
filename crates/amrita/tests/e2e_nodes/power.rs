//! Losses of power of all nodes at once: what was not synced is gone, files, lengths and names.
//! `cargo xtask powercut` plays two hundred of them.

use std::path::Path;

use torture::power::Play;

const LOSSES: usize = 4;

fn play(lies: bool) -> Result<torture::power::Report, String> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let binary = Path::new(env!("CARGO_BIN_EXE_amrita"));
    let play = Play { lies, ..Play::in_folder(binary, folder.path(), LOSSES, 7) };
    play.run(&mut |_| {})
}

#[test]
fn what_was_acknowledged_survives_when_the_power_of_all_nodes_fails() {
    let _turn = crate::cluster::turn();
    let report = play(false).expect("nothing is lost or doubled");
    assert!(report.acknowledged > 0, "too little load to say anything");
    assert!(report.counted > LOSSES as u64, "the immortal counted too little: {report:?}");
    assert!(report.taken.bytes > 0, "nothing was taken away: {report:?}");
}

/// Else the test above would prove nothing.
#[test]
fn a_disk_that_syncs_nothing_is_found_out() {
    let _turn = crate::cluster::turn();
    let why = play(true).expect_err("a disk that keeps nothing loses something");
    assert!(why.contains("losses of power"), "{why}");
}
