//! The parameters of `vfio_iommu_type1` (`drivers/vfio/vfio_iommu_type1.c`).

use super::ground::Ground;
use super::{Finding, Level};

const ENTRIES: &str = "dma-entry-limit";
const INTERRUPTS: &str = "unsafe-interrupts";
pub(super) const CHECKS: &[&str] = &[ENTRIES, INTERRUPTS];

/// The kernel's own, `U16_MAX`.
const DEFAULT_ENTRIES: u64 = 65_535;
const NOT_LOADED: &str = "vfio_iommu_type1 is not loaded";

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    vec![entries(ground), interrupts(ground)]
}

fn entries(ground: &Ground) -> Finding {
    const EXPECTED: &str = "65535, the kernel's own, or more";
    match ground.number("sys/module/vfio_iommu_type1/parameters/dma_entry_limit") {
        Err(error) => Finding::unread(ENTRIES, &error, EXPECTED),
        Ok(None) => Finding::not_applicable(ENTRIES, NOT_LOADED),
        Ok(Some(limit)) if limit >= DEFAULT_ENTRIES => {
            Finding::new(ENTRIES, Level::Ok, limit.to_string(), EXPECTED)
        }
        Ok(Some(limit)) => {
            let found = format!("{limit}: no container maps more pieces of memory than that");
            Finding::new(ENTRIES, Level::Warn, found, EXPECTED)
                .mend("echo 65535 > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit, and take it out of /etc/modprobe.d")
        }
    }
}

fn interrupts(ground: &Ground) -> Finding {
    const EXPECTED: &str =
        "N: functions are only handed out where the IOMMU checks their interrupts";
    match ground.text("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") {
        Err(error) => Finding::unread(INTERRUPTS, &error, EXPECTED),
        Ok(None) => Finding::not_applicable(INTERRUPTS, NOT_LOADED),
        Ok(Some(value)) if value == "N" => Finding::new(INTERRUPTS, Level::Ok, "N", EXPECTED),
        Ok(Some(value)) => Finding::new(
            INTERRUPTS,
            Level::Warn,
            format!("{value}: a function can raise any interrupt of the host, if its IOMMU does not check"),
            EXPECTED,
        )
        .mend("leave allow_unsafe_interrupts out, where the IOMMU remaps interrupts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn the_parameters_are_judged_where_the_module_is_loaded() {
        let tree = Tree::new();
        let levels = |tree: &Tree| -> Vec<Level> {
            examine(&tree.ground()).iter().map(|f| f.level).collect()
        };
        assert_eq!(levels(&tree), [Level::NotApplicable; 2]);
        let parameters = "sys/module/vfio_iommu_type1/parameters";
        tree.write(&format!("{parameters}/dma_entry_limit"), "65535\n");
        tree.write(&format!("{parameters}/allow_unsafe_interrupts"), "N\n");
        assert_eq!(levels(&tree), [Level::Ok; 2]);
        tree.write(&format!("{parameters}/dma_entry_limit"), "16\n");
        tree.write(&format!("{parameters}/allow_unsafe_interrupts"), "Y\n");
        assert_eq!(levels(&tree), [Level::Warn; 2]);
        tree.write(&format!("{parameters}/dma_entry_limit"), "many\n");
        assert_eq!(levels(&tree)[0], Level::Warn);
    }
}
