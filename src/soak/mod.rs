//! The soak: jobs with checked answers on several chips, and random faults in them, for as long as one likes.
//!
//! One chip is left alone, to show what the others' faults cost it, and one NIC of two. One more chip is in a host of its own
//! process, which is killed again and again.

mod cases;
mod director;
mod growth;
mod job;
mod killed;
mod ledger;
mod nic;
mod summary;
mod worker;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use auk_driver::DmaSpace;
use auk_driver::pci::Bdf;
use auk_health::Agent;
use auk_sim::host::Host;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::FOUND_WRONG;
use crate::output::{self, Screen};
use crate::scratch;
use crate::signals::Stop;
use director::{Director, Record, Scene};
use growth::{Footprint, Growth};
use killed::HostProcess;
use ledger::{Counts, Ledger};
use nic::NicDirector;
use summary::{Measured, Summary};
use worker::Pace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk soak
  auk soak --seconds 3600 --chips 4
  auk soak --seconds 60 --seed 7 --json
  auk soak --fault completion-drop --fault ecc-ue

Ends with 0 only if every claim held, with 1 if one did not, with 3 if it could not go on. The same seed gives the same
jobs and the same faults in the same order.";

/// SIGINT ended it: 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// Violations of a chip that are told.
const MOST_VIOLATIONS: usize = 8;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// What chance is made from; a random one is chosen and told if none is given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// How many chips, of which the first is left alone
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=16))]
    chips: u8,

    /// Milliseconds to rest after each job, to leave the processors to others
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1000))]
    rest: u64,

    /// Only this fault; may be given more than once
    #[arg(long = "fault", value_name = "NAME", value_parser = PossibleValuesParser::new(faults()))]
    faults: Vec<String>,

    /// Print the summary as JSON, and nothing else
    #[arg(long)]
    json: bool,
}

/// Runs the soak; the exit code says whether all that it claims was true.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::hold()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    if !args.json {
        output::print(&format!("soak: seed {seed}\n"))?;
    }
    let summary = soak(args, seed, &stop)?;
    if stop.is_raised() {
        return Ok(INTERRUPTED.into());
    }
    if args.json {
        output::print_json_line(&summary)?;
    } else {
        output::print(&summary.render(Screen::stdout()))?;
    }
    Ok(if summary.ok {
        ExitCode::SUCCESS
    } else {
        FOUND_WRONG.into()
    })
}

fn soak(args: &Args, seed: u64, interrupt: &Stop) -> anyhow::Result<Summary> {
    let directory = tempfile::Builder::new()
        .prefix("auk-soak-")
        .tempdir_in(scratch::directory())
        .context("making a directory for the simulated hosts")?;
    let host = Host::builder(directory.path().join("host"))
        .chips(usize::from(args.chips))
        .nics(2)
        .start()
        .context("starting the simulated host")?;
    let mut mortal = HostProcess::start(&directory.path().join("mortal"))?;
    let agent = Agent::builder(host.root())
        .interval(Duration::from_millis(500))
        .slow_interval(Duration::from_secs(1))
        .start()
        .context("starting the health agent")?;
    let address = |root: &Path, bdf: &str| {
        let bdf: Bdf = bdf.parse().map_err(|error| anyhow!("{error}"))?;
        anyhow::Ok((root.to_owned(), bdf))
    };
    let chips = host.chips().iter();
    let mut addresses: Vec<(PathBuf, Bdf)> = chips
        .map(|chip| address(host.root(), &chip.bdf.to_string()))
        .collect::<Result<_, _>>()?;
    addresses.push(address(&directory.path().join("mortal"), killed::CHIP)?);
    let ledgers: Vec<Ledger> = addresses.iter().map(|_| Ledger::new()).collect();

    let record = Mutex::new(Record::default());
    let (no_faults, no_work, hurry) = <(AtomicBool, AtomicBool, AtomicBool)>::default();
    let scene = Scene {
        host: &host,
        agent: &agent,
        record: &record,
        stop: &no_faults,
        hurry: &hurry,
        // A job that rests has fewer occasions.
        skips: (200 / (1 + args.rest / 5)).max(1),
        cases: cases::chosen(&args.faults),
    };
    let space = DmaSpace::default();
    let begun = Instant::now();
    let mut growth = Growth::default();
    let alone = ledgers.first().context("a chip that is left alone")?;
    thread::scope(|scope| -> anyhow::Result<()> {
        // Whatever goes wrong below, the threads are to end.
        let _over = Raise(&[&no_faults, &no_work]);
        for (number, ((root, bdf), ledger)) in (0..).zip(addresses.iter().zip(&ledgers)) {
            let (seed, space) = (mixed(seed, number), &space);
            let pace = Pace {
                stop: &no_work,
                hurry: &hurry,
                rest: Duration::from_millis(args.rest),
            };
            spawn(scope, "soak-job", move || {
                worker::work((root, *bdf), space, seed, ledger, pace);
            })?;
        }
        let directors = direct(scope, &scene, &ledgers, seed, &args.faults)?;
        let killer = {
            let ledger = ledgers.last().context("a job on the host that is killed")?;
            let (scene, mortal) = (&scene, &mut mortal);
            thread::Builder::new()
                .name("soak-kills".to_owned())
                .spawn_scoped(scope, move || mortal.play(scene, ledger))?
        };
        let total = Duration::from_secs(args.seconds);
        growth = wait(total, begun, interrupt, alone, &space, args.json)?;
        hurry.store(interrupt.is_raised(), Ordering::Relaxed);
        no_faults.store(true, Ordering::Relaxed);
        for director in directors {
            director
                .join()
                .map_err(|_| anyhow!("a thread of the soak panicked"))?;
        }
        killer
            .join()
            .map_err(|_| anyhow!("a thread of the soak panicked"))??;
        Ok(())
    })?;
    for signal in alone
        .take_signals()
        .iter()
        .filter(|signal| !signal.is_late())
    {
        let line = format!("the chip that was left alone: {signal:?}");
        scene.note(|record| record.unexplained.push(line));
    }
    let strict_violations = strict_violations(&scene);
    let measured = Measured {
        seed,
        elapsed: begun.elapsed(),
        chips: addresses.len(),
        counts: ledgers
            .iter()
            .map(Ledger::counts)
            .fold(Counts::default(), Counts::and),
        stalls: alone.stalls(),
        growth,
        strict_violations,
        record: record
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    };
    agent.stop().context("stopping the health agent")?;
    Ok(Summary::of(measured))
}

