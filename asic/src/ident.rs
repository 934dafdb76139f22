//! What the chip calls itself in config space and in BAR0.

use crate::Malformed;

/// PCI vendor ID. It is assigned to nobody.
pub const VENDOR: u16 = 0x1AE5;
/// PCI class code: base class 0x12 (processing accelerator), PCI Code and ID Assignment
/// Specification 1.16, section 1.19.
pub const CLASS: u32 = 0x12_00_00;
/// Version of the programming model that this crate describes: major in bits 31:16, minor in 15:0.
pub const MODEL_VERSION: u32 = 0x0001_0000;

codes! {
    /// PCI device IDs of the family.
    pub enum Model: u16 {
        /// The A1 in silicon.
        Silicon = 0xA100,
        /// The A1 as an FPGA prototype: fewer queues, a narrower DMA address.
        Fpga = 0xA1F0,
    }
}

/// The identity register: vendor in bits 15:0, device in 31:16, as in config space.
#[must_use]
pub const fn ident_register(model: Model) -> u32 {
    VENDOR as u32 | (model.code() as u32) << 16
}

/// Whether a driver written for this model can drive a chip that reports `version`: the major
/// numbers are equal.
///
/// # Errors
/// [`Malformed`] with the version found.
pub const fn check_version(version: u32) -> Result<(), Malformed> {
    if version >> 16 == MODEL_VERSION >> 16 {
        Ok(())
    } else {
        Err(Malformed {
            what: "VERSION",
            found: version as u64,
            expected: "major version 1 of the programming model",
        })
    }
}
