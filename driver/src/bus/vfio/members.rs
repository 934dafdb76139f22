//! Who shares an IOMMU group, and is in the way of using it from user space.

use crate::pci::{Host, PciFunction};

/// Address and driver of each member that the kernel itself uses.
///
/// Not in the way are functions without a driver, those of VFIO's drivers, of `pci-stub`, which does nothing with them, and of
/// `pcieport`, which does no DMA for others (`driver_managed_dma` in the kernel).
pub(super) fn in_the_way(host: &Host, function: &PciFunction) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(function.path().join("iommu_group/devices")) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let bdf = entry.file_name().to_string_lossy().parse().ok()?;
            let driver = host.function(bdf).ok()?.driver().ok()??;
            let harmless = driver.contains("vfio") || driver == "pci-stub" || driver == "pcieport";
            (!harmless).then(|| format!("{bdf} ({driver})"))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn members_that_the_kernel_uses_are_named_with_their_drivers() {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("sys/bus/pci/devices");
        let group = root.path().join("sys/kernel/iommu_groups/5/devices");
        std::fs::create_dir_all(&group).unwrap();
        for (bdf, driver) in [
            ("0000:01:00.0", Some("vfio-pci")),
            ("0000:01:00.1", Some("snd_hda_intel")),
            ("0000:01:00.2", None),
            ("0000:00:01.0", Some("pcieport")),
        ] {
            let dir = devices.join(bdf);
            std::fs::create_dir_all(&dir).unwrap();
            symlink(group.parent().unwrap(), dir.join("iommu_group")).unwrap();
            symlink(&dir, group.join(bdf)).unwrap();
            if let Some(driver) = driver {
                symlink(format!("/drivers/{driver}"), dir.join("driver")).unwrap();
            }
        }
        let host = Host::at(root.path());
        let function = host.function("01:00.0".parse().unwrap()).unwrap();
        assert_eq!(
            in_the_way(&host, &function),
            ["0000:01:00.1 (snd_hda_intel)"]
        );
    }
}
