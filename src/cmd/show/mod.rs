//! `auk show`: all that is known of one device.

mod opened;
pub(super) mod seen;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_driver::pci::{Bdf, Host, PciFunction, VfioHolders};
use serde::Serialize;

use crate::failure::{self, FOUND_WRONG};
use crate::inventory::{self, Kind, Seen};
use crate::output::{self, Screen};
use opened::Opened;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk show 0000:01:00.0
  auk show 01:00.0 --root /tmp/host --json
  auk show 01:00.0 --root /tmp/host --open

Without --open all of it is read from sysfs, which disturbs no job. With --open the chip is opened through the
driver, as a job would: it must be free, it is reset, and what is in its memory is lost.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the device, such as 0000:01:00.0 or 01:00.0
    #[arg(value_name = "BDF")]
    address: Bdf,

    /// Open the chip for its capability registers, firmware slots and telemetry; resets it
    #[arg(long)]
    open: bool,

    /// Longest that opening may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), requires = "open")]
    timeout: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    seen: Seen,
    /// The kernel's taint, proc/sys/kernel/tainted; `null` when this tree has none.
    kernel_taint: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Opened>,
}

/// Shows the device below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let host = Host::at(root);
    let function = inventory::find(&host, args.address)?;
    // First opened and then looked at: it is the state after the reset at open that is shown.
    let opened = match args.open {
        true => Some(open(&host, &function, args)?),
        false => None,
    };
    let seen = inventory::look(&host, &function, &VfioHolders::look(&host));
    let taint = kernel_taint(&host);
    let wrong = !seen.problems.is_empty();
    if args.json {
        output::print_json(&Document {
            seen,
            kernel_taint: taint,
            opened,
        })?;
    } else {
        let screen = Screen::stdout();
        let mut text = seen::sections(&seen, taint);
        if let Some(opened) = &opened {
            text.extend(opened.sections());
        }
        let text: Vec<String> = text.iter().map(|fields| fields.render(screen)).collect();
        output::print(&text.join("\n"))?;
        for problem in &seen.problems {
            output::note(problem);
        }
    }
    Ok(if wrong {
        FOUND_WRONG.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// The kernel's taint, `Documentation/admin-guide/tainted-kernels.rst`.
fn kernel_taint(host: &Host) -> Option<u64> {
    let text = std::fs::read_to_string(host.root().join("proc/sys/kernel/tainted"));
    text.ok()?.trim().parse().ok()
}

fn open(host: &Host, function: &PciFunction, args: &Args) -> anyhow::Result<Opened> {
    if inventory::kind(function) != Kind::Accelerator {
        return Err(failure::with_hint(
            anyhow::anyhow!(
                "{}: only an A1 can be opened, and this is none",
                args.address
            ),
            "leave out --open",
        ));
    }
    opened::open(host, args.address, Duration::from_secs(args.timeout))
}
