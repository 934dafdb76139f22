//! `auk list`: the accelerators and NICs of a host.

use std::path::Path;
use std::process::ExitCode;

use auk_driver::pci::{Host, VfioHolders};
use serde::Serialize;

use crate::failure::FOUND_WRONG;
use crate::inventory::{self, Kind, Link, Seen};
use crate::output::{self, Cell, Grid, Screen, Tone};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk list
  auk list --root /tmp/host
  auk list --json | jq -r '.devices[].address'

Nothing is opened: all of it is read from sysfs, also of chips that a job holds.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    root: &'a Path,
    devices: Vec<Seen>,
}

/// Lists the devices below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let host = Host::at(root);
    let open = VfioHolders::look(&host);
    let devices: Vec<Seen> = inventory::devices(&host)?
        .iter()
        .map(|function| inventory::look(&host, function, &open))
        .collect();
    let wrong = devices.iter().any(|seen| !seen.problems.is_empty());
    if args.json {
        output::print_json(&Document { root, devices })?;
    } else {
        if devices.is_empty() {
            output::note(&format!("no accelerators or NICs below {}", root.display()));
        } else {
            output::print(&table(&devices).render(Screen::stdout()))?;
        }
        for problem in devices.iter().flat_map(|seen| &seen.problems) {
            output::note(problem);
        }
    }
    Ok(if wrong {
        FOUND_WRONG.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn table(devices: &[Seen]) -> Grid {
    let mut grid = Grid::new(&[
        "ADDRESS", "MODEL", "STATE", "LINK", "NUMA", "GROUP", "DRIVER", "HELD BY",
    ]);
    for seen in devices {
        let owners = seen.owners();
        grid.push(vec![
            seen.address.as_str().into(),
            model(seen).into(),
            state(seen),
            seen.link.as_ref().map_or_else(|| "-".into(), link),
            seen.numa_node
                .map_or_else(|| "-".to_owned(), |node| node.to_string())
                .into(),
            group(seen),
            seen.driver.as_deref().unwrap_or("-").into(),
            match owners.is_empty() {
                true => "-".into(),
                false => owners.join(", ").into(),
            },
        ]);
    }
    grid
}

/// Its IOMMU group, and what keeps VFIO from it or makes it unsafe.
fn group(seen: &Seen) -> Cell {
    match &seen.group {
        None => "-".into(),
        Some(group) if group.noiommu => Cell::new(format!("{} no IOMMU", group.number), Tone::Bad),
        Some(group) if !group.viable && seen.kind == Kind::Accelerator => {
            Cell::new(format!("{} not viable", group.number), Tone::Doubtful)
        }
        Some(group) => group.number.to_string().into(),
    }
}

fn model(seen: &Seen) -> String {
    if let Some(model) = seen.model {
        return model.to_owned();
    }
    let id = |id: &Option<String>| {
        let text = id.as_deref().unwrap_or("?");
        text.trim_start_matches("0x").to_owned()
    };
    format!(
        "{} {}:{}",
        seen.kind.name(),
        id(&seen.vendor),
        id(&seen.device)
    )
}

/// A chip's firmware state, or the interfaces of a NIC.
fn state(seen: &Seen) -> Cell {
    match (&seen.vital_signs, seen.kind) {
        (Some(vitals), _) => firmware_state(vitals),
        (None, Kind::Accelerator) => Cell::new("unknown", Tone::Doubtful),
        (None, _) if seen.interfaces.is_empty() => "-".into(),
        (None, _) => seen.interfaces.join(" ").into(),
    }
}

/// The firmware's state, with the fault that it stopped on.
pub(super) fn firmware_state(vitals: &inventory::VitalSigns) -> Cell {
    let text = match vitals.fault {
        Some(fault) => format!("{} ({fault})", vitals.state),
        None => vitals.state.to_owned(),
    };
    let tone = match (vitals.state, vitals.fault) {
        ("Running", None) => Tone::Good,
        ("Faulted", _) | (_, Some(_)) => Tone::Bad,
        _ => Tone::Doubtful,
    };
    Cell::new(text, tone)
}

/// `32.0 GT/s x8`, and what it could be when it is less.
pub(super) fn link(link: &Link) -> Cell {
    let now = rate(&link.current_speed, link.current_width);
    let best = rate(&link.max_speed, link.max_width);
    match link.degraded {
        Some(true) => Cell::new(format!("{now} of {best}"), Tone::Doubtful),
        Some(false) => Cell::new(now, Tone::Plain),
        None => Cell::new(format!("{now}, at best unknown"), Tone::Plain),
    }
}

/// Speed and lanes; newer kernels add the name of the bus to the speed.
pub(super) fn rate(speed: &str, width: u8) -> String {
    format!("{} x{width}", speed.trim_end_matches(" PCIe"))
}
