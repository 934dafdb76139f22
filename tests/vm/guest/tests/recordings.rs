//! What the kernel's sysfs has for functions and interfaces, against what was recorded of it: the simulated host is made
//! after the recordings.

use std::path::Path;

use anyhow::{Context, Result};
use auk_vm::{Mode, Request};

use crate::guest::Guest;
use crate::pci::{self, E1000E};
use crate::rdma;
use crate::record;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test("a_chip_that_no_driver_has", a_chip_that_no_driver_has).only(Mode::Group),
    test("a_chip_that_vfio_has", a_chip_that_vfio_has),
    test("a_root_port", a_root_port).only(Mode::Group),
    test(
        "a_network_function_with_its_interface",
        a_network_function_with_its_interface,
    )
    .only(Mode::Group),
    test("soft_rdma", soft_rdma).only(Mode::Group),
    test("the_driver_vfio_pci", the_driver_vfio_pci),
];

fn a_chip_that_no_driver_has(guest: &Guest) -> Result<()> {
    record(guest, "chip", &device(&chip(guest)?))
}

fn a_chip_that_vfio_has(guest: &Guest) -> Result<()> {
    let chip = chip(guest)?;
    pci::bind_vfio(&chip)?;
    record(guest, "chip-vfio", &device(&chip))?;
    pci::unbind_vfio(&chip)
}

fn a_root_port(guest: &Guest) -> Result<()> {
    let port = std::fs::canonicalize(device(&chip(guest)?))?;
    let port = port.parent().context("a chip is behind a root port")?;
    // Without what is behind it, which has recordings of its own.
    let chip = chip(guest)?;
    let text = record::subtree(port)?;
    let is_ports_own = |line: &&str| !line.starts_with(&chip);
    let own: Vec<_> = text.lines().filter(is_ports_own).collect();
    keep(guest, "root-port", own.join("\n") + "\n")
}

fn a_network_function_with_its_interface(guest: &Guest) -> Result<()> {
    let address = pci::only(E1000E)?;
    rdma::bring_up(&pci::interface(&address)?)?;
    record(guest, "nic", &device(&address))
}

fn soft_rdma(guest: &Guest) -> Result<()> {
    let devices = "/sys/class/infiniband";
    let first = std::fs::read_dir(devices)?.next();
    let first = first.context("the group `rdma` has made one")??;
    record(guest, "rdma", &first.path())
}

fn the_driver_vfio_pci(guest: &Guest) -> Result<()> {
    record(
        guest,
        "vfio-pci",
        Path::new("/sys/bus/pci/drivers/vfio-pci"),
    )
}

fn chip(guest: &Guest) -> Result<String> {
    guest
        .chips()?
        .into_iter()
        .next()
        .context("there is no chip")
}

fn device(address: &str) -> std::path::PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

fn record(guest: &Guest, name: &str, top: &Path) -> Result<()> {
    keep(guest, name, record::subtree(top)?)
}

fn keep(guest: &Guest, name: &str, text: String) -> Result<()> {
    let name = match guest.mode() {
        Mode::Group => name.to_owned(),
        Mode::Cdev => format!("{name}-cdev"),
    };
    guest.ask(Request::Record { name, text }).map(drop)
}
