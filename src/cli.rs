//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{cmd, demo, soak};

const EXIT_CODES: &str = "\
Exit codes:
    0  done, and all is well
    1  done, and something is wrong or could not be seen
    2  the command line makes no sense
    3  it could not be done
  130  the demo was interrupted

Environment:
  AUK_ROOT  as --root
  AUK_LOG   filter of log lines, such as auk_driver=debug; wins over -v
  NO_COLOR  when set, nothing is coloured
  COLUMNS   how wide the output may be";

/// Driver, health agent and simulator of the A1 inference accelerator.
#[derive(Debug, Parser)]
#[command(name = "auk", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    /// The directory where the host's tree begins; / is this machine
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "AUK_ROOT",
        default_value = "/",
        hide_env_values = true
    )]
    pub(crate) root: PathBuf,

    /// Log more to stderr; -vv and -vvv log more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the accelerators and NICs of a host
    #[command(after_help = cmd::list::EXAMPLES)]
    List(cmd::list::Args),

    /// Show what is known of one device, without touching it unless asked to
    #[command(after_help = cmd::show::EXAMPLES)]
    Show(cmd::show::Args),

    /// Write down all that a chip says of what happened to it
    #[command(after_help = cmd::report::EXAMPLES)]
    Report(cmd::report::Args),

    /// Examine what the host needs for its accelerators, and say how to mend it
    #[command(after_help = cmd::doctor::EXAMPLES)]
    Doctor(cmd::doctor::Args),

    /// Give devices to VFIO, so that a driver in user space can open them
    #[command(after_help = cmd::bind::BIND_EXAMPLES)]
    Bind(cmd::bind::BindArgs),

    /// Give devices back to the driver that they had
    #[command(after_help = cmd::bind::UNBIND_EXAMPLES)]
    Unbind(cmd::bind::UnbindArgs),

    /// Ask the health agent how the host's devices are
    #[command(after_help = cmd::status::EXAMPLES)]
    Status(cmd::status::Args),

    /// Say all that the health agent knows of one component, and why
    #[command(after_help = cmd::explain::EXAMPLES)]
    Explain(cmd::explain::Args),

    /// Show what happened, as the health agent has stored it
    #[command(after_help = cmd::events::EXAMPLES)]
    Events(cmd::events::Args),

    /// Answer in one line and an exit code: for Nagios, and before and after jobs
    #[command(after_help = cmd::check::EXAMPLES)]
    Check(cmd::check::Args),

    /// Let no new job start on a component while somebody works on it
    #[command(after_help = cmd::order::HOLD)]
    Hold(cmd::order::HoldArgs),

    /// End a hold
    #[command(after_help = cmd::order::RELEASE)]
    Release(cmd::order::ReleaseArgs),

    /// Drop what the health agent holds against a component
    #[command(after_help = cmd::order::CLEAR)]
    Clear(cmd::order::ClearArgs),

    /// Switch one of the health agent's checks off, on, or to be without effect
    #[command(after_help = cmd::order::SWITCH)]
    Switch(cmd::order::SwitchArgs),

    /// Run the health agent in the foreground
    #[command(after_help = cmd::agent::EXAMPLES)]
    Agent(cmd::agent::Args),

    /// Say what the health agent says of what it was fed in a recording
    #[command(after_help = cmd::replay::EXAMPLES)]
    Replay(cmd::replay::Args),

    /// Open config space for a health agent that may not do so itself
    #[command(after_help = cmd::agent_opener::EXAMPLES)]
    AgentOpener(cmd::agent_opener::Args),

    /// Run a simulated host, or harm one
    Sim {
        #[command(subcommand)]
        command: cmd::sim::Command,
    },

    /// Run an inference job on a simulated host, with a fault in its midst
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Args),

    /// Run checked jobs on simulated chips with random faults in their midst, for as long as one likes
    #[command(after_help = soak::EXAMPLES)]
    Soak(soak::Args),

    /// Print the completions of a shell
    #[command(
        after_help = "Examples:\n  auk completions bash > ~/.local/share/bash-completion/completions/auk"
    )]
    Completions(cmd::completions::Args),
}

impl Command {
    /// Filters for log lines on what the command tells in its own words.
    pub(crate) const fn tells(&self) -> Option<&'static str> {
        match self {
            Self::Demo(_) => Some("auk_health::agent::tell=off"),
            Self::Soak(_) => Some("auk_driver=off,auk_health=off,auk_sim=off"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }
}
