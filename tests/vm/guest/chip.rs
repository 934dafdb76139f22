//! Our chip, opened through the kernel's VFIO.

use anyhow::{Context, Result};
use auk_driver::bus::vfio::Access;
use auk_driver::pci::{Bdf, Host};
use auk_driver::{Device, OpenOptions};
use auk_vm::Mode;

use crate::guest::Guest;
use crate::pci;

/// This machine.
pub(crate) fn host() -> Host {
    Host::at("/")
}

/// The interface that this boot is about, and no other.
pub(crate) fn access(guest: &Guest) -> Access {
    match guest.mode() {
        Mode::Group => Access::Group,
        Mode::Cdev => Access::Cdev,
    }
}

/// To open by it.
pub(crate) fn options(guest: &Guest) -> OpenOptions {
    OpenOptions::default().access(access(guest))
}

/// The address of a chip, bound to vfio-pci.
pub(crate) fn bound(guest: &Guest, number: usize) -> Result<Bdf> {
    let chips = guest.chips()?;
    let address = chips
        .get(number)
        .with_context(|| format!("no chip {number} among {chips:?}"))?;
    if pci::link_name(address, "driver")?.as_deref() != Some("vfio-pci") {
        pci::bind_vfio(address)?;
    }
    Ok(address.parse()?)
}

/// The first chip, open.
pub(crate) fn open(guest: &Guest) -> Result<Device> {
    let bdf = bound(guest, 0)?;
    Ok(Device::open(&host(), bdf, &options(guest))?)
}
