//! `auk bind` and `auk unbind`: give functions to VFIO, and back.

use std::path::Path;
use std::process::ExitCode;

use auk_driver::pci::bind::{self, Bound, IfInUse, VFIO_PCI};
use auk_driver::pci::{Bdf, Host, PciFunction};
use auk_driver::{Error as DriverError, Lease};
use serde::Serialize;

use crate::failure::{self, COULD_NOT};
use crate::output;

pub(crate) const BIND_EXAMPLES: &str = "\
Examples:
  auk bind 0000:01:00.0
  auk bind 01:00.0 02:00.0 --json
  auk bind 01:00.0 --driver mlx5-vfio-pci

The driver that the device has now is noted down below /run/auk/bind, and `auk unbind` gives the device back to it.
A device in use is refused: one that a process has open, an interface that is up, a disk that is mounted. A bridge
always is. Needs root.";

pub(crate) const UNBIND_EXAMPLES: &str = "\
Examples:
  auk unbind 0000:01:00.0
  auk unbind 01:00.0 --driver nvme
  auk unbind 01:00.0 --force

Gives the device back to the driver that it had before `auk bind`. With --force a process that has it open is asked
to let go, and waited for, 30 s at most. Needs root.";

/// Arguments of `auk bind`.
#[derive(Debug, clap::Args)]
pub(crate) struct BindArgs {
    #[command(flatten)]
    devices: Devices,

    /// The driver to give them to
    #[arg(long, value_name = "NAME", default_value = VFIO_PCI)]
    driver: String,
}

/// Arguments of `auk unbind`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnbindArgs {
    #[command(flatten)]
    devices: Devices,

    /// The driver to give them to, instead of the one that they had
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Devices {
    /// Addresses of the devices, such as 0000:01:00.0 or 01:00.0
    #[arg(value_name = "BDF", required = true)]
    addresses: Vec<Bdf>,

    /// Take devices that are in use
    #[arg(long)]
    force: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    root: &'a Path,
    devices: Vec<Done>,
}

/// What became of one device.
#[derive(Serialize)]
struct Done {
    address: String,
    before: Option<String>,
    now: Option<String>,
    /// `null` when it has the driver that was asked for.
    error: Option<String>,
    notes: Vec<String>,
}

/// Gives devices below `root` to a driver.
pub(crate) fn run_bind(root: &Path, args: &BindArgs) -> anyhow::Result<ExitCode> {
    each(root, &args.devices, |host, function, if_in_use| {
        let bound = bind::bind(host, function, &args.driver, if_in_use)?;
        let mut notes = bound.warnings.clone();
        notes.extend(group_note(function));
        Ok((bound, notes))
    })
}

/// Gives devices below `root` back.
pub(crate) fn run_unbind(root: &Path, args: &UnbindArgs) -> anyhow::Result<ExitCode> {
    each(root, &args.devices, |host, function, if_in_use| {
        let bound = bind::unbind(host, function, args.driver.as_deref(), if_in_use)?;
        let notes = bound.warnings.clone();
        Ok((bound, notes))
    })
}

/// Does it to one after the other; one that fails keeps none of the others from it.
fn each(
    root: &Path,
    devices: &Devices,
    mut change: impl FnMut(&Host, &PciFunction, IfInUse) -> anyhow::Result<(Bound, Vec<String>)>,
) -> anyhow::Result<ExitCode> {
    let host = Host::at(root);
    let mut done = Vec::new();
    for address in &devices.addresses {
        let changed = under_lease(&host, *address, devices.force, &mut change);
        done.push(match changed {
            Ok((bound, notes)) => Done {
                address: address.to_string(),
                before: bound.before,
                now: bound.now,
                error: None,
                notes,
            },
            Err(error) => {
                failure::report(&error);
                let function = host.function(*address).ok();
                let driver = function.and_then(|function| function.driver().ok().flatten());
                Done {
                    address: address.to_string(),
                    before: driver.clone(),
                    now: driver,
                    error: Some(format!("{error:#}")),
                    notes: Vec::new(),
                }
            }
        });
    }
    let failed = done.iter().any(|done| done.error.is_some());
    if devices.json {
        output::print_json(&Document {
            root,
            devices: done,
        })?;
    } else {
        for done in &done {
            if done.error.is_none() {
                output::print(&line(done))?;
            }
            for note in &done.notes {
                output::note(&format!("{}: {note}", done.address));
            }
        }
    }
    Ok(if failed {
        COULD_NOT.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn line(done: &Done) -> String {
    let address = &done.address;
    let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "no driver".to_owned());
    let text = if done.before == done.now {
        format!("{address}: {}, as before", name(&done.now))
    } else {
        format!(
            "{address}: {}, before {}",
            name(&done.now),
            name(&done.before)
        )
    };
    output::harmless(&text) + "\n"
}

/// With the device's lease, so that no job opens it in the midst of the change.
fn under_lease<T>(
    host: &Host,
    address: Bdf,
    force: bool,
    change: impl FnOnce(&Host, &PciFunction, IfInUse) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let function = host.function(address)?;
    let _lease = match Lease::acquire(host, address) {
        Ok(lease) => Some(lease),
        Err(error @ DriverError::Busy { .. }) if force => {
            output::note(&format!("{error}; taken all the same"));
            None
        }
        Err(error @ DriverError::Busy { .. }) => {
            return Err(failure::with_hint(
                error,
                "wait until it is done, or --force",
            ));
        }
        Err(error) => return Err(failure::with_hint(error, "run it as root")),
    };
    let if_in_use = match force {
        true => IfInUse::Force,
        false => IfInUse::Refuse,
    };
    change(host, &function, if_in_use)
}

/// Who else has to be bound before VFIO opens the function.
fn group_note(function: &PciFunction) -> Option<String> {
    let group = function.group_members().ok().flatten()?;
    if group.is_noiommu {
        return Some(
            "no IOMMU guards the host's memory from it: any process that opens it can read and write all of it".to_owned(),
        );
    }
    let others: Vec<String> = group
        .offenders()
        .map(|member| {
            format!(
                "{} (driver {})",
                member.name,
                member.driver.as_deref().unwrap_or("none")
            )
        })
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "VFIO cannot open it yet: its IOMMU group {} holds {} as well; bind them too, or unbind them",
            group.number,
            others.join(", ")
        )
    })
}
