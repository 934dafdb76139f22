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
mod attributes;
mod bdf;
mod build;
mod claim;
mod config_image;
mod config_view;
mod control;
mod devices;
mod error;
mod files;
mod function;
mod interface;
mod kernel_log;
mod nic;
mod port;
mod rdma;
mod shown_chip;
mod updater;
mod vital_window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ChipProfile;
use crate::fault::Plan;
use crate::inject::{CONTROL_SOCKET, InjectError, Injection};
use claim::Claim;
use control::Control;
use devices::Devices;
use files::Files;
use kernel_log::KernelLog;
use updater::{Tree, Updater};

pub use bdf::Bdf;
pub use devices::{SimulatedChip, SimulatedNic};
pub use error::HostError;

/// Most chips, and most NICs, of one host: eight ports of eight functions each.
pub const MAX_DEVICES: usize = 64;

/// Serial number of the first chip of silicon.
const FIRST_SERIAL: u64 = 0xA100_0000_0000_0001;
/// Where a host has its sockets, below its root.
const SOCKETS: &str = "run/auk/sim";

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

    /// Makes the tree, powers the chips on and serves them; when this returns, they have booted.
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
        let files = Files::new(&self.root, &format!("{SOCKETS}/next"));
        build::lay_ground(&files)?;
        let mut chips = Vec::new();
        let mut tree = Tree {
            chips: Vec::new(),
            nics: Vec::new(),
            plans: Vec::new(),
            log: KernelLog::create(&files)?,
        };
        let silicon =
            (0..self.silicon as u64).map(|index| ChipProfile::silicon(FIRST_SERIAL + index));
        for (index, profile) in silicon.chain(self.others).enumerate() {
            let (chip, shown) = build::chip(&files, index, count, profile)?;
            tree.chips.push(shown);
            chips.push(chip);
        }
        let mut nics = Vec::new();
        for index in 0..self.nics {
            let (nic, state) = build::nic(&files, index, self.nics)?;
            tree.nics.push(state);
            tree.plans.push(Plan::default());
            nics.push(nic);
        }
        let updater = Updater::start(tree)?;
        updater.change(Tree::await_boots);
        let devices = Arc::new(Devices {
            chips,
            nics,
            updater,
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
