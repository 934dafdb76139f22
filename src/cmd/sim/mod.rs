//! `auk sim`: a simulated host, and its faults.

mod faults;
mod host;
mod inject;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

/// What to do with a simulated host.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a simulated host in the foreground, until SIGINT or SIGTERM
    #[command(after_help = host::EXAMPLES)]
    Host(host::Args),

    /// List what can be made to go wrong, and what each looks like from outside
    #[command(after_help = faults::EXAMPLES)]
    Faults(faults::Args),

    /// Make something go wrong on a simulated host that runs
    #[command(after_help = inject::EXAMPLES)]
    Inject(inject::Args),
}

/// Does it to the host below `root`.
pub(crate) fn run(root: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Host(args) => host::run(root, args),
        Command::Faults(args) => faults::run(args),
        Command::Inject(args) => inject::run(root, args),
    }
}
