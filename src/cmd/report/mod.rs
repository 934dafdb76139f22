//! `auk report`: all that a chip says of what happened, in one file.

mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use auk_driver::pci::{Bdf, Host};
use auk_driver::{Device, Error, OpenOptions, Report, Step};

use crate::failure::{self, FOUND_WRONG};
use crate::inventory::{self, Kind};
use crate::output::{self, Screen};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk report 0000:01:00.0
  auk report 01:00.0 --root /tmp/host --json -o report.json
  auk report 01:00.0 --restart
  auk report 01:00.0 --passive

A chip that nobody has is opened, as a job would: it is reset, and what is
in its memory is lost; a fault, the logs and all counters stay. One that is
stopped on a fault has its logs when its firmware is restarted (--restart).
Of a chip that somebody has, or that is not to be touched (--passive), the
report has what sysfs shows. What could not be had is told last, with the
reason. Nothing of a job's data is in a report. Programs have the driver write
one on an error: OpenOptions::reports.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the chip, such as 0000:01:00.0 or 01:00.0
    #[arg(value_name = "BDF")]
    address: Bdf,

    /// Write to this file, and not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write JSON
    #[arg(long)]
    json: bool,

    /// Only read sysfs: do not open the chip
    #[arg(long, conflicts_with_all = ["restart", "timeout"])]
    passive: bool,

    /// Restart the firmware of a chip that does not serve, for its logs
    #[arg(long)]
    restart: bool,

    /// Longest that the chip may take to come up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Makes a report on the chip below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let host = Host::at(root);
    let function = inventory::find(&host, args.address)?;
    if inventory::kind(&function) != Kind::Accelerator {
        return Err(failure::with_hint(
            anyhow::anyhow!("{}: reports are on A1s, and this is none", args.address),
            "`auk show` tells what there is to see of it",
        ));
    }
    // First as it was before it is touched.
    let mut report = Report::of_function(&function);
    if args.passive {
        report.lacks(OPENED, "the chip was not opened, as --passive asks");
    } else {
        open(&host, args, &mut report);
    }
    let screen = Screen::stdout();
    let made = match args.json {
        true => output::json(&report)?,
        false if args.output.is_some() => text::render(&report, Screen::file()),
        false => text::render(&report, screen),
    };
    match &args.output {
        Some(path) => {
            fs::write(path, made).with_context(|| format!("writing {}", path.display()))?;
            output::remark(&format!("the report is in {}", path.display()));
        }
        None => output::print(&made)?,
    }
    Ok(if is_well(&report, args.passive) {
        ExitCode::SUCCESS
    } else {
        FOUND_WRONG.into()
    })
}

/// What only an open chip has.
const OPENED: &str = "registers, telemetry, logs";

/// Adds what an open chip says.
fn open(host: &Host, args: &Args, report: &mut Report) {
    let longest = Duration::from_secs(args.timeout);
    let options = OpenOptions::default()
        .timeout(longest)
        .longest_timeout(longest);
    let (device, wrong) = match Device::open_as_found(host, args.address, &options) {
        Ok(opened) => opened,
        Err(error @ Error::Busy { .. }) => {
            report.lacks(OPENED, format!("{error}, and so was not opened"));
            return;
        }
        Err(error) => {
            report.error = Some(error.to_string());
            report.lacks(OPENED, error);
            return;
        }
    };
    report.error = wrong.map(|error| error.to_string());
    report.add(&device);
    if report.error.is_some() && args.restart {
        match device.recover(Step::FirmwareRestart) {
            Ok(recovery) => {
                let steps = recovery.steps.iter().map(ToString::to_string);
                report.recovered_by.extend(steps);
                report.take_logs(&device);
            }
            Err(error) => report.lacks("recovery", error),
        }
    }
}

fn is_well(report: &Report, passive: bool) -> bool {
    let faulted = match &report.vital_signs {
        Some(vitals) => vitals.fault.is_some(),
        None => true,
    };
    !faulted && report.error.is_none() && (passive || report.missing.is_empty())
}
