//! The chip's config space: where its capabilities are, and the registers in them that a driver,
//! a simulator and an agent share.
//!
//! A reader walks the capability lists; it never relies on the offsets here, which are where this
//! chip has them. Structures are those of the PCI Express Base Specification 6.0; the section is
//! named with each.

/// Bytes of config space.
pub const SIZE: usize = 4096;

/// Capability IDs, section 7.9.1 and PCI Code and ID Assignment Specification 1.16, section 2.
pub mod capability {
    /// Power Management.
    pub const PM: u8 = 0x01;
    /// PCI Express.
    pub const PCIE: u8 = 0x10;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
}

/// Extended capability IDs, PCI Code and ID Assignment Specification 1.16, section 3.
pub mod extended {
    /// Advanced Error Reporting.
    pub const AER: u16 = 0x0001;
    /// Device Serial Number.
    pub const DSN: u16 = 0x0003;
    /// Designated Vendor-Specific.
    pub const DVSEC: u16 = 0x0023;
}

/// Type 0 header, section 7.5.1.
pub mod header {
    /// Vendor ID.
    pub const VENDOR: u16 = 0x00;
    /// Device ID.
    pub const DEVICE: u16 = 0x02;
    /// Command.
    pub const COMMAND: u16 = 0x04;
    /// Status.
    pub const STATUS: u16 = 0x06;
    /// Revision ID.
    pub const REVISION: u16 = 0x08;
    /// Class code, three bytes.
    pub const CLASS: u16 = 0x09;
    /// Header type.
    pub const TYPE: u16 = 0x0E;
    /// First base address register.
    pub const BAR0: u16 = 0x10;
    /// Subsystem vendor ID.
    pub const SUBSYSTEM_VENDOR: u16 = 0x2C;
    /// Subsystem ID.
    pub const SUBSYSTEM: u16 = 0x2E;
    /// Offset of the first capability.
    pub const CAPABILITIES: u16 = 0x34;

    /// Command: memory space enable.
    pub const COMMAND_MEMORY: u16 = 1 << 1;
    /// Command: bus master enable.
    pub const COMMAND_MASTER: u16 = 1 << 2;
    /// Command: INTx disable.
    pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    /// Status: there is a capability list.
    pub const STATUS_CAPABILITIES: u16 = 1 << 4;
}

/// Power Management capability, section 7.5.2.
pub mod pm {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x40;
    /// Power Management Capabilities.
    pub const PMC: u16 = 0x02;
    /// Power Management Control/Status.
    pub const PMCSR: u16 = 0x04;
    /// PMCSR: the power state, 0 is D0 and 3 is D3hot.
    pub const PMCSR_STATE: u16 = 0b11;
    /// PMCSR: a return from D3hot to D0 resets nothing.
    pub const PMCSR_NO_SOFT_RESET: u16 = 1 << 3;
}

/// MSI-X capability, section 7.7.2.
pub mod msix {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x50;
    /// Message Control.
    pub const CONTROL: u16 = 0x02;
    /// Table offset and BAR indicator.
    pub const TABLE: u16 = 0x04;
    /// PBA offset and BAR indicator.
    pub const PBA: u16 = 0x08;
    /// Message Control: MSI-X enable.
    pub const CONTROL_ENABLE: u16 = 1 << 15;
    /// Message Control: all vectors masked.
    pub const CONTROL_MASK_ALL: u16 = 1 << 14;
    /// Message Control: vectors less one.
    pub const CONTROL_SIZE: u16 = 0x7FF;
}

/// PCI Express capability, section 7.5.3.
pub mod pcie {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x60;
    /// PCI Express Capabilities.
    pub const CAPABILITIES: u16 = 0x02;
    /// Device Capabilities.
    pub const DEVCAP: u16 = 0x04;
    /// Device Control.
    pub const DEVCTL: u16 = 0x08;
    /// Device Status.
    pub const DEVSTA: u16 = 0x0A;
    /// Link Capabilities.
    pub const LNKCAP: u16 = 0x0C;
    /// Link Control.
    pub const LNKCTL: u16 = 0x10;
    /// Link Status.
    pub const LNKSTA: u16 = 0x12;
    /// Link Capabilities 2.
    pub const LNKCAP2: u16 = 0x2C;
    /// Link Control 2.
    pub const LNKCTL2: u16 = 0x30;
    /// DEVCAP: the function can do a Function Level Reset.
    pub const DEVCAP_FLR: u32 = 1 << 28;
    /// DEVCTL: initiate a Function Level Reset; reads as 0.
    pub const DEVCTL_FLR: u16 = 1 << 15;
    /// DEVSTA: transactions are pending.
    pub const DEVSTA_PENDING: u16 = 1 << 5;
    /// LNKSTA and LNKCAP: speed code, 5 is 32 GT/s.
    pub const LINK_SPEED: u16 = 0xF;
    /// LNKSTA and LNKCAP: shift of the width in lanes.
    pub const LINK_WIDTH_SHIFT: u16 = 4;
    /// LNKSTA and LNKCAP: width in lanes, after the shift.
    pub const LINK_WIDTH: u16 = 0x3F;
}

/// Advanced Error Reporting capability, section 7.8.4.
pub mod aer {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x100;
    /// Uncorrectable Error Status.
    pub const UNCORRECTABLE_STATUS: u16 = 0x04;
    /// Uncorrectable Error Mask.
    pub const UNCORRECTABLE_MASK: u16 = 0x08;
    /// Uncorrectable Error Severity.
    pub const UNCORRECTABLE_SEVERITY: u16 = 0x0C;
    /// Correctable Error Status.
    pub const CORRECTABLE_STATUS: u16 = 0x10;
    /// Correctable Error Mask.
    pub const CORRECTABLE_MASK: u16 = 0x14;
    /// Advanced Error Capabilities and Control.
    pub const CONTROL: u16 = 0x18;
}

/// Device Serial Number capability, section 7.9.3.
pub mod dsn {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x148;
    /// Low half of the serial number.
    pub const LOW: u16 = 0x04;
    /// High half of the serial number.
    pub const HIGH: u16 = 0x08;
}

/// Designated Vendor-Specific capability that holds the vital signs, section 7.9.6.
pub mod dvsec {
    /// Where the A1 has it.
    pub const OFFSET: u16 = 0x160;
    /// DVSEC vendor in bits 15:0, revision in 19:16, length in 31:20.
    pub const HEADER1: u16 = 0x04;
    /// DVSEC ID in bits 15:0.
    pub const HEADER2: u16 = 0x08;
}
