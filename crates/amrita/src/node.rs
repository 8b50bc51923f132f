//! `amrita node`: one node in this process.

use std::io::Read;

use server::{Config, Host};

use crate::arguments::NodeOptions;
use crate::outcome::Outcome;
use crate::outcome::Trouble;

pub(crate) fn run(options: &NodeOptions) -> Outcome {
    let config = Config::load(&options.flags, |name| std::env::var(name).ok());
    let config = config.map_err(|failure| Trouble::usage(failure.to_string()))?;
    server::keep_files_private();
    server::start_logging(&config.log).map_err(|failure| Trouble::usage(failure.to_string()))?;
    let host = examples::host().start(config).map_err(|failure| failure.to_string())?;
    host.stop_on_signals();
    if options.stop_with_stdin {
        stop_with_stdin(&host)?;
    }
    host.wait().map_err(|failure| failure.to_string().into())
}

fn stop_with_stdin(host: &Host) -> Outcome {
    let stopper = host.stopper();
    let thread = std::thread::Builder::new().name("amrita-stdin".into());
    let watch = move || {
        let mut bytes = [0; 64];
        // An error is an end as well.
        while matches!(std::io::stdin().read(&mut bytes), Ok(count) if count > 0) {}
        stopper.stop();
    };
    thread.spawn(watch).map_err(|error| format!("a thread cannot be started: {error}"))?;
    Ok(())
}
