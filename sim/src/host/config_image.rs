//! The configuration spaces of the functions that are not chips: root ports and NICs.
//!
//! Structures are those of the PCI Express Base Specification 6.0; the section is named with each.

use auk_asic::config::{self, aer, capability, dsn, extended, header, msix, pcie, pm};

use super::config_view::LinkState;

/// Type 1 header, section 7.5.1.3: primary, secondary and subordinate bus number.
const BUS_NUMBERS: u16 = 0x18;
/// Header type: the device has more functions than function 0.
const MULTI_FUNCTION: u8 = 0x80;
/// PCI Express Capabilities, section 7.5.3.2: version 2.
const PCIE_VERSION: u16 = 2;
/// The same: device/port type in bits 7:4, 0 is an endpoint, 4 a root port.
const PCIE_ROOT_PORT: u16 = 4 << 4;
/// Link status, section 7.5.3.8: the data link layer is up.
const LNKSTA_ACTIVE: u16 = 1 << 13;
/// Uncorrectable Error Severity, section 7.8.4.4: the default of each error that is fatal.
const SEVERITY_RESET: u32 = 0x0046_2030;
/// Correctable Error Mask, section 7.8.4.6: advisory non-fatal errors are masked by default.
const CORRECTABLE_MASK_RESET: u32 = 1 << 13;

/// What a function calls itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    pub(crate) subsystem: (u16, u16),
    pub(crate) class: u32,
    pub(crate) revision: u8,
}

/// A configuration space under construction, and later the one that is served.
#[derive(Clone)]
pub(crate) struct ConfigImage(Box<[u8; config::SIZE]>);

impl ConfigImage {
    /// An endpoint's: a type 0 header, then PM, MSI-X, PCI Express, AER and serial number.
    pub(crate) fn endpoint(identity: Identity, link: LinkState, bars: &[Bar], serial: u64) -> Self {
        let mut image = Self::common(identity, link, 0);
        for bar in bars {
            let at = header::BAR0 + 4 * bar.index;
            // Bits 3:0 of a 64-bit memory BAR, section 7.5.1.2.1: type 10b, prefetchable in bit 3.
            let kind = 0x4 | u32::from(bar.prefetchable) << 3;
            image.set_u32(at, bar.start as u32 | kind);
            image.set_u32(at + 4, (bar.start >> 32) as u32);
        }
        image.set_u16(header::SUBSYSTEM_VENDOR, identity.subsystem.0);
        image.set_u16(header::SUBSYSTEM, identity.subsystem.1);
        image.set_u16(
            header::COMMAND,
            header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_DISABLE,
        );
        image.set_u16(
            msix::OFFSET,
            u16::from(capability::MSIX) | pcie::OFFSET << 8,
        );
        image.set_u16(msix::OFFSET + msix::CONTROL, msix::CONTROL_ENABLE | 63);
        image.set_u32(
            aer::OFFSET,
            u32::from(extended::AER) | 2 << 16 | u32::from(dsn::OFFSET) << 20,
        );
        image.set_u32(dsn::OFFSET, u32::from(extended::DSN) | 1 << 16);
        image.set_u32(dsn::OFFSET + dsn::LOW, serial as u32);
        image.set_u32(dsn::OFFSET + dsn::HIGH, (serial >> 32) as u32);
        image
    }

    /// A root port's: a type 1 header with one bus below, then PM, PCI Express and AER.
    pub(crate) fn root_port(
        identity: Identity,
        link: LinkState,
        secondary: u8,
        multi_function: bool,
    ) -> Self {
        let mut image = Self::common(identity, link, PCIE_ROOT_PORT);
        image.set_u8(
            header::TYPE,
            1 | if multi_function { MULTI_FUNCTION } else { 0 },
        );
        image.set_u32(
            BUS_NUMBERS,
            u32::from(secondary) << 8 | u32::from(secondary) << 16,
        );
        image.set_u16(
            header::COMMAND,
            header::COMMAND_MEMORY | header::COMMAND_MASTER,
        );
        image.set_u16(pm::OFFSET, u16::from(capability::PM) | pcie::OFFSET << 8);
        image.set_u32(aer::OFFSET, u32::from(extended::AER) | 2 << 16);
        image
    }

    fn common(identity: Identity, link: LinkState, port_type: u16) -> Self {
        let mut image = Self(Box::new([0; config::SIZE]));
        image.set_u16(header::VENDOR, identity.vendor);
        image.set_u16(header::DEVICE, identity.device);
        image.set_u32(
            header::REVISION,
            identity.class << 8 | u32::from(identity.revision),
        );
        image.set_u16(header::STATUS, header::STATUS_CAPABILITIES);
        image.set_u8(header::CAPABILITIES, pm::OFFSET as u8);
        image.set_u16(pm::OFFSET, u16::from(capability::PM) | msix::OFFSET << 8);
        image.set_u16(pm::OFFSET + pm::PMC, 3);
        image.set_u16(pm::OFFSET + pm::PMCSR, pm::PMCSR_NO_SOFT_RESET);
        image.set_u16(pcie::OFFSET, u16::from(capability::PCIE));
        image.set_u16(pcie::OFFSET + pcie::CAPABILITIES, PCIE_VERSION | port_type);
        let link_bits = u16::from(link.speed) | u16::from(link.width) << pcie::LINK_WIDTH_SHIFT;
        image.set_u32(pcie::OFFSET + pcie::LNKCAP, u32::from(link_bits));
        image.set_u16(pcie::OFFSET + pcie::LNKSTA, link_bits | LNKSTA_ACTIVE);
        // Supported speeds, section 7.5.3.18: one bit a speed from bit 1 on.
        let speeds = ((1_u32 << link.speed) - 1) << 1;
        image.set_u32(pcie::OFFSET + pcie::LNKCAP2, speeds);
        image.set_u16(pcie::OFFSET + pcie::LNKCTL2, u16::from(link.speed));
        image.set_u32(aer::OFFSET + aer::UNCORRECTABLE_SEVERITY, SEVERITY_RESET);
        image.set_u32(aer::OFFSET + aer::CORRECTABLE_MASK, CORRECTABLE_MASK_RESET);
        image
    }

    /// The link trained to another speed or width; without one it is down.
    pub(crate) fn set_link(&mut self, now: Option<LinkState>) {
        let LinkState { speed, width } = now.unwrap_or(LinkState::DOWN);
        let active = if now.is_some() { LNKSTA_ACTIVE } else { 0 };
        self.set_u16(
            pcie::OFFSET + pcie::LNKSTA,
            u16::from(speed) | u16::from(width) << pcie::LINK_WIDTH_SHIFT | active,
        );
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8; config::SIZE] {
        &self.0
    }

    fn set_u8(&mut self, at: u16, value: u8) {
        self.0[usize::from(at)] = value;
    }

    fn set_u16(&mut self, at: u16, value: u16) {
        let at = usize::from(at);
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set_u32(&mut self, at: u16, value: u32) {
        let at = usize::from(at);
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// A 64-bit memory BAR, as firmware and kernel placed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    /// First of its two registers, 0 to 4.
    pub(crate) index: u16,
    /// First bus address.
    pub(crate) start: u64,
    /// Bytes, a power of two.
    pub(crate) size: u64,
    /// Reads have no side effects.
    pub(crate) prefetchable: bool,
}
