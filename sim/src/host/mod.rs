//! The simulated host: a directory that looks like a machine with chips and NICs.
//!
//! It has the parts of `/sys` that drivers and agents read, a vfio-user socket per chip, and a control socket for
//! faults ([`crate::inject`]). What is in the tree, and what is not, is in `docs/simulator.md`.
//!
//! ```
//! use auk_sim::host::Host;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let host = Host::builder(directory.path().join("host")).chips(2).nics(1).start()?;
//! for chip in host.chips() {
//!     println!("{} listens at {}", chip.bdf, chip.socket.display());
//! }
//! host.stop();
//! # Ok(())
//! # }
//! ```

mod aer;
mod bdf;
mod claim;
mod config_image;
mod config_view;
mod control;
mod error;
mod files;
mod function;
mod nic;
mod updater;
mod vital_window;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auk_asic::config::header;

use crate::inject::{CONTROL_SOCKET, InjectError, Injection, Verb};
use crate::{Chip, ChipProfile, Link, Serving};
use claim::Claim;
use config_image::{Bar, ConfigImage, Identity};
use config_view::{ConfigView, LinkState};
use control::Control;
use files::Files;
use function::{Function, Placement};
use nic::Nic;
use updater::{Tree, Updater};

pub use bdf::Bdf;
pub use error::HostError;

/// Most chips, and most NICs, of one host: eight ports of eight functions each.
pub const MAX_DEVICES: usize = 64;

/// Serial number of the first chip of silicon.
const FIRST_SERIAL: u64 = 0xA100_0000_0000_0001;
/// Bus of the first chip and of the first NIC.
const CHIP_BUS: u8 = 0x01;
const NIC_BUS: u8 = 0x41;
/// Device number on bus 0 of the first port above a chip and above a NIC.
const CHIP_PORT: u8 = 1;
const NIC_PORT: u8 = 0x10;
/// Where the host's firmware puts BARs, and how far from device to device.
const MMIO: u64 = 0x40_0000_0000;
const MMIO_STRIDE: u64 = 0x10_0000_0000;

const ROOT_PORT: Identity = Identity {
    vendor: 0x8086,
    device: 0x352A,
    subsystem: (0, 0),
    class: 0x06_04_00,
    revision: 4,
};
const NIC: Identity = Identity {
    vendor: 0x15B3,
    device: 0x1021,
    subsystem: (0x15B3, 0x0023),
    class: 0x02_00_00,
    revision: 0,
};
/// 32 GT/s, 16 lanes.
const NIC_LINK: LinkState = LinkState {
    speed: 5,
    width: 16,
};

/// Makes simulated hosts.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Host {
    /// A host whose tree will begin at `root`: a directory that is new, empty, or left behind by a dead host.
    #[must_use]
    pub fn builder(root: impl Into<PathBuf>) -> HostBuilder {
        HostBuilder {
            root: root.into(),
            silicon: 0,
            others: Vec::new(),
            nics: 0,
        }
    }
}

/// What a simulated host is to have.
#[derive(Clone, Debug)]
pub struct HostBuilder {
    root: PathBuf,
    silicon: usize,
    others: Vec<ChipProfile>,
    nics: usize,
}

impl HostBuilder {
    /// This many chips of silicon, with serial numbers of their own.
    #[must_use]
    pub fn chips(mut self, count: usize) -> Self {
        self.silicon = count;
        self
    }

    /// One more chip, as the profile says, after those of [`HostBuilder::chips`].
    #[must_use]
    pub fn chip(mut self, profile: ChipProfile) -> Self {
        self.others.push(profile);
        self
    }

    /// This many NICs.
    #[must_use]
    pub fn nics(mut self, count: usize) -> Self {
        self.nics = count;
        self
    }

    /// Makes the tree, powers the chips on and serves them.
    ///
    /// # Errors
    /// [`HostError`]; then nothing is left behind.
    pub fn start(self) -> Result<SimulatedHost, HostError> {
        let count = self.silicon.saturating_add(self.others.len());
        for (what, asked) in [("chips", count), ("NICs", self.nics)] {
            if asked > MAX_DEVICES {
                return Err(HostError::TooMany {
                    what,
                    asked,
                    most: MAX_DEVICES,
                });
            }
        }
        let claim = Claim::take(&self.root)?;
        let files = Files::new(&self.root, "run/auk/sim/next");
        for directory in [
            "sys/bus/pci/devices",
            "sys/class/net",
            "run/auk/sim",
            "run/auk/lease",
        ] {
            files.directory(directory)?;
        }
        let mut chips = Vec::new();
        let mut tree = Tree {
            chips: Vec::new(),
            nics: Vec::new(),
        };
        let silicon =
            (0..self.silicon as u64).map(|index| ChipProfile::silicon(FIRST_SERIAL + index));
        for (index, profile) in silicon.chain(self.others).enumerate() {
            let (chip, function) = start_chip(&files, index, count, profile)?;
            tree.chips.push((chip.chip.clone(), function));
            chips.push(chip);
        }
        let mut nics = Vec::new();
        for index in 0..self.nics {
            let (nic, state) = start_nic(&files, index, self.nics)?;
            tree.nics.push(state);
            nics.push(nic);
        }
        let devices = Arc::new(Devices {
            chips,
            nics,
            updater: Updater::start(tree)?,
        });
        let theirs = Arc::clone(&devices);
        let control = Control::start(&self.root.join(CONTROL_SOCKET), move |injection| {
            theirs.inject(injection)
        })?;
        Ok(SimulatedHost {
            _control: control,
            devices,
            root: self.root,
            _claim: claim,
        })
    }
}

