//! The demo: an inference job on a simulated host, a fault in its midst, and the health agent beside it.
//!
//! What it says in the end is measured, and each claim is checked: the exit code is 0 only if all of them held.

mod alone;
mod digits;
mod job;
mod play;
mod recovery;
mod reference;
mod show;
mod stage;
mod summary;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use auk_driver::pci;
use auk_health::Agent;
use auk_sim::host::{Host, SimulatedHost};

use crate::failure::FOUND_WRONG;
use crate::output::{self, Cell, Fields, Screen, Tone};
use crate::scratch;
use crate::signals::Stop;
use play::Ending;
use show::Show;
use stage::Stage;
use summary::Summary;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk demo
  auk demo --json
  auk demo --pace 20            slow enough to watch
  auk sim host --root /tmp/host &
  auk demo --attach /tmp/host   on a host that runs already
  auk demo --on 0000:01:00.0    the job alone, on a chip of this machine

Ends with 0 only if everything that it says was true, with 1 if a claim did not hold, with 3 if it could not go on.";

/// SIGINT ended it: 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the summary as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,

    /// Milliseconds to rest after each batch of images
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pace: u64,

    /// Use the simulated host that runs at DIR instead of starting one
    #[arg(long, value_name = "DIR")]
    attach: Option<PathBuf>,

    /// Run the job alone on this chip of the host at --root: no fault, no agent
    #[arg(long, value_name = "BDF", conflicts_with = "attach")]
    on: Option<pci::Bdf>,
}

/// Runs the demo; the exit code says whether all that it printed was true.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::hold()?;
    let show = Show::new(args.json, digits::COUNT);
    let pace = Duration::from_millis(args.pace);
    if let Some(chip) = args.on {
        let ending = alone::play(&pci::Host::at(root), chip, pace, &stop, &show);
        show.finish();
        return conclude(ending?, args.json, &show);
    }
    let started = Instant::now();
    let (host, root) = match &args.attach {
        Some(root) => (None, root.clone()),
        None => {
            let host = OwnHost::start()?;
            let root = host.host.root().to_owned();
            (Some(host), root)
        }
    };
    let (chip, bystanders) = cast(&root)?;
    let devices = bystanders.len() + 1;
    let ready = show::time(started.elapsed());
    show.say(
        "host",
        &format!("{devices} chips and NICs, ready in {ready}; the job gets {chip}"),
    )?;

    let agent = Agent::builder(&root)
        .start()
        .context("starting the health agent")?;
    let stage = Stage {
        root: &root,
        chip,
        bystanders: &bystanders,
        agent: &agent,
        stop: &stop,
        pace,
        show: &show,
    };
    let ending = play::play(&stage);
    show.finish();
    let stopped = agent.stop().context("stopping the health agent");
    let violations: usize = host
        .iter()
        .flat_map(|own| own.host.chips())
        .map(|chip| chip.chip.strict_violations().len())
        .sum();
    drop(host);

    let mut ending = ending?;
    if let Ending::Played(summary) = &mut ending {
        stopped?;
        summary.claim(
            "the driver did nothing that the chip leaves undefined",
            violations == 0,
        );
    }
    conclude(ending, args.json, &show)
}

/// Tells how it ended.
fn conclude(ending: Ending, json: bool, show: &Show) -> anyhow::Result<ExitCode> {
    match ending {
        Ending::Interrupted => {
            show.say("demo", "interrupted; what it started is gone")?;
            Ok(INTERRUPTED.into())
        }
        Ending::Played(summary) => {
            report(&summary, json)?;
            Ok(if summary.ok {
                ExitCode::SUCCESS
            } else {
                FOUND_WRONG.into()
            })
        }
    }
}

/// A simulated host in a directory of its own, which goes with it.
struct OwnHost {
    // The host removes its tree first, then the rest goes: the agent's lock file.
    host: SimulatedHost,
    _directory: tempfile::TempDir,
}

impl OwnHost {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("auk-demo-")
            .tempdir_in(scratch::directory())
            .context("making a directory for the simulated host")?;
        let host = Host::builder(directory.path().join("host"))
            .chips(2)
            .nics(2)
            .start()
            .context("starting the simulated host")?;
        Ok(Self {
            host,
            _directory: directory,
        })
    }
}

/// The chip that the job runs on, and everything else that the agent watches.
fn cast(root: &Path) -> anyhow::Result<(pci::Bdf, Vec<String>)> {
    let host = pci::Host::at(root);
    let chips: Vec<pci::Bdf> = host
        .accelerators()?
        .iter()
        .map(pci::PciFunction::bdf)
        .collect();
    let Some(&chip) = chips.first() else {
        bail!(
            "{}: no A1 there; `auk sim host --root DIR` starts a simulated host",
            root.display()
        );
    };
    /// PCI class code of an Ethernet controller.
    const ETHERNET: u32 = 0x02_00_00;
    let mut others: Vec<String> = chips.iter().skip(1).map(ToString::to_string).collect();
    for function in host.functions()? {
        if function.class()? == ETHERNET {
            others.push(function.bdf().to_string());
        }
    }
    Ok((chip, others))
}

fn report(summary: &Summary, json: bool) -> anyhow::Result<()> {
    if json {
        return output::print_json(summary);
    }
    let mut results = Fields::new("Results");
    for (name, value) in summary.results() {
        results.push(name, value);
    }
    let mut claims = Fields::new("Claims");
    for claim in &summary.claims {
        let (name, tone) = if claim.held {
            ("held", Tone::Good)
        } else {
            ("FAILED", Tone::Bad)
        };
        claims.push(name, Cell::new(claim.claim, tone));
    }
    let screen = Screen::stdout();
    output::print(&format!(
        "\n{}\n{}",
        results.render(screen),
        claims.render(screen)
    ))
}
