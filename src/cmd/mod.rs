//! The subcommands, a file each.

pub(crate) mod agent;
mod agent_config;
pub(crate) mod agent_opener;
pub(crate) mod bind;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod order;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod show;
pub(crate) mod sim;
pub(crate) mod status;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Does what the command line asks.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::List(args) => list::run(&cli.root, args),
        Command::Show(args) => show::run(&cli.root, args),
        Command::Report(args) => report::run(&cli.root, args),
        Command::Doctor(args) => doctor::run(&cli.root, args),
        Command::Bind(args) => bind::run_bind(&cli.root, args),
        Command::Unbind(args) => bind::run_unbind(&cli.root, args),
        Command::Status(args) => status::run(&cli.root, args),
        Command::Explain(args) => explain::run(&cli.root, args),
        Command::Events(args) => events::run(&cli.root, args),
        Command::Check(args) => check::run(&cli.root, args),
        Command::Hold(args) => order::hold(&cli.root, args),
        Command::Release(args) => order::release(&cli.root, args),
        Command::Clear(args) => order::clear(&cli.root, args),
        Command::Switch(args) => order::switch(&cli.root, args),
        Command::Agent(args) => agent::run(&cli.root, args),
        Command::Replay(args) => replay::run(args),
        Command::AgentOpener(args) => agent_opener::run(&cli.root, args),
        Command::Sim { command } => sim::run(&cli.root, command),
        Command::Demo(args) => crate::demo::run(&cli.root, args),
        Command::Soak(args) => crate::soak::run(args),
        Command::Completions(args) => completions::run(args),
    }
}
