//! BAR2: the MSI-X table and the pending bits.
//!
//! VFIO routes interrupts by eventfds, so the table only holds what was written to it.

use auk_asic::msix::{PBA, TABLE, VECTORS};

use crate::machine::Machine;

/// Bytes of an entry; PCI Express Base Specification 6.0, section 7.7.2.5.
const ENTRY: usize = 16;
/// Bytes of the table.
const BYTES: usize = VECTORS as usize * ENTRY;

/// The table.
#[derive(Debug)]
pub(crate) struct MsixTable {
    bytes: [u8; BYTES],
}

impl Default for MsixTable {
    fn default() -> Self {
        let mut bytes = [0; BYTES];
        // Vector Control: masked, section 7.7.2.9.
        for entry in bytes.chunks_exact_mut(ENTRY) {
            entry[12] = 1;
        }
        Self { bytes }
    }
}

impl Machine {
    /// Reads BAR2.
    pub(crate) fn read_msix(&self, offset: u64, into: &mut [u8]) {
        let interrupts = &self.resources.interrupts;
        let pending = (0..VECTORS)
            .filter(|&vector| interrupts.is_pending(u32::from(vector)))
            .fold(0_u64, |bits, vector| bits | 1 << vector)
            .to_le_bytes();
        let table = u64::from(TABLE);
        let pba = u64::from(PBA);
        for (at, byte) in (offset..).zip(into) {
            let from = if at >= pba {
                pending.get((at - pba) as usize)
            } else {
                self.msix.bytes.get((at - table) as usize)
            };
            *byte = from.copied().unwrap_or(0);
        }
    }

    /// Writes BAR2; the pending bits are read-only.
    pub(crate) fn write_msix(&mut self, offset: u64, from: &[u8]) {
        for (at, value) in (offset..).zip(from) {
            let place = usize::try_from(at - u64::from(TABLE)).ok();
            if let Some(byte) = place.and_then(|at| self.msix.bytes.get_mut(at)) {
                *byte = *value;
            }
        }
    }
}
