//! A machine without IOMMU.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};
use crate::tests::doctor;

pub(crate) const TESTS: &[Test] = &[
    test("a_chip_has_no_group", a_chip_has_no_group),
    test("show_works_all_the_same", show_works_all_the_same),
    test("the_doctor_says_what_to_do", the_doctor_says_what_to_do),
    test("bind_is_refused", bind_is_refused),
];

fn a_chip_has_no_group(guest: &Guest) -> Result<()> {
    for chip in guest.chips()? {
        let group = pci::link_name(&chip, "iommu_group")?;
        ensure!(group.is_none(), "{chip} is in group {group:?}");
    }
    Ok(())
}

fn show_works_all_the_same(guest: &Guest) -> Result<()> {
    for chip in guest.chips()? {
        let shown = guest.auk(&["show", &chip])?;
        ensure!(shown.contains("Running"), "{shown}");
    }
    Ok(())
}

fn the_doctor_says_what_to_do(guest: &Guest) -> Result<()> {
    doctor::finds(guest, ("host", "iommu"), "fail", "VT-d or AMD-Vi")?;
    doctor::finds(guest, ("host", "iommu-groups"), "fail", "turn the IOMMU on")
}

fn bind_is_refused(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    let said = guest.auk_fails(&["bind", chip])?;
    ensure!(said.contains("IOMMU"), "{said}");
    Ok(())
}
