//! A machine without IOMMU.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test("a_chip_has_no_group", a_chip_has_no_group),
    test("show_works_all_the_same", show_works_all_the_same),
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
