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

use anyhow::{Context, Result, bail, ensure};
use auk_vm::{Mode, TestInfo};
use clap::Parser;

use crate::apt::Apt;
use crate::boots::{BOOTS, Boot};
use crate::cache::Cache;
use crate::kernel::{Kernel, LINES, Line};
use crate::programs::Programs;
use crate::qemu::Qemu;
use crate::recordings::Recordings;
use crate::report::{Place, Report};
use crate::run::Job;

/// The line of the short form: the newest long-term kernel.
const SHORT_LINE: &str = "6.12";

/// What the command ends with when it could not do what it was asked; 1 is for tests that failed.
const COULD_NOT: u8 = 3;

/// Run the tests on real kernels: everything of the matrix, or what the options leave of it.
///
/// The first run fetches QEMU and kernels from Debian's packages into target/vm; later ones need no network. Nothing on
/// this machine is changed.
#[derive(Debug, Parser)]
#[command(name = "auk-vm")]
struct Cli {
    /// The short form: boots that say so, on the newest long-term kernel
    #[arg(long)]
    short: bool,

    /// Only this kernel line
    #[arg(long, value_parser = LINES.map(|line| line.name))]
    kernel: Option<String>,

    /// Only this VFIO interface
    #[arg(long, value_parser = ["group", "cdev"])]
    mode: Option<String>,

    /// Only this boot
    #[arg(long, value_parser = BOOTS.iter().map(|boot| boot.name).collect::<Vec<_>>())]
    boot: Option<String>,

    /// Only tests with this in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

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

    let planned = plan(cli, &programs.tests)?;
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
    for planned in planned {
        let logs = cache.path("logs").join(planned.name());
        let stock = Kernel::stock(planned.line, &cache, &apt)?;
        let kernel = match planned.mode {
            Mode::Group => stock,
            Mode::Cdev => stock.with_cdev(planned.line, &cache, &apt)?,
        };
        let job = Job {
            boot: planned.boot,
            mode: planned.mode,
            line: planned.line.name,
            kernel: &kernel,
            tests: planned.tests,
            logs: logs.clone(),
            recordings: &Recordings::of(planned.line.name, cli.record),
        };
        boot(&job, &qemu, &programs, &mut report, cli.keep_logs)
            .with_context(|| format!("logs are in {}", logs.display()))?;
    }
    report.finish()?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A boot of the matrix.
struct Planned<'a> {
    line: Line,
    mode: Mode,
    boot: &'static Boot,
    tests: Vec<&'a TestInfo>,
}

impl Planned<'_> {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.line.name, self.mode.name(), self.boot.name)
    }
}

fn plan<'a>(cli: &Cli, tests: &'a [TestInfo]) -> Result<Vec<Planned<'a>>> {
    let mut planned = Vec::new();
    for line in LINES {
        for boot in BOOTS {
            for &mode in boot.modes {
                let is_meant = (boot.lines.is_empty() || boot.lines.contains(&line.name))
                    && (mode == Mode::Group || line.has_cdev)
                    && (!cli.short || boot.short && line.name == SHORT_LINE)
                    && cli.kernel.as_ref().is_none_or(|name| name == line.name)
                    && cli.mode.as_ref().is_none_or(|name| name == mode.name())
                    && cli.boot.as_ref().is_none_or(|name| name == boot.name);
                let tests = tests_of(boot, mode, tests, cli.filter.as_deref())?;
                if is_meant && !tests.is_empty() {
                    planned.push(Planned {
                        line,
                        mode,
                        boot,
                        tests,
                    });
                }
            }
        }
    }
    ensure!(!planned.is_empty(), "there is no such test");
    Ok(planned)
}

fn tests_of<'a>(
    boot: &Boot,
    mode: Mode,
    all: &'a [TestInfo],
    filter: Option<&str>,
) -> Result<Vec<&'a TestInfo>> {
    let mut chosen = Vec::new();
    for group in boot.groups {
        let prefix = format!("{group}::");
        let before = chosen.len();
        chosen.extend(all.iter().filter(|test| test.name.starts_with(&prefix)));
        if chosen.len() == before {
            bail!(
                "the boot {} runs the group {group}, which has no tests",
                boot.name
            );
        }
    }
    chosen.retain(|test| {
        test.only.is_none_or(|only| only == mode)
            && filter.is_none_or(|text| test.name.contains(text))
    });
    Ok(chosen)
}

fn boot(
    job: &Job<'_>,
    qemu: &Qemu,
    programs: &Programs,
    report: &mut Report,
    keep_logs: bool,
) -> Result<()> {
    remove(&job.logs)?;
    let place = Place {
        kernel: job.line,
        release: &job.kernel.release,
        mode: job.mode.name(),
        boot: job.boot.name,
    };
    let mut failed = false;
    run::run(job, qemu, programs, &mut |finished| {
        failed |= matches!(finished.outcome, auk_vm::Outcome::Failed(_));
        report.add(place, finished);
    })?;
    if failed {
        eprintln!("      logs are in {}", shown(&job.logs).display());
    } else if !keep_logs {
        remove(&job.logs)?;
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
