//! `auk sim host`: a simulated host in the foreground.

use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use auk_sim::host::{Host, SimulatedHost};
use auk_sim::inject::Script;
use serde::Serialize;

use crate::failure;
use crate::output::{self, Fields, Screen};
use crate::signals::Stop;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk sim host --root /tmp/host
  auk sim host --chips 8 --nics 8 --root /tmp/host
  auk sim host --faults faults.toml --root /tmp/host

The directory must be new or empty. What is made in it is removed at the end. Once the host is ready, its devices
are printed; then anything that takes --root can be pointed at it, from another terminal or by AUK_ROOT.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many A1 chips
    #[arg(long, value_name = "N", default_value_t = 2)]
    chips: usize,

    /// How many NICs
    #[arg(long, value_name = "N", default_value_t = 2)]
    nics: usize,

    /// A script of faults in TOML: what, when, how often
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,

    /// Print the ready line as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Ready<'a> {
    root: &'a Path,
    pid: u32,
    chips: Vec<Chip<'a>>,
    nics: Vec<Nic<'a>>,
}

#[derive(Serialize)]
struct Chip<'a> {
    address: String,
    socket: &'a Path,
}

#[derive(Serialize)]
struct Nic<'a> {
    address: String,
    interface: &'a str,
}

/// Runs a simulated host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if root == Path::new("/") {
        return Err(failure::with_hint(
            anyhow!("a simulated host needs a directory of its own, not /"),
            "give one with --root DIR, such as `auk sim host --root /tmp/host`",
        ));
    }
    let stop = Stop::hold()?;
    let script = args.faults.as_deref().map(read_script).transpose()?;
    // What is printed is to be of use in any directory.
    let root = path::absolute(root).with_context(|| format!("finding {}", root.display()))?;
    let host = Host::builder(root)
        .chips(args.chips)
        .nics(args.nics)
        .start()?;
    for (number, injection) in (1..).zip(script.iter().flat_map(|script| &script.faults)) {
        host.inject(injection)
            .with_context(|| format!("fault {number} of the script"))?;
    }
    let told = tell(&host, args.json);
    // Nobody reads what is told: the host runs all the same, as with `auk sim host >/dev/null`.
    if let Err(error) = told
        && !output::reader_is_gone(&error)
    {
        return Err(error);
    }
    let signal = stop.wait()?;
    tracing::info!(%signal, "stopping");
    host.stop();
    Ok(ExitCode::SUCCESS)
}

fn read_script(path: &Path) -> anyhow::Result<Script> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Script::parse(&text).with_context(|| format!("{} is no script of faults", path.display()))
}

fn tell(host: &SimulatedHost, json: bool) -> anyhow::Result<()> {
    let ready = Ready {
        root: host.root(),
        pid: std::process::id(),
        chips: host
            .chips()
            .iter()
            .map(|chip| Chip {
                address: chip.bdf.to_string(),
                socket: &chip.socket,
            })
            .collect(),
        nics: host
            .nics()
            .iter()
            .map(|nic| Nic {
                address: nic.bdf.to_string(),
                interface: &nic.interface,
            })
            .collect(),
    };
    if json {
        return output::print_json_line(&ready);
    }
    output::print(&text(&ready, Screen::stdout()))
}

fn text(ready: &Ready<'_>, screen: Screen) -> String {
    let root = ready.root.display();
    let mut devices = Fields::new(&format!("ready: a simulated host at {root}"));
    for chip in &ready.chips {
        devices.push(&chip.address, format!("A1 at {}", chip.socket.display()));
    }
    for nic in &ready.nics {
        devices.push(&nic.address, format!("NIC {}", nic.interface));
    }
    let mut next = Fields::new("To try next, in another terminal");
    next.push("list", format!("auk list --root {root}"));
    next.push("watch", format!("auk agent --root {root}"));
    if let Some(chip) = ready.chips.first() {
        let address = &chip.address;
        next.push("look", format!("auk show {address} --root {root}"));
        next.push(
            "harm",
            format!("auk sim inject ecc-ue {address} --root {root}"),
        );
    }
    next.push("end", "Ctrl-C here");
    format!("{}\n{}", devices.render(screen), next.render(screen))
}
