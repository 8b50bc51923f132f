//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Failure;

/// Libraries that say more than anyone wants to read at the level of our own lines.
const QUIET: &str = "fjall=warn,lsm_tree=warn,hyper=warn,hyper_util=warn";

/// Starts telling, at a level or by a list of them (`warn,amrita=debug`).
///
/// # Errors
/// When the text is no level, or when this was called before.
pub fn start_logging(level: &str) -> Result<(), Failure> {
    let wrong = |why: String| {
        Failure::new(format!("'{level}' is not a log level: {why}"))
            .advise("use error, warn, info, debug or trace, or a list as warn,amrita=debug")
    };
    // A lone word that is no level would be taken for the name of a module.
    let lone = !level.contains(['=', ',']);
    if lone {
        level.parse::<tracing::Level>().map_err(|error| wrong(error.to_string()))?;
    }
    let filter = if lone { format!("{level},{QUIET}") } else { level.to_owned() };
    let filter = EnvFilter::try_new(filter).map_err(|error| wrong(error.to_string()))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| Failure::new(format!("log lines cannot be written: {error}")))
}
