//! A host's tree made by hand, as a kernel would show it: plain files that nobody acts on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A host with nothing but what a test puts there.
#[derive(Debug)]
pub struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("sys/bus/pci/devices")).unwrap();
        let tree = Self { directory };
        tree.driver("vfio-pci");
        tree.write("sys/bus/pci/drivers_probe", "");
        tree
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    pub fn driver(&self, name: &str) -> PathBuf {
        let directory = format!("sys/bus/pci/drivers/{name}");
        self.write(&format!("{directory}/unbind"), "");
        self.write(&format!("{directory}/bind"), "");
        self.root().join(directory)
    }

    /// A function on a driver, in an IOMMU group.
    pub fn function(&self, bdf: &str, class: &str, driver: &str, group: u32) {
        let directory = format!("sys/bus/pci/devices/{bdf}");
        let mut config = [0; 256];
        config[..4].copy_from_slice(&[0xE5, 0x1A, 0x00, 0xA1]);
        // Header Type, PCI Express Base Specification 6.0, section 7.5.1.1.9.
        config[0x0E] = u8::from(class == "0x060400");
        self.write(&format!("{directory}/config"), config);
        for (name, text) in [
            ("vendor", "0x1ae5"),
            ("device", "0xa100"),
            ("class", class),
            ("driver_override", "(null)"),
        ] {
            self.write(&format!("{directory}/{name}"), format!("{text}\n"));
        }
        let function = self.root().join(directory);
        symlink(self.driver(driver), function.join("driver")).unwrap();
        let group = self.root().join(format!("sys/kernel/iommu_groups/{group}"));
        fs::create_dir_all(group.join("devices")).unwrap();
        symlink(&function, group.join("devices").join(bdf)).unwrap();
        symlink(&group, function.join("iommu_group")).unwrap();
    }

    /// Process 4711, by the name of train, has a node open.
    pub fn has_open(&self, node: &str) {
        self.write("proc/4711/comm", "train\n");
        let descriptors = self.root().join("proc/4711/fd");
        fs::create_dir_all(&descriptors).unwrap();
        symlink(node, descriptors.join("9")).unwrap();
    }
}
