//! A host's tree made by hand, for unit tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use auk_asic::ident::{Model, VENDOR};

use super::ground::Ground;

pub(super) const CHIP: &str = "0000:01:00.0";

/// A host with nothing but what a test puts there.
pub(super) struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    /// With a chip that a job could open by its group, below a port.
    pub(super) fn with_chip() -> Self {
        let tree = Self::new();
        let port = "sys/devices/pci0000:00/0000:00:01.0";
        tree.write(&format!("{port}/{CHIP}/config"), [0; 4096]);
        tree.link(
            &format!("sys/bus/pci/devices/{CHIP}"),
            &format!("{port}/{CHIP}"),
        );
        tree.link(&format!("{port}/driver"), "sys/bus/pci/drivers/pcieport");
        let bar = "0x0000004000000000 0x000000400007ffff 0x0000000000140204\n";
        let none = "0x0 0x0 0x0\n";
        for (name, text) in [
            ("vendor", format!("{VENDOR:#06x}\n")),
            ("device", format!("{:#06x}\n", Model::Silicon.code())),
            ("class", "0x120000\n".to_owned()),
            ("resource", [bar, none, bar, none, bar, none].concat()),
            ("numa_node", "0\n".to_owned()),
            ("power_state", "D0\n".to_owned()),
        ] {
            tree.write_device(name, text);
        }
        tree.relink("driver", "sys/bus/pci/drivers/vfio-pci");
        tree.write("sys/kernel/iommu_groups/7/type", "DMA-FQ\n");
        tree.relink("iommu_group", "sys/kernel/iommu_groups/7");
        tree.link(
            &format!("sys/kernel/iommu_groups/7/devices/{CHIP}"),
            &format!("{port}/{CHIP}"),
        );
        tree.write("dev/vfio/7", "");
        tree
    }

    /// One more member of the chip's group.
    pub(super) fn member(&self, bdf: &str, class: &str, driver: &str) {
        let directory = format!("sys/devices/pci0000:00/other/{bdf}");
        self.write(&format!("{directory}/class"), format!("{class}\n"));
        self.link(
            &format!("{directory}/driver"),
            &format!("sys/bus/pci/drivers/{driver}"),
        );
        self.link(
            &format!("sys/kernel/iommu_groups/7/devices/{bdf}"),
            &directory,
        );
    }

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn ground(&self) -> Ground {
        Ground::at(self.root(), Vec::new())
    }

    pub(super) fn device(&self) -> PathBuf {
        self.root().join("sys/bus/pci/devices").join(CHIP)
    }

    pub(super) fn write(&self, below: &str, contents: impl AsRef<[u8]>) {
        let path = self.root().join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    pub(super) fn write_device(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.device().join(name), contents).unwrap();
    }

    fn link(&self, below: &str, to: &str) {
        let path = self.root().join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.root().join(to), path).unwrap();
    }

    /// Has a link of the chip lead elsewhere.
    pub(super) fn relink(&self, name: &str, to: &str) {
        let link = self.device().join(name);
        let _absent = fs::remove_file(&link);
        symlink(self.root().join(to), link).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.device().join(name)).unwrap();
    }
}
