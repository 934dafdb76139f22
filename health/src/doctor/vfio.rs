//! VFIO itself: its modules, its two ways in, and who may take them.

use super::ground::Ground;
use super::module::Module;
use super::{Finding, Level};

const DRIVER: &str = "vfio-pci";
const TRANSLATION: &str = "vfio-translation";
const INTERFACE: &str = "vfio-interface";
const PERMISSION: &str = "vfio-permission";
pub(super) const CHECKS: &[&str] = &[DRIVER, TRANSLATION, INTERFACE, PERMISSION];

const CONTAINER: &str = "dev/vfio/vfio";
const IOMMUFD: &str = "dev/iommu";

pub(super) fn examine(ground: &Ground) -> Vec<Finding> {
    vec![
        driver(ground),
        translation(ground),
        interface(ground),
        permission(ground),
    ]
}

fn driver(ground: &Ground) -> Finding {
    const EXPECTED: &str = "the driver vfio-pci, loaded or built in";
    let missing = |found| Finding::new(DRIVER, Level::Fail, found, EXPECTED);
    if ground.has("sys/bus/pci/drivers/vfio-pci") {
        return Finding::new(DRIVER, Level::Ok, "there", EXPECTED);
    }
    match Module::look(ground, "vfio_pci") {
        Module::There => {
            missing("its module is there, and the driver is not").mend("look at the kernel's log")
        }
        Module::Loadable => missing("not loaded").mend(
            "modprobe vfio-pci; for each boot: a line vfio-pci in a file of /etc/modules-load.d",
        ),
        Module::Absent => {
            missing("this kernel was built without").mend("take a kernel with CONFIG_VFIO_PCI")
        }
        Module::NotLoaded => missing("not loaded").mend("modprobe vfio-pci"),
    }
}

fn translation(ground: &Ground) -> Finding {
    const EXPECTED: &str = "vfio_iommu_type1 or iommufd";
    let there = |name| Module::look(ground, name) == Module::There;
    let found: Vec<&str> = ["vfio_iommu_type1", "iommufd"]
        .into_iter()
        .filter(|name| there(name))
        .collect();
    if !found.is_empty() {
        return Finding::new(TRANSLATION, Level::Ok, found.join(" and "), EXPECTED);
    }
    let finding = Finding::new(TRANSLATION, Level::Fail, "neither", EXPECTED);
    let absent = |name| Module::look(ground, name) == Module::Absent;
    match absent("vfio_iommu_type1") && absent("iommufd") {
        true => finding.mend("take a kernel with CONFIG_VFIO_IOMMU_TYPE1 or CONFIG_IOMMUFD"),
        false => finding.mend("modprobe vfio_iommu_type1, or iommufd"),
    }
}

/// Character devices with iommufd are the newer way; groups do as well.
fn interface(ground: &Ground) -> Finding {
    const EXPECTED: &str = "character devices with iommufd, or groups";
    let groups = ground.has(CONTAINER);
    let cdev = ground.has(IOMMUFD) && ground.has("dev/vfio/devices");
    let (level, found) = match (cdev, groups) {
        (true, true) => (Level::Ok, "character devices with iommufd, and groups"),
        (true, false) => (Level::Ok, "character devices with iommufd"),
        (false, true) => (Level::Ok, "groups"),
        (false, false) => (Level::Fail, "neither dev/vfio/vfio nor dev/iommu"),
    };
    let finding = Finding::new(INTERFACE, level, found, EXPECTED);
    match (cdev, groups) {
        (true, _) => finding,
        (false, true) if ground.has(IOMMUFD) => finding.mend(
            "no character devices: no function is bound to VFIO yet, or the kernel is without CONFIG_VFIO_DEVICE_CDEV (6.6 and newer)",
        ),
        (false, true) => finding.mend(
            "groups map 65,535 pieces of memory at most; a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV (6.6 and newer) has no such limit",
        ),
        (false, false) => finding.mend("load VFIO's modules, as above"),
    }
}

fn permission(ground: &Ground) -> Finding {
    const EXPECTED: &str = "read and write for this user";
    let nodes: Vec<&str> = [CONTAINER, IOMMUFD]
        .into_iter()
        .filter(|node| ground.has(node))
        .collect();
    if nodes.is_empty() {
        return Finding::not_applicable(PERMISSION, "no nodes of VFIO to open");
    }
    let denied: Vec<&str> = nodes
        .iter()
        .filter(|node| !ground.may_open(node))
        .copied()
        .collect();
    // One of the two ways is enough; which it is to be, the nodes of the devices decide.
    match denied.len() {
        0 => Finding::new(PERMISSION, Level::Ok, nodes.join(" and "), EXPECTED),
        refused => {
            let level = match refused == nodes.len() {
                true => Level::Fail,
                false => Level::Warn,
            };
            let found = format!("none to {}", denied.join(" and "));
            Finding::new(PERMISSION, level, found, EXPECTED).mend(udev_rule())
        }
    }
}

/// How a user other than root gets at nodes of VFIO.
pub(super) fn udev_rule() -> &'static str {
    "a udev rule for a group of its users, such as SUBSYSTEM==\"vfio\", GROUP=\"auk\", MODE=\"0660\" (and KERNEL==\"iommu\" likewise)"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    fn levels(tree: &Tree) -> Vec<Level> {
        examine(&tree.ground()).iter().map(|f| f.level).collect()
    }

    #[test]
    fn a_host_without_vfio_is_told_what_to_load() {
        let tree = Tree::new();
        let found = examine(&tree.ground());
        assert_eq!(
            levels(&tree),
            [Level::Fail, Level::Fail, Level::Fail, Level::NotApplicable]
        );
        assert!(
            found[0]
                .mend
                .as_deref()
                .unwrap()
                .contains("modprobe vfio-pci")
        );
        assert!(
            found[1]
                .mend
                .as_deref()
                .unwrap()
                .contains("modprobe vfio_iommu_type1")
        );
    }

    #[test]
    fn groups_alone_are_well() {
        let tree = Tree::new();
        tree.write("sys/bus/pci/drivers/vfio-pci/bind", "");
        tree.write("sys/module/vfio_iommu_type1/refcnt", "");
        tree.write("dev/vfio/vfio", "");
        assert_eq!(levels(&tree), [Level::Ok; 4]);
        assert_eq!(examine(&tree.ground())[2].found, "groups");
    }

    #[test]
    fn character_devices_alone_are_well() {
        let tree = Tree::new();
        tree.write("sys/bus/pci/drivers/vfio-pci/bind", "");
        tree.write("sys/module/iommufd/refcnt", "");
        tree.write("dev/iommu", "");
        tree.write("dev/vfio/devices/vfio0", "");
        assert_eq!(levels(&tree), [Level::Ok; 4]);
    }
}
