//! VFIO's mode without an IOMMU, in which a chip can write all of the host's memory.

use super::ground::Ground;
use super::{Finding, Level};

const MODE: &str = "noiommu-mode";
const TAINT: &str = "kernel-taint";
pub(super) const CHECKS: &[&str] = &[MODE, TAINT];

/// `TAINT_USER`, bit 6 and letter U of `Documentation/admin-guide/tainted-kernels.rst`: a user asked for something out of spec.
/// VFIO sets it when a device is opened without an IOMMU.
const TAINT_USER: u64 = 1 << 6;

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    vec![mode(ground), taint(ground)]
}

fn mode(ground: &Ground) -> Finding {
    const EXPECTED: &str = "off";
    match ground.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode") {
        Err(error) => Finding::unread(MODE, &error, EXPECTED),
        Ok(None) => Finding::new(MODE, Level::Ok, "off, and this kernel cannot, or has no VFIO loaded", EXPECTED),
        Ok(Some(value)) if value == "N" => Finding::new(MODE, Level::Ok, "off", EXPECTED),
        Ok(Some(value)) => Finding::new(
            MODE,
            Level::Warn,
            format!("{value}: functions without an IOMMU can be opened, and can then write all of the host's memory"),
            EXPECTED,
        )
        .mend("echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and take it out of /etc/modprobe.d"),
    }
}

fn taint(ground: &Ground) -> Finding {
    const EXPECTED: &str = "not tainted by a user (bit 6)";
    match ground.number("proc/sys/kernel/tainted") {
        Err(error) => Finding::unread(TAINT, &error, EXPECTED),
        Ok(None) => Finding::not_applicable(TAINT, "no proc/sys/kernel/tainted in this tree"),
        Ok(Some(bits)) if bits & TAINT_USER != 0 => Finding::new(
            TAINT,
            Level::Warn,
            format!("{bits}: tainted by a user since boot, as VFIO does when a device is opened without an IOMMU"),
            EXPECTED,
        )
        .mend("reboot; what was written over nobody knows"),
        Ok(Some(bits)) => Finding::new(TAINT, Level::Ok, bits.to_string(), EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn the_mode_and_its_trace_are_warned_of() {
        let tree = Tree::new();
        tree.write(
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "N\n",
        );
        // O and E: out-of-tree and unsigned modules.
        tree.write("proc/sys/kernel/tainted", "12288\n");
        assert!(examine(&tree.ground()).iter().all(|f| f.level == Level::Ok));
        tree.write(
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "Y\n",
        );
        tree.write("proc/sys/kernel/tainted", "12352\n");
        assert!(
            examine(&tree.ground())
                .iter()
                .all(|f| f.level == Level::Warn)
        );
    }
}