/// A chip of a simulated host.
#[derive(Debug)]
pub struct SimulatedChip {
    /// Where it is.
    pub bdf: Bdf,
    /// Where its vfio-user server listens.
    pub socket: PathBuf,
    /// The chip itself.
    pub chip: Chip,
    _serving: Serving,
}

/// A NIC of a simulated host.
#[derive(Clone, Debug)]
pub struct SimulatedNic {
    /// Where it is.
    pub bdf: Bdf,
    /// Its network interface.
    pub interface: String,
}

/// A simulated host that runs. Dropping it stops it: its threads end, and its tree and sockets are removed.
pub struct SimulatedHost {
    // In the order in which they end: nobody asks, nobody serves, nobody writes, the tree goes.
    _control: Control,
    devices: Arc<Devices>,
    root: PathBuf,
    _claim: Claim,
}

impl std::fmt::Debug for SimulatedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedHost")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl SimulatedHost {
    /// Where the tree begins.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The chips, by address.
    #[must_use]
    pub fn chips(&self) -> &[SimulatedChip] {
        &self.devices.chips
    }

    /// The NICs, by address.
    #[must_use]
    pub fn nics(&self) -> &[SimulatedNic] {
        &self.devices.nics
    }

    /// Makes something happen, as the control socket does.
    ///
    /// # Errors
    /// [`InjectError`]; then nothing happened.
    pub fn inject(&self, injection: &Injection) -> Result<(), InjectError> {
        self.devices.inject(injection)
    }

    /// Stops the host, as dropping it does.
    pub fn stop(self) {
        drop(self);
    }
}

struct Devices {
    chips: Vec<SimulatedChip>,
    nics: Vec<SimulatedNic>,
    updater: Updater,
}

impl Devices {
    fn inject(&self, injection: &Injection) -> Result<(), InjectError> {
        let target = injection.target.as_str();
        let verb = injection.verb;
        let chip = self.chips.iter().find(|chip| chip.bdf.is_named(target));
        let nic = self
            .nics
            .iter()
            .position(|nic| nic.bdf.is_named(target) || nic.interface == target);
        let for_nics = matches!(verb, Verb::CarrierFlap { .. });
        match (chip, nic) {
            (Some(chip), _) if !for_nics => inject_chip(&chip.chip, verb)?,
            (_, Some(nic)) if for_nics => return self.inject_nic(nic, verb),
            (None, None) => {
                let chips = self.chips.iter().map(|chip| chip.bdf.to_string());
                let nics = self
                    .nics
                    .iter()
                    .map(|nic| format!("{} ({})", nic.bdf, nic.interface));
                let known = chips.chain(nics).collect();
                return Err(InjectError::UnknownTarget {
                    target: target.to_owned(),
                    known,
                });
            }
            _ => {
                let (expected, found) = if for_nics {
                    ("NICs", "a chip")
                } else {
                    ("chips", "a NIC")
                };
                let target = target.to_owned();
                return Err(InjectError::WrongKind {
                    verb: verb.name(),
                    expected,
                    target,
                    found,
                });
            }
        }
        self.updater.change(|_| ());
        Ok(())
    }

    fn inject_nic(&self, index: usize, verb: Verb) -> Result<(), InjectError> {
        let out_of_range = |reason: &str| {
            Err(InjectError::OutOfRange {
                verb: verb.name(),
                reason: reason.to_owned(),
            })
        };
        let Verb::CarrierFlap { count, down_ms } = verb else {
            return Ok(());
        };
        if !(1..=1000).contains(&count) {
            return out_of_range("count is 1 to 1000");
        }
        if !(1..=3_600_000).contains(&down_ms) {
            return out_of_range("down_ms is 1 to 3600000");
        }
        let down = Duration::from_millis(down_ms);
        let taken = self.updater.change(|tree| {
            tree.nics
                .get_mut(index)
                .is_some_and(|nic| nic.flap(count, down))
        });
        if taken {
            Ok(())
        } else {
            out_of_range("too many flaps are waiting already")
        }
    }
}

