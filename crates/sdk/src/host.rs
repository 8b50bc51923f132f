//! A node in one's own program, with one's own services.

use std::io::Write;
use std::process::ExitCode;

use server::{Config, Failure, SETTINGS};
use services::{Catalogue, Service, Task};

/// A node that is to be started with some services.
///
/// ```no_run
/// # use sdk::Host;
/// fn main() -> std::process::ExitCode {
///     Host::new().run()
/// }
/// ```
#[derive(Default)]
pub struct Host {
    catalogue: Catalogue,
}

impl Host {
    /// With the built-in services only.
    pub fn new() -> Self {
        Self::with_catalogue(Catalogue::new())
    }

    pub fn with_catalogue(catalogue: Catalogue) -> Self {
        Self { catalogue }
    }

    /// # Panics
    /// When another service has the same factory.
    #[must_use]
    pub fn service(self, service: impl Service) -> Self {
        Self { catalogue: self.catalogue.with(service) }
    }

    /// # Panics
    /// When another service has the same factory.
    #[must_use]
    pub fn task(self, task: impl Task) -> Self {
        Self { catalogue: self.catalogue.with_task(task) }
    }

    /// Starts the node and returns when it takes requests.
    ///
    /// # Errors
    /// See [`server::Host::start`].
    pub fn start(self, config: Config) -> Result<server::Host, Failure> {
        server::Host::start(config, self.catalogue)
    }

    /// The whole main program: reads the flags of the process (the same as `amrita node` has),
    /// runs the node until a signal or a request stops it, and says on standard error what went
    /// wrong.
    pub fn run(self) -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
            // Without a terminal there is no one to read it.
            drop(std::io::stdout().write_all(help().as_bytes()));
            return ExitCode::SUCCESS;
        }
        match Config::from_arguments(arguments.into_iter()).and_then(|config| self.run_with(config))
        {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                drop(writeln!(std::io::stderr(), "{failure}"));
                ExitCode::FAILURE
            }
        }
    }

    /// As [`Self::run`], with settings from elsewhere.
    ///
    /// # Errors
    /// When the node cannot start or cannot go on.
    pub fn run_with(self, config: Config) -> Result<(), Failure> {
        server::start_logging(&config.log)?;
        let host = self.start(config)?;
        host.stop_on_signals();
        host.wait()
    }
}

/// All settings, for `--help`.
fn help() -> String {
    let mut text =
        String::from("Runs a node of an Amrita cluster with the services of this program.\n\n");
    text.push_str(
        "  --config FILE\n        TOML file with the settings below [env: AMRITA_CONFIG]\n",
    );
    for setting in &SETTINGS {
        let (name, value, variable) = (setting.name, setting.value, setting.variable);
        text.push_str(&format!("  --{name} {value}\n        {} [env: {variable}]\n", setting.help));
    }
    text
}
