//! What can be said to `amrita task`.

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Hold tasks: they take no further step until they are released
    #[command(after_help = HOLD)]
    Hold(Tasks),
    /// Let tasks go on that are held
    Release(Tasks),
    /// Try now what waits for its next attempt: a call that was not possible, a step that was not
    /// written. A pause that a task has planned is not ended
    Retry(Tasks),
    /// Give up the requests of the step under way that are not answered: the task learns an error
    /// of the code SKIPPED, and goes on
    Skip(Tasks),
    /// End tasks; what they did is undone, as far as their service can do that
    Cancel(Tasks),
}

const HOLD: &str = "\
  amrita task hold /core/example-tasks/one
  amrita task hold --of /core/example-tasks --filter 'subStage eq QUERY_EXAMPLES'
  amrita query taskInfo.held=true              who is held";

#[derive(Clone, Debug, Args)]
pub(crate) struct Tasks {
    /// The tasks
    #[arg(value_name = "LINK", value_parser = link, required_unless_present = "of")]
    pub(crate) links: Vec<String>,
    /// All tasks of this factory that have not ended
    #[arg(long, value_name = "FACTORY", value_parser = link, conflicts_with = "links")]
    pub(crate) of: Option<String>,
    /// Of those only the ones that this finds, as $filter of a list
    #[arg(long, value_name = "TEXT", requires = "of")]
    pub(crate) filter: Option<String>,
}

fn link(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("a link begins with /, as /core/example-tasks/one".to_owned()),
    }
}
