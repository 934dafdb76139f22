//! What is seen of a chip before anybody opens it: sysfs, and the `auk` command on top of it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test("sysfs_has_every_chip", sysfs_has_every_chip),
    test("list_names_every_chip", list_names_every_chip),
    test(
        "show_reads_vital_signs_through_sysfs",
        show_reads_vital_signs_through_sysfs,
    ),
    test("the_heartbeat_counts", the_heartbeat_counts),
    test(
        "a_chip_that_vfio_has_is_in_a_group",
        a_chip_that_vfio_has_is_in_a_group,
    ),
];

fn sysfs_has_every_chip(guest: &Guest) -> Result<()> {
    let (found, expected) = (guest.chips()?, guest.setup().chips);
    ensure!(
        found.len() == expected,
        "{expected} chips are plugged in, and sysfs has {found:?}"
    );
    for chip in found {
        let class = pci::attribute(&chip, "class")?;
        ensure!(class == "0x120000", "the class of {chip} is {class}");
    }
    Ok(())
}

/// With virtio-iommu's driver as a module, a function gets its group when a driver asks for it, not before.
fn a_chip_that_vfio_has_is_in_a_group(guest: &Guest) -> Result<()> {
    for chip in guest.chips()? {
        pci::bind_vfio(&chip)?;
        let group = pci::link_name(&chip, "iommu_group")?;
        ensure!(group.is_some(), "{chip} has no IOMMU group");
        pci::unbind_vfio(&chip)?;
    }
    Ok(())
}

fn list_names_every_chip(guest: &Guest) -> Result<()> {
    let listed = guest.auk(&["list"])?;
    for chip in guest.chips()? {
        ensure!(listed.contains(&chip), "no {chip} in:\n{listed}");
    }
    Ok(())
}

fn show_reads_vital_signs_through_sysfs(guest: &Guest) -> Result<()> {
    for chip in guest.chips()? {
        let shown = show(guest, &chip)?;
        let vitals = &shown["vital_signs"];
        ensure!(vitals["state"] == "Running", "{chip} shows {shown:#}");
        ensure!(
            shown["link"]["current_speed"] == "32.0 GT/s PCIe",
            "{chip} shows {shown:#}"
        );
        ensure!(
            shown["problems"] == Value::Array(Vec::new()),
            "{chip} shows {shown:#}"
        );
    }
    Ok(())
}

fn the_heartbeat_counts(guest: &Guest) -> Result<()> {
    for chip in guest.chips()? {
        let heartbeat =
            || -> Result<_> { Ok(show(guest, &chip)?["vital_signs"]["heartbeat"].as_u64()) };
        let first = heartbeat()?;
        ensure!(first.is_some(), "{chip} shows no heartbeat");
        guest.wait_for("the heartbeat to move on", || Ok(heartbeat()? > first))?;
    }
    Ok(())
}

fn show(guest: &Guest, chip: &str) -> Result<Value> {
    let shown = guest.auk(&["show", chip, "--json"])?;
    serde_json::from_str(&shown).with_context(|| format!("reading {shown}"))
}
