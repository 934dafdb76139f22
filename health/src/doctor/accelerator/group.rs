//! The IOMMU group of an accelerator, member by member.

use std::fs;
use std::path::Path;

use super::super::{Finding, Level};
use super::{Accelerator, driver_of, is_vfio};
use crate::probe::{attributes, text};

const CHECK: &str = "iommu-group";
const EXPECTED: &str = "a group whose members are all VFIO's, without a driver, or bridges";

pub(super) fn examine(of: &Accelerator<'_>) -> Finding {
    let number = match attributes::iommu_group(&of.function) {
        Ok(number) => number,
        Err(error) => return Finding::unread(CHECK, &error, EXPECTED),
    };
    let Some(number) = number else {
        return match of.ground.names("sys/class/iommu").is_empty() {
            true => Finding::new(CHECK, Level::Fail, "in none", EXPECTED)
                .mend("turn the IOMMU on, as above"),
            false => Finding::new(CHECK, Level::Warn, "in none yet", EXPECTED)
                .mend("bind it: some IOMMUs' drivers make groups only when a driver asks"),
        };
    };
    let group = of.function.path().join("iommu_group");
    // The name that VFIO gives to groups it makes up, `vfio_noiommu_group_alloc` in drivers/vfio/group.c.
    if text::read(&group.join("name")).is_ok_and(|name| name == "vfio-noiommu") {
        let found =
            format!("{number}, made up by VFIO: no IOMMU guards the host's memory from the chip");
        return Finding::new(CHECK, Level::Warn, found, EXPECTED).mend("turn the IOMMU on");
    }
    let mut members = Vec::new();
    let entries = match fs::read_dir(group.join("devices")) {
        Ok(entries) => entries,
        Err(error) => {
            let error = crate::probe::ProbeError::io(&group.join("devices"), &error);
            return Finding::unread(CHECK, &error, EXPECTED);
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        members.push((name, Member::look(&entry.path())));
    }
    members.sort();
    let others: Vec<String> = members
        .iter()
        .filter(|(name, _)| name != of.bdf)
        .map(|(name, member)| {
            format!(
                "{name} ({})",
                member.driver.as_deref().unwrap_or("no driver")
            )
        })
        .collect();
    let found = match others.len() {
        0 => format!("{number}, alone"),
        _ => format!("{number}, with {}", others.join(", ")),
    };
    let offenders: Vec<&str> = members
        .iter()
        // Its own driver is a finding of its own.
        .filter(|(name, member)| name != of.bdf && !member.is_viable())
        .map(|(name, _)| name.as_str())
        .collect();
    match offenders.is_empty() {
        true => Finding::new(CHECK, Level::Ok, found, EXPECTED),
        false => Finding::new(CHECK, Level::Fail, found, EXPECTED).mend(format!(
            "auk bind {}; or put the chip into a slot whose port has ACS",
            offenders.join(" ")
        )),
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    driver: Option<String>,
    is_bridge: bool,
}

impl Member {
    fn look(device: &Path) -> Self {
        Self {
            // One that has just left has none.
            driver: driver_of(device).unwrap_or_default(),
            // A PCI-to-PCI bridge, PCI Code and ID Assignment Specification 1.16, section 1.7.
            is_bridge: text::read(&device.join("class"))
                .is_ok_and(|class| class.starts_with("0x0604")),
        }
    }

    /// Whether VFIO can have the group beside it: its driver is `driver_managed_dma`, as the kernel calls it since 6.0.
    fn is_viable(&self) -> bool {
        match self.driver.as_deref() {
            None | Some("pci-stub") => true,
            Some("pcieport") => self.is_bridge,
            Some(driver) => is_vfio(driver),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::*;
    use crate::doctor::tree::Tree;

    fn found(tree: &Tree) -> Finding {
        let found = examine(&tree.ground());
        found.into_iter().find(|f| f.check == CHECK).unwrap()
    }

    #[test]
    fn a_member_on_another_driver_is_named_with_it() {
        let tree = Tree::with_chip();
        assert_eq!(found(&tree).found, "7, alone");
        tree.member("0000:01:00.1", "0x040300", "snd_hda_intel");
        tree.member("0000:00:01.0", "0x060400", "pcieport");
        let finding = found(&tree);
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(
            finding.found,
            "7, with 0000:00:01.0 (pcieport), 0000:01:00.1 (snd_hda_intel)"
        );
        assert!(finding.mend.unwrap().starts_with("auk bind 0000:01:00.1;"));
    }

    #[test]
    fn bridges_stubs_and_vfio_are_no_hindrance() {
        let tree = Tree::with_chip();
        tree.member("0000:00:01.0", "0x060400", "pcieport");
        tree.member("0000:01:00.1", "0x040300", "pci-stub");
        tree.member("0000:01:00.2", "0x040300", "vfio-pci");
        assert_eq!(found(&tree).level, Level::Ok);
    }

    #[test]
    fn no_group_fails_and_one_that_vfio_made_up_is_warned_of() {
        let tree = Tree::with_chip();
        tree.write("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
        assert_eq!(found(&tree).level, Level::Warn);
        tree.remove("iommu_group");
        assert_eq!(found(&tree).level, Level::Fail);
    }
}