/// Has faults befall all chips of the host but the first, and one NIC of two.
fn direct<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    scene: &'scope Scene<'scope>,
    ledgers: &'scope [Ledger],
    seed: u64,
    chosen: &[String],
) -> anyhow::Result<Vec<thread::ScopedJoinHandle<'scope, ()>>> {
    let mut directors = Vec::new();
    let faulty = match scene.cases.is_empty() {
        true => &[],
        false => scene.host.chips(),
    };
    for (number, (chip, ledger)) in (100..).zip(faulty.iter().zip(ledgers)).skip(1) {
        let director = Director {
            scene,
            chip,
            ledger,
        };
        directors.push(spawn(scope, "soak-faults", move || {
            director.direct(mixed(seed, number));
        })?);
    }
    let cases = nic::chosen(chosen);
    if let ([alone, nic], false) = (scene.host.nics(), cases.is_empty()) {
        let director = NicDirector {
            scene,
            nic,
            alone,
            cases,
        };
        directors.push(spawn(scope, "soak-nic-faults", move || {
            director.direct(mixed(seed, 200));
        })?);
    }
    Ok(directors)
}

/// How many there are on all chips; the first of each chip are told.
fn strict_violations(scene: &Scene<'_>) -> usize {
    let mut count = 0;
    for chip in scene.host.chips() {
        let violations = chip.chip.strict_violations();
        count += violations.len();
        for violation in violations.iter().take(MOST_VIOLATIONS) {
            let line = format!("{}: strict mode: {violation}", chip.bdf);
            scene.note(|record| record.unexplained.push(line));
        }
    }
    count
}

/// All that can be chosen.
fn faults() -> Vec<&'static str> {
    let mut names = cases::names();
    names.extend(nic::names());
    names.sort_unstable();
    names.dedup();
    names
}

/// Raises flags when it is dropped.
struct Raise<'a>(&'a [&'a AtomicBool]);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        for flag in self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> anyhow::Result<thread::ScopedJoinHandle<'scope, ()>> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder
        .spawn_scoped(scope, work)
        .with_context(|| format!("starting the thread {name}"))
}

/// Waits until the time is over, and looks at what the process has meanwhile.
fn wait(
    total: Duration,
    begun: Instant,
    interrupt: &Stop,
    alone: &Ledger,
    space: &DmaSpace,
    quiet: bool,
) -> anyhow::Result<Growth> {
    /// Looks in all, in a soak of some minutes; in a shorter one they are as close as is of use.
    const LOOKS: u32 = 2000;
    const CLOSEST: Duration = Duration::from_millis(50);
    const FARTHEST: Duration = Duration::from_secs(1);
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(total.as_secs())
    };
    // The template is ours and has no way to fail; without it the bar looks as the library has it.
    if let Ok(style) = ProgressStyle::with_template("  soak {wide_bar} {pos}/{len} s {msg}") {
        bar.set_style(style);
    }
    let mut growth = Growth::default();
    // Setting up is no stall.
    while alone.counts().acknowledged == 0 && begun.elapsed() < total {
        thread::sleep(Duration::from_millis(5));
    }
    alone.restart_clock();
    while begun.elapsed() < total && !interrupt.is_raised() {
        let part = begun.elapsed().as_secs_f64() / total.as_secs_f64();
        growth.look(part, || Footprint::now(space))?;
        bar.set_position(begun.elapsed().as_secs());
        thread::sleep((total / LOOKS).clamp(CLOSEST, FARTHEST));
    }
    bar.finish_and_clear();
    Ok(growth)
}

/// A seed of its own for each thread.
const fn mixed(seed: u64, number: u64) -> u64 {
    seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
