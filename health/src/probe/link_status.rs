//! The Link Status register: one dword a look, which tells that a link has trained to something else. The kernel has no
//! event for that, and the attributes in which it tells speed and width cost it four such reads.

use auk_asic::config::{capability, pcie};

use super::ProbeError;
use super::config::ConfigSpace;

/// Speed and width, PCI Express Base Specification 6.0, section 7.5.3.8.
const RATE: u16 = pcie::LINK_SPEED | pcie::LINK_WIDTH << pcie::LINK_WIDTH_SHIFT;

/// What a function's register held when it was last read.
#[derive(Debug, Default)]
pub(super) struct LinkStatus {
    /// Where the capability is.
    found: Option<u16>,
    rate: Option<u16>,
}

impl LinkStatus {
    /// Finds out where the register is, unless that is known.
    ///
    /// # Errors
    /// As [`ConfigSpace::find`].
    pub(super) fn find(&mut self, config: &ConfigSpace) -> Result<(), ProbeError> {
        if self.found.is_none() {
            self.found = config.find(capability::PCIE)?;
        }
        Ok(())
    }

    /// Whether speed or width are others than at the last look; never of a function that has no such register.
    ///
    /// # Errors
    /// As [`ConfigSpace::read`].
    pub(super) fn has_changed(&mut self, config: &ConfigSpace) -> Result<bool, ProbeError> {
        let Some(capability) = self.found else {
            return Ok(false);
        };
        // Aligned: the register is the upper half of the dword that begins with Link Control.
        let [_, _, low, high] = config.dword(capability + pcie::LNKCTL)?.to_le_bytes();
        let rate = u16::from_le_bytes([low, high]) & RATE;
        let last = self.rate.replace(rate);
        Ok(last.is_some_and(|last| last != rate))
    }
}
