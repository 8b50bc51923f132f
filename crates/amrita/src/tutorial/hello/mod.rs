//! `amrita tutorial hello`: Hello World that does not die. AMBROSIA's sample with its three
//! clients, and then its walkthrough of active standbys: the server's primary is killed again and
//! again, and so are whole nodes, while a client goes on sending numbered messages.

mod play;
mod transcript;

use std::time::Instant;

use super::HelloOptions;
use super::cluster::Cluster;
use super::story::{Story, line, shown};
use play::Play;

/// Steps that the story has.
const STEPS: usize = 10;

/// # Errors
/// At the first thing that goes otherwise than told.
pub(super) async fn run(options: &HelloOptions) -> Result<(), String> {
    let began = Instant::now();
    let title = "Hello World, highly available: active standbys";
    let story = Story::begin(title, STEPS);
    let cluster = Cluster::prepare(&options.place, "hello")?;
    let mut play = Play::new(story, cluster, options.failovers);
    if let Err(why) = play.all().await {
        return Err(play.broke(&why));
    }
    line(&format!("\nEverything was as told. It took {}.", shown(began.elapsed())));
    Ok(())
}
