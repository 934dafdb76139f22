//! A host's tree made by hand, for unit tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Host, PciFunction};

/// A host with nothing but what a test puts there.
pub(super) struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("sys/bus/pci/devices")).unwrap();
        fs::create_dir_all(directory.path().join("sys/bus/pci/drivers")).unwrap();
        Self { directory }
    }

    pub(super) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn host(&self) -> Host {
        Host::at(self.root())
    }

    pub(super) fn get(&self, bdf: &str) -> PciFunction {
        self.host().function(bdf.parse().unwrap()).unwrap()
    }

    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn link(&self, path: &str, to: impl AsRef<Path>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// A function below a host bridge, linked as the kernel links them.
    pub(super) fn function(
        &self,
        bdf: &str,
        class: &str,
        driver: Option<&str>,
        group: Option<u32>,
    ) {
        let directory = format!("sys/devices/pci0000:00/{bdf}");
        let mut config = [0; 64];
        config[0x0E] = u8::from(class.starts_with("0x0604"));
        self.write(&format!("{directory}/config"), config);
        for (name, text) in [
            ("vendor", "0x1ae5"),
            ("device", "0xa100"),
            ("class", class),
            ("driver_override", "(null)"),
        ] {
            self.write(&format!("{directory}/{name}"), format!("{text}\n"));
        }
        let device = self.root().join(&directory);
        self.link(&format!("sys/bus/pci/devices/{bdf}"), &device);
        if let Some(driver) = driver {
            self.driver(driver);
            let to = self.root().join(format!("sys/bus/pci/drivers/{driver}"));
            self.link(&format!("{directory}/driver"), to);
        }
        if let Some(group) = group {
            let group = format!("sys/kernel/iommu_groups/{group}");
            self.link(&format!("{group}/devices/{bdf}"), &device);
            let to = self.root().join(group);
            self.link(&format!("{directory}/iommu_group"), to);
        }
    }

    /// A driver that is loaded.
    pub(super) fn driver(&self, name: &str) {
        fs::create_dir_all(self.root().join(format!("sys/bus/pci/drivers/{name}"))).unwrap();
    }
}
