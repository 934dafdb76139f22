//! Tests on real kernels: boots Debian's in QEMU with the simulated chip plugged in, and runs tests inside.
//!
//! `tests/vm/README.md` says how to run it and how to add a test.

mod apt;
mod boots;
mod cache;
mod cdev;
mod chips;
mod initramfs;
mod kernel;
mod machine;
mod plan;
mod port;
mod programs;
mod qemu;
mod recordings;
mod report;
mod run;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use auk_vm::{Mode, Outcome};
use clap::Parser;

use crate::apt::Apt;
use crate::cache::Cache;
use crate::kernel::Kernel;
use crate::plan::{Choice, Planned, plan};
use crate::programs::Programs;
use crate::qemu::Qemu;
use crate::recordings::Recordings;
use crate::report::Report;
use crate::run::{Finished, Job};

/// What the command ends with when it could not do what it was asked; 1 is for tests that failed.
const COULD_NOT: u8 = 3;

/// Run the tests on real kernels: everything of the matrix, or what the options leave of it.
///
/// The first run fetches QEMU and kernels from Debian's packages into target/vm; later ones need no network. Nothing on
/// this machine is changed.
#[derive(Debug, Parser)]
#[command(name = "auk-vm")]
struct Cli {
    #[command(flatten)]
    choice: Choice,

    /// Say what would run, and run nothing
    #[arg(long)]
    list: bool,

    /// Print the results as JSON, at the end
    #[arg(long)]
    json: bool,

    /// Keep what the boot `sysfs` records, where it is otherwise compared with what was kept
    #[arg(long)]
    record: bool,

    /// Keep the logs of boots without failures too
    #[arg(long)]
    keep_logs: bool,
}

fn main() -> ExitCode {
    match all(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("auk-vm: {error:#}");
            COULD_NOT.into()
        }
    }
}

fn all(cli: &Cli) -> Result<ExitCode> {
    let built_to = std::env::current_exe().context("where this program is")?;
    let built_to = built_to.parent().context("a program has a directory")?;
    let target = built_to.parent().context("cargo has a target directory")?;
    let cache = Cache::open(target.join("vm"))?;
    let apt = Apt::new(&cache);
    let programs = Programs::build(built_to, &cache, &apt)?;

    let planned = plan(&cli.choice, &programs.tests)?;
    if cli.list {
        for planned in &planned {
            for test in &planned.tests {
                println!("{}  {}", planned.name(), test.name);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let qemu = Qemu::set_up(&cache, &apt)?;
    let mut report = Report::new(cli.json);
    for planned in &planned {
        let logs = cache.path("logs").join(planned.name());
        match kernel(planned, &cache, &apt) {
            Ok(kernel) => {
                let job = Job {
                    planned,
                    kernel: &kernel,
                    logs: &logs,
                    recordings: &Recordings::of(planned.line.name, cli.record),
                };
                boot(&job, &qemu, &programs, &mut report, cli.keep_logs)?;
            }
            Err(error) => {
                let place = planned.place("-");
                for test in &planned.tests {
                    report.add(place, Finished::failed(test, format!("{error:#}")));
                }
            }
        }
    }
    report.finish()?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn kernel(planned: &Planned<'_>, cache: &Cache, apt: &Apt<'_>) -> Result<Kernel> {
    let stock = Kernel::stock(planned.line, cache, apt)?;
    match planned.mode {
        Mode::Group => Ok(stock),
        Mode::Cdev => stock.with_cdev(planned.line, cache, apt),
    }
}

fn boot(
    job: &Job<'_>,
    qemu: &Qemu,
    programs: &Programs,
    report: &mut Report,
    keep_logs: bool,
) -> Result<()> {
    remove(job.logs)?;
    fs::create_dir_all(job.logs).with_context(|| format!("making {}", job.logs.display()))?;
    let place = job.planned.place(&job.kernel.release);
    let mut failed = false;
    run::run(job, qemu, programs, &mut |finished| {
        failed |= matches!(finished.outcome, Outcome::Failed(_));
        report.add(place, finished);
    });
    if failed {
        eprintln!("      logs are in {}", shown(job.logs).display());
    } else if !keep_logs {
        remove(job.logs)?;
    }
    Ok(())
}

/// A path as it is read best from where the command was called.
fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    Ok(())
}
