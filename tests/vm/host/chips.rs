//! Our chips, simulated in this process and served to QEMU.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use auk_sim::inject::Verb;
use auk_sim::{Chip, ChipProfile, Serving};
use auk_vm::Fault;

/// Little device memory, so that resets, which scrub it, are quick.
const MEMORY: u64 = 64 << 20;

/// A chip, and its server while it has one.
pub(crate) struct Simulated {
    chip: Chip,
    socket: PathBuf,
    serving: Option<Serving>,
    /// Violations that a test has taken note of.
    taken: usize,
}

impl Simulated {
    /// Powers a chip on and serves it in a directory.
    pub(crate) fn start(number: usize, directory: &Path) -> Result<Self> {
        let profile = ChipProfile {
            memory: MEMORY,
            ..ChipProfile::silicon(0xA100 + number as u64)
        };
        let mut chip = Self {
            chip: Chip::new(profile)?,
            socket: directory.join(format!("chip{number}")),
            serving: None,
            taken: 0,
        };
        chip.serve()?;
        Ok(chip)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Serves the chip, again if it is not the first time.
    pub(crate) fn serve(&mut self) -> Result<()> {
        self.serving = None;
        let serving = self.chip.serve(&self.socket);
        self.serving = Some(serving.context("serving a simulated chip")?);
        Ok(())
    }

    /// Ends the connection. QEMU sees what it would see of a server that was killed.
    pub(crate) fn kill(&mut self) {
        self.serving = None;
    }

    pub(crate) fn inject(&self, fault: Fault) -> Result<()> {
        let verb = match fault {
            Fault::EccCorrectable(count) => Verb::EccCe { count },
            Fault::EccUncorrectable => Verb::EccUe,
            Fault::FirmwareHang => Verb::FirmwareHang,
            Fault::FirmwareCrash => Verb::FirmwareCrash,
            Fault::Link { speed, width } => {
                let generation = Verb::LinkSpeed { generation: speed };
                self.chip.inject(generation)?;
                Verb::LinkWidth { lanes: width }
            }
            Fault::Temperature(celsius) => Verb::Temperature { celsius, for_ms: 0 },
        };
        Ok(self.chip.inject(verb)?)
    }

    /// What was done to the chip, since this was asked last, that silicon leaves undefined.
    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        let all = self.chip.strict_violations();
        let new = all.iter().skip(self.taken).map(ToString::to_string);
        let new = new.collect();
        self.taken = all.len();
        new
    }
}
