//! The ways to reach a function, and which of them a host has.

use std::fmt;
use std::path::PathBuf;

use crate::pci::{Host, PciError, PciFunction};

/// How to reach a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// The device's own node and iommufd if the host has them and the process may use them, else the group.
    #[default]
    Auto,
    /// The device's own node (`/dev/vfio/devices/vfioN`) and iommufd.
    Cdev,
    /// The IOMMU group (`/dev/vfio/N`) and a container of type1v2.
    Group,
    /// The group without any IOMMU (`/dev/vfio/noiommu-N`): the function can then write all memory of this host, whatever this
    /// process says. For hosts whose memory nobody minds. Memory cannot be mapped for DMA.
    UnsafeNoIommu,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "automatic",
            Self::Cdev => "cdev and iommufd",
            Self::Group => "group and type1v2",
            Self::UnsafeNoIommu => "group without IOMMU (unsafe)",
        })
    }
}

/// The device's own node, if the kernel says that it has one.
pub(super) fn cdev_path(host: &Host, function: &PciFunction) -> Result<Option<PathBuf>, PciError> {
    let name = function.vfio_device()?;
    Ok(name.map(|name| host.root().join("dev/vfio/devices").join(name)))
}

pub(super) fn iommufd_path(host: &Host) -> PathBuf {
    host.root().join("dev/iommu")
}

pub(super) fn container_path(host: &Host) -> PathBuf {
    host.root().join("dev/vfio/vfio")
}

pub(super) fn group_path(host: &Host, group: u32, unsafe_no_iommu: bool) -> PathBuf {
    let prefix = if unsafe_no_iommu { "noiommu-" } else { "" };
    host.root().join(format!("dev/vfio/{prefix}{group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_a_device_is_named_by_the_directory_in_sysfs() {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("sys/bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(devices.join("vfio-dev/vfio7")).unwrap();
        let host = Host::at(root.path());
        let function = host.function("01:00.0".parse().unwrap()).unwrap();
        assert_eq!(
            cdev_path(&host, &function).unwrap(),
            Some(root.path().join("dev/vfio/devices/vfio7"))
        );
    }
}
