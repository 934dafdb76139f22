//! Devices that nobody here wrote, as QEMU has them.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::pci::{self, E1000E, EDU, NVME};
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "edu_nvme_and_e1000e_are_there",
        edu_nvme_and_e1000e_are_there,
    ),
    test(
        "any_of_them_binds_to_vfio_and_back",
        any_of_them_binds_to_vfio_and_back,
    ),
];

fn edu_nvme_and_e1000e_are_there(_: &Guest) -> Result<()> {
    for kind in [EDU, NVME, E1000E] {
        pci::only(kind)?;
    }
    Ok(())
}

fn any_of_them_binds_to_vfio_and_back(_: &Guest) -> Result<()> {
    for kind in [EDU, NVME, E1000E] {
        let address = pci::only(kind)?;
        let before = pci::link_name(&address, "driver")?;
        pci::bind_vfio(&address)?;
        let group = pci::link_name(&address, "iommu_group")?.unwrap_or_default();
        ensure!(
            std::path::Path::new("/dev/vfio").join(&group).exists(),
            "{address} is bound, and there is no /dev/vfio/{group}"
        );
        pci::unbind_vfio(&address)?;
        let after = pci::link_name(&address, "driver")?;
        ensure!(
            after == before,
            "the driver of {address} was {before:?} and is {after:?}"
        );
    }
    Ok(())
}
