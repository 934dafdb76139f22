//! Our chips, simulated in this process and served to QEMU.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use auk_sim::{Chip, ChipProfile, Link, Serving};
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
        match fault {
            Fault::EccCorrectable(count) => self.chip.inject_ecc_correctable(count),
            Fault::EccUncorrectable => self.chip.inject_ecc_uncorrectable(),
            Fault::FirmwareHang => self.chip.inject_firmware_hang(),
            Fault::FirmwareCrash => self.chip.inject_firmware_crash(),
            Fault::Link { speed, width } => self.chip.inject_link(Link { speed, width })?,
            Fault::Temperature(tenths) => self.chip.inject_temperature(Some(tenths)),
        }
        Ok(())
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
