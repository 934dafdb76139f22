//! Trees of any number of chips that nobody changes, made of a simulated host's first chip.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use auk_sim::host::Host;
use tempfile::TempDir;

/// What the agent reads of a chip and of the port above it.
const FILES: [&str; 13] = [
    "aer_dev_correctable",
    "aer_dev_fatal",
    "aer_dev_nonfatal",
    "class",
    "config",
    "current_link_speed",
    "current_link_width",
    "device",
    "max_link_speed",
    "max_link_width",
    "numa_node",
    "vendor",
    "power_state",
];
/// Extended capability ID of the serial number, PCI Express Base Specification 6.0, section 7.9.3.
const SERIAL: u32 = 3;

/// A directory in memory, where that can be had: a large host has some 30,000 files.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A tree of so many chips, each below a port in a domain of its own. They sleep, so that no heart has to beat.
pub(crate) fn still(root: &Path, chips: usize) {
    let model = scratch();
    let host = Host::builder(model.path().join("host"))
        .chips(1)
        .start()
        .unwrap();
    let chip = host.root().join("sys/bus/pci/devices").join("0000:01:00.0");
    let chip = fs::canonicalize(chip).unwrap();
    let port = chip.parent().unwrap();
    fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
    fs::create_dir_all(root.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
    fs::create_dir_all(root.join("sys/class/net")).unwrap();
    for index in 1..=chips {
        let domain = format!("{index:04x}");
        let below = format!("devices/pci{domain}:00/{domain}:00:01.0");
        let address = format!("{domain}:01:00.0");
        let directory = root.join("sys").join(&below);
        copy(port, &directory, index);
        copy(&chip, &directory.join(&address), index);
        fs::write(directory.join(&address).join("power_state"), "D3hot\n").unwrap();
        let link = root.join("sys/bus/pci/devices").join(&address);
        symlink(format!("../../../{below}/{address}"), link).unwrap();
        let driver = "../../../../bus/pci/drivers/vfio-pci";
        symlink(driver, directory.join(&address).join("driver")).unwrap();
        let group = format!("../../../../kernel/iommu_groups/{index}");
        symlink(group, directory.join(&address).join("iommu_group")).unwrap();
    }
}

fn copy(from: &Path, to: &Path, serial: usize) {
    fs::create_dir_all(to).unwrap();
    for name in FILES {
        let Ok(mut bytes) = fs::read(from.join(name)) else {
            continue;
        };
        if name == "config" {
            number(&mut bytes, serial);
        }
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Gives config space a serial number of its own.
fn number(config: &mut [u8], serial: usize) {
    let dword =
        |config: &[u8], at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    let mut at = 0x100;
    while at != 0 {
        let header = dword(config, at);
        if header & 0xFFFF == SERIAL {
            config[at + 4..at + 8].copy_from_slice(&(serial as u32).to_le_bytes());
        }
        at = (header >> 20) as usize;
    }
}
