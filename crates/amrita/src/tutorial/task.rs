//! `amrita tutorial task`: one job for the whole cluster, done once although its owner is killed
//! twice in mid-work.

use super::TaskOptions;

pub(super) async fn run(options: &TaskOptions) -> Result<(), String> {
    Err(format!("not there yet: {options:?}"))
}