fn inject_chip(chip: &Chip, verb: Verb) -> Result<(), InjectError> {
    match verb {
        Verb::EccCe { count: 0 } => {
            let reason = "count is at least 1".to_owned();
            return Err(InjectError::OutOfRange {
                verb: verb.name(),
                reason,
            });
        }
        Verb::EccCe { count } => chip.inject_ecc_correctable(count),
        Verb::EccUe => chip.inject_ecc_uncorrectable(),
        Verb::FirmwareHang => chip.inject_firmware_hang(),
        Verb::LinkWidth { lanes } => {
            let link = Link {
                width: lanes,
                ..chip.profile().link
            };
            chip.inject_link(link)
                .map_err(|error| InjectError::OutOfRange {
                    verb: verb.name(),
                    reason: error.to_string(),
                })?;
        }
        Verb::CarrierFlap { .. } => {}
    }
    Ok(())
}

/// Makes the root port above device `index`, and says where that is.
fn start_port(
    files: &Files,
    first_port: u8,
    index: usize,
    count: usize,
    bus: u8,
    link: LinkState,
) -> Result<Bdf, HostError> {
    let bdf = Bdf {
        domain: 0,
        bus: 0,
        device: first_port + (index / 8) as u8,
        function: (index % 8) as u8,
    };
    let multi_function = count > index / 8 * 8 + 1;
    let image = ConfigImage::root_port(ROOT_PORT, link, bus, multi_function);
    let placement = Placement {
        bdf,
        directory: format!("sys/devices/pci0000:00/{bdf}"),
        driver: "pcieport",
        iommu_group: u32::from(bus) * 2,
        irq: 24 + u32::from(bus),
        is_bridge: true,
    };
    Function::create(files, placement, image.bytes(), Vec::new())?;
    Ok(bdf)
}

fn below(port: Bdf, bus: u8, driver: &'static str) -> Placement {
    let bdf = Bdf::endpoint(bus);
    Placement {
        bdf,
        directory: format!("sys/devices/pci0000:00/{port}/{bdf}"),
        driver,
        iommu_group: u32::from(bus) * 2 + 1,
        irq: 0,
        is_bridge: false,
    }
}

fn start_chip(
    files: &Files,
    index: usize,
    count: usize,
    profile: ChipProfile,
) -> Result<(SimulatedChip, Function), HostError> {
    let bus = CHIP_BUS + index as u8;
    let bdf = Bdf::endpoint(bus);
    let chip = Chip::new(profile).map_err(|source| HostError::Chip { bdf, source })?;
    let socket = files.path(&format!("run/auk/sim/{bdf}.sock"));
    let serving = chip
        .serve(&socket)
        .map_err(|source| HostError::Serve { bdf, source })?;
    let link = chip.profile().link;
    let link = LinkState {
        speed: link.speed,
        width: link.width,
    };
    let port = start_port(files, CHIP_PORT, index, count, bus, link)?;
    let config = chip.config();
    let sizes = chip.bar_sizes();
    let mut start = MMIO + u64::from(bus) * MMIO_STRIDE;
    let mut bars = Vec::new();
    // The largest first, so that each is aligned to its size.
    for bar in [4, 0, 2] {
        let size = sizes[usize::from(bar)];
        bars.push(Bar {
            index: bar,
            start,
            size,
            prefetchable: is_prefetchable(&config, bar),
        });
        start += size;
    }
    let function = Function::create(files, below(port, bus, "vfio-pci"), &config, bars)?;
    Ok((
        SimulatedChip {
            bdf,
            socket,
            chip,
            _serving: serving,
        },
        function,
    ))
}

/// Bit 3 of a memory BAR, PCI Express Base Specification 6.0, section 7.5.1.2.1.
fn is_prefetchable(config: &[u8; auk_asic::config::SIZE], bar: u16) -> bool {
    ConfigView(config).u8(header::BAR0 + 4 * bar) & 1 << 3 != 0
}

fn start_nic(files: &Files, index: usize, count: usize) -> Result<(SimulatedNic, Nic), HostError> {
    let bus = NIC_BUS + index as u8;
    let port = start_port(files, NIC_PORT, index, count, bus, NIC_LINK)?;
    let bar = Bar {
        index: 0,
        start: MMIO + u64::from(bus) * MMIO_STRIDE,
        size: 32 << 20,
        prefetchable: true,
    };
    let serial = 0x02A1_0000_0000_0000 + index as u64;
    let image = ConfigImage::endpoint(NIC, NIC_LINK, &[bar], serial);
    let placement = below(port, bus, "mlx5_core");
    let (bdf, interface) = (placement.bdf, format!("eth{index}"));
    let directory = placement.directory.clone();
    Function::create(files, placement, image.bytes(), vec![bar])?;
    let state = Nic::create(files, &directory, &interface, index)?;
    Ok((SimulatedNic { bdf, interface }, state))
}
