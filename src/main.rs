//! The `auk` command: a thin face over the driver, the health agent and the simulator.
//!
//! One file a subcommand, in `cmd/`. What they share is how they read the command line (`cli`), what sysfs says of a
//! function (`inventory`), how they print (`output`), fail (`failure`) and are stopped (`signals`).

mod cli;
mod cmd;
mod demo;
mod failure;
mod inventory;
mod journal;
mod logging;
mod output;
mod scratch;
mod signals;
mod soak;

use std::env;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == cmd::agent::READER)
    {
        return auk_health::run_reader();
    }
    let cli = cli::Cli::parse();
    logging::start(cli.verbose, cli.command.tells());
    if let Err(error) = auk_driver::install_sigbus_handler() {
        tracing::warn!(%error, "a chip that is unplugged while it is used will end this process");
    }
    match cmd::run(&cli) {
        Ok(code) => code,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error);
            failure::COULD_NOT.into()
        }
    }
}
