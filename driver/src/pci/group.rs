//! The IOMMU group of a function: who is in it, and whether VFIO may have it.

use std::io;
use std::path::{Path, PathBuf};

use super::{PciError, PciFunction};

/// The name that VFIO gives to groups it makes up where no IOMMU protects (`vfio_noiommu_group_alloc` in
/// `drivers/vfio/group.c`).
const NO_IOMMU: &str = "vfio-noiommu";

/// A device in an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMember {
    /// Its name on its bus; of a PCI function, the address.
    pub name: String,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Whether it is a PCI-to-PCI bridge: a port, or what is behind one.
    pub is_bridge: bool,
}

impl GroupMember {
    /// Whether VFIO can have the group beside this member: it has no driver, one of VFIO's, `pci-stub`, or it is a
    /// bridge of `pcieport`'s, which does no DMA. Since Linux 6.0 such drivers say so (`driver_managed_dma`); before, VFIO had a
    /// list, and let any driver have bridges.
    #[must_use]
    pub fn is_viable(&self) -> bool {
        match self.driver.as_deref() {
            None | Some("pci-stub") => true,
            Some("pcieport") => self.is_bridge,
            Some(driver) => is_vfio_driver(driver),
        }
    }
}

/// An IOMMU group, member by member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IommuGroup {
    /// Its number.
    pub number: u32,
    /// The devices in it, by name.
    pub members: Vec<GroupMember>,
    /// Whether VFIO made it up in its no-IOMMU mode: nothing keeps the device from all of the host's memory.
    pub is_noiommu: bool,
}

impl IommuGroup {
    /// The members whose drivers keep VFIO out of the whole group.
    pub fn offenders(&self) -> impl Iterator<Item = &GroupMember> {
        self.members.iter().filter(|member| !member.is_viable())
    }

    /// Whether VFIO can have the group.
    #[must_use]
    pub fn is_viable(&self) -> bool {
        self.offenders().next().is_none()
    }
}

/// `vfio-pci`, and the variants for one device that are named after it, as `mlx5-vfio-pci`.
pub(super) fn is_vfio_driver(name: &str) -> bool {
    name == "vfio-pci" || name.ends_with("-vfio-pci") || name.ends_with("_vfio_pci")
}

impl PciFunction {
    /// The IOMMU group with all its members; `None` when the host has no IOMMU, or it is off.
    ///
    /// # Errors
    /// [`PciError`] when a link or the list of members cannot be read.
    pub fn group_members(&self) -> Result<Option<IommuGroup>, PciError> {
        let Some(number) = self.iommu_group()? else {
            return Ok(None);
        };
        let mut members = Vec::new();
        for (name, path) in self.entries("iommu_group/devices")? {
            members.push(GroupMember {
                driver: driver_of(&path).map_err(|source| self.file(&name, source))?,
                is_bridge: is_bridge(&path),
                name,
            });
        }
        members.sort();
        let name = std::fs::read_to_string(self.path().join("iommu_group/name"));
        Ok(Some(IommuGroup {
            number,
            members,
            is_noiommu: name.is_ok_and(|name| name.trim() == NO_IOMMU),
        }))
    }

    /// The name of its VFIO character device, such as `vfio0`, which is `/dev/vfio/devices/vfio0`. `None` when VFIO does
    /// not have the function, or the kernel has no such devices (before 6.6, or built without).
    ///
    /// # Errors
    /// [`PciError::File`] when the directory is there and cannot be read.
    pub fn vfio_device(&self) -> Result<Option<String>, PciError> {
        Ok(self
            .entries("vfio-dev")?
            .into_iter()
            .map(|(name, _)| name)
            .find(|name| name.starts_with("vfio")))
    }

    /// Names and paths in a directory of the function; none when there is no such directory.
    fn entries(&self, name: &str) -> Result<Vec<(String, PathBuf)>, PciError> {
        let directory = self.path().join(name);
        let failed = |source| self.file(name, source);
        let list = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            list => list.map_err(failed)?,
        };
        list.map(|entry| {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.path()))
        })
        .collect()
    }
}

fn driver_of(device: &Path) -> io::Result<Option<String>> {
    match std::fs::read_link(device.join("driver")) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Base class and subclass of PCI-to-PCI bridges, PCI Code and ID Assignment Specification 1.16, section 1.7. By class and not by
/// header type, because the class is told without asking the device.
fn is_bridge(device: &Path) -> bool {
    std::fs::read_to_string(device.join("class")).is_ok_and(|class| class.starts_with("0x0604"))
}

#[cfg(test)]
mod tests {
    use crate::pci::tree::Tree;

    #[test]
    fn a_group_is_told_member_by_member() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("vfio-pci"), Some(7));
        tree.function("0000:01:00.1", "0x040300", Some("snd_hda_intel"), Some(7));
        tree.function("0000:00:01.0", "0x060400", Some("pcieport"), Some(7));
        tree.function("0000:01:00.2", "0x0c0330", None, Some(7));
        tree.function("0000:00:1f.0", "0x060100", Some("lpc_ich"), Some(7));
        let group = tree.get("0000:01:00.0").group_members().unwrap().unwrap();
        let names: Vec<_> = group.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "0000:00:01.0",
                "0000:00:1f.0",
                "0000:01:00.0",
                "0000:01:00.1",
                "0000:01:00.2"
            ]
        );
        assert!(!group.is_viable() && !group.is_noiommu);
        let offenders: Vec<_> = group.offenders().map(|m| m.driver.as_deref()).collect();
        assert_eq!(offenders, [Some("lpc_ich"), Some("snd_hda_intel")]);
    }

    #[test]
    fn a_group_of_vfio_stubs_and_bridges_is_viable() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("mlx5-vfio-pci"), Some(7));
        tree.function("0000:01:00.1", "0x040300", Some("pci-stub"), Some(7));
        tree.function("0000:00:01.0", "0x060400", Some("pcieport"), Some(7));
        let group = tree.get("0000:01:00.0").group_members().unwrap().unwrap();
        assert!(group.is_viable(), "{group:?}");
    }

    #[test]
    fn a_function_without_an_iommu_has_no_group() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", None, None);
        assert_eq!(tree.get("0000:01:00.0").group_members().unwrap(), None);
    }

    #[test]
    fn a_group_that_vfio_made_up_is_known_by_its_name() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("vfio-pci"), Some(0));
        tree.write("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
        let group = tree.get("0000:01:00.0").group_members().unwrap().unwrap();
        assert!(group.is_noiommu);
    }

    #[test]
    fn the_character_device_has_the_name_that_the_kernel_gave_it() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", Some("vfio-pci"), Some(7));
        let function = tree.get("0000:01:00.0");
        assert_eq!(function.vfio_device().unwrap(), None);
        std::fs::create_dir_all(function.path().join("vfio-dev/vfio3")).unwrap();
        assert_eq!(function.vfio_device().unwrap().as_deref(), Some("vfio3"));
    }
}
