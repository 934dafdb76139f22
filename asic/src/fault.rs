//! Why a chip stopped.

use crate::Malformed;

codes! {
    /// Fault codes, in FAULT, in the vital signs and in the crash log. On the wire 0 is no fault.
    pub enum Fault: u16 {
        /// An uncorrectable ECC error in memory that was in use.
        EccUncorrectable = 1,
        /// The watchdog saw no heartbeat from the runtime.
        FirmwareHang = 2,
        /// The runtime stopped on an assertion or a trap.
        FirmwareCrash = 3,
        /// The die reached its shutdown point.
        OverTemperature = 4,
        /// A DMA of the admin queue left the mapped ranges.
        DmaFault = 5,
        /// The image in the active slot was refused at boot.
        ImageRejected = 6,
    }
}

impl Fault {
    /// The fault for a code from the wire, where 0 is none.
    ///
    /// # Errors
    /// [`Malformed`] when no such code exists.
    pub const fn parse_optional(raw: u16) -> Result<Option<Self>, Malformed> {
        if raw == 0 {
            return Ok(None);
        }
        match Self::parse(raw) {
            Ok(fault) => Ok(Some(fault)),
            Err(error) => Err(error),
        }
    }
}
