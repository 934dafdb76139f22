//! `auk agent-opener`: the one privilege that the health agent needs, in a process of its own.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use auk_health::opener::{Opener, socket_path};
use nix::unistd::User;
use sd_notify::NotifyState;

use crate::output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk agent-opener --user auk

The kernel shows config space beyond its first 64 bytes, where a chip's vital signs are, to a file that was opened
with CAP_SYS_ADMIN. An agent that runs as root needs no opener. It opens the config space of accelerators and NICs,
for reading, and passes it to processes of the one user, and of root.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The user that the agent runs as, by name or number
    #[arg(long, value_name = "USER")]
    user: String,
}

/// Serves the agent of the host below `root`, until it is killed.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let user = user(&args.user)?;
    let opener = Opener::open(root, user)?;
    output::remark(&format!(
        "opening config space of {} for user {}, at {}",
        root.display(),
        args.user,
        socket_path(root).display()
    ));
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "could not tell the service manager");
    }
    opener.run()?;
    Ok(ExitCode::SUCCESS)
}

fn user(name: &str) -> anyhow::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match User::from_name(name).with_context(|| format!("looking up the user {name}"))? {
        Some(user) => Ok(user.uid.as_raw()),
        None => {
            bail!("there is no user {name}; create it, or name the user that the agent runs as")
        }
    }
}
