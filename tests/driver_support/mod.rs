//! What the driver's tests share: a simulated chip, and a device on it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::ops::Deref;
use std::path::{Path, PathBuf};

use auk_driver::pci::{Bdf, Host};
use auk_driver::{Device, Error, OpenOptions};
use auk_sim::{Chip, ChipProfile, Serving};

pub use auk_chip_checks::SOON;

/// A device, and the thread that serves its chip.
#[derive(Debug)]
pub struct Opened {
    pub device: Device,
    pub serving: Serving,
}

impl Deref for Opened {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

pub fn chip() -> Chip {
    Chip::new(profile()).unwrap()
}

/// Silicon with little memory, so that resets, which scrub it, are quick.
pub fn profile() -> ChipProfile {
    ChipProfile {
        memory: 16 << 20,
        ..ChipProfile::silicon(0xA1)
    }
}

pub fn open(chip: &Chip) -> Opened {
    try_open(chip, &OpenOptions::default()).unwrap()
}

pub fn try_open(chip: &Chip, options: &OpenOptions) -> Result<Opened, Error> {
    let (serving, socket) = chip.connect().unwrap();
    let device = Device::from_socket("a simulated chip", socket, options)?;
    Ok(Opened { device, serving })
}

/// The address of the one chip of [`host_with`].
pub fn bdf() -> Bdf {
    "0000:01:00.0".parse().unwrap()
}

/// A host of one chip: as much of its tree as opening needs, and the chip's socket in it.
pub fn host_with(root: &Path, chip: &Chip) -> (Host, Serving) {
    let host = Host::at(root);
    let function = root.join(format!("sys/bus/pci/devices/{}", bdf()));
    std::fs::create_dir_all(&function).unwrap();
    std::fs::write(function.join("config"), chip.config()).unwrap();
    let socket: PathBuf = host.simulator_socket(bdf());
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let serving = chip.serve(&socket).unwrap();
    (host, serving)
}

/// Nothing that hardware would leave undefined was done to the chip.
pub fn assert_strict(chip: &Chip) {
    assert_eq!(chip.strict_violations(), []);
}
