//! The chip's config space: type 0 header, capabilities, and which bits a write may change.
//!
//! Section numbers are of the PCI Express Base Specification 6.0.

use auk_asic::config::{
    SIZE, aer, capability, dsn, dvsec, extended, header, msix as msix_cap, pcie, pm,
};
use auk_asic::ident::CLASS;
use auk_asic::vitals::{BODY, DVSEC_ID, DVSEC_REVISION, DVSEC_SIZE, VitalSigns};
use auk_asic::{bar0, msix};

use crate::profile::{ChipProfile, Link};

/// BAR flags, section 7.5.1.2.1: 64-bit, and prefetchable for device memory.
const BAR_64: u32 = 0b100;
const BAR_PREFETCHABLE: u32 = 0b1000;
/// BIR values of section 7.7.2.3: the MSI-X table is in BAR2.
const MSIX_BIR: u32 = 2;

/// What a config write asks the chip to do, beside what it stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// DEVCTL.FLR was written.
    pub(crate) reset: bool,
}

/// Config space with its write masks.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    /// Bits that hold what is written.
    writable: Box<[u8; SIZE]>,
    /// Bits that a 1 clears.
    clearable: Box<[u8; SIZE]>,
    link: Link,
}

impl ConfigSpace {
    pub(crate) fn new(profile: &ChipProfile) -> Self {
        let mut space = Self {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            clearable: Box::new([0; SIZE]),
            link: profile.link,
        };
        space.lay_out_header(profile);
        space.lay_out_capabilities(profile);
        space.lay_out_extended(profile);
        space
    }

    fn lay_out_header(&mut self, profile: &ChipProfile) {
        self.put16(header::VENDOR, profile.vendor);
        self.put16(header::DEVICE, profile.model.code());
        self.put16(header::STATUS, header::STATUS_CAPABILITIES);
        self.put32(header::REVISION, CLASS << 8 | 0x01);
        self.put16(header::SUBSYSTEM_VENDOR, profile.vendor);
        self.put16(header::SUBSYSTEM, 0x0001);
        self.put8(header::CAPABILITIES, pm::OFFSET as u8);
        self.writable16(
            header::COMMAND,
            header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_DISABLE,
        );
        // Cache Line Size and Interrupt Line are scratch to the chip, sections 7.5.1.1.7 and 7.5.1.2.4.
        self.writable16(0x0C, 0x00FF);
        self.writable16(0x3C, 0x00FF);
        self.lay_out_bar(0, bar0::SIZE, BAR_64);
        self.lay_out_bar(2, msix::SIZE, BAR_64);
        self.lay_out_bar(4, profile.memory, BAR_64 | BAR_PREFETCHABLE);
    }

    fn lay_out_bar(&mut self, bar: u16, size: u64, flags: u32) {
        let offset = header::BAR0 + bar * 4;
        let mask = !(size - 1);
        self.put32(offset, flags);
        self.writable32(offset, mask as u32);
        self.writable32(offset + 4, (mask >> 32) as u32);
    }

    fn lay_out_capabilities(&mut self, profile: &ChipProfile) {
        self.capability(pm::OFFSET, capability::PM, msix_cap::OFFSET);
        // Version 3, section 7.5.2.1.
        self.put16(pm::OFFSET + pm::PMC, 0x0003);
        self.put16(pm::OFFSET + pm::PMCSR, pm::PMCSR_NO_SOFT_RESET);

        self.capability(msix_cap::OFFSET, capability::MSIX, pcie::OFFSET);
        let control = msix_cap::OFFSET + msix_cap::CONTROL;
        self.put16(control, (msix::VECTORS - 1) & msix_cap::CONTROL_SIZE);
        self.writable16(
            control,
            msix_cap::CONTROL_ENABLE | msix_cap::CONTROL_MASK_ALL,
        );
        self.put32(msix_cap::OFFSET + msix_cap::TABLE, msix::TABLE | MSIX_BIR);
        self.put32(msix_cap::OFFSET + msix_cap::PBA, msix::PBA | MSIX_BIR);

        self.capability(pcie::OFFSET, capability::PCIE, 0);
        // Version 2, endpoint, sections 7.5.3.2 and 7.5.3.3: role-based error reporting, FLR.
        self.put16(pcie::OFFSET + pcie::CAPABILITIES, 0x0002);
        self.put32(pcie::OFFSET + pcie::DEVCAP, pcie::DEVCAP_FLR | 1 << 15 | 1);
        // Relaxed ordering, no snoop, 512-byte read requests: the reset values of section 7.5.3.4.
        self.put16(pcie::OFFSET + pcie::DEVCTL, 0x2810);
        self.writable16(pcie::OFFSET + pcie::DEVCTL, 0x78FF);
        // The four error-detected bits, section 7.5.3.5.
        self.clearable16(pcie::OFFSET + pcie::DEVSTA, 0x000F);
        let link = self.link;
        self.put32(
            pcie::OFFSET + pcie::LNKCAP,
            u32::from(link.speed) | u32::from(link.width) << pcie::LINK_WIDTH_SHIFT,
        );
        self.writable16(pcie::OFFSET + pcie::LNKCTL, 0x0FC3);
        // Supported Link Speeds Vector, section 7.5.3.18: every speed up to the greatest.
        self.put32(
            pcie::OFFSET + pcie::LNKCAP2,
            ((1 << u32::from(profile.link.speed)) - 1) << 1,
        );
        self.put16(pcie::OFFSET + pcie::LNKCTL2, u16::from(link.speed));
        self.writable16(pcie::OFFSET + pcie::LNKCTL2, 0x000F);
        self.set_link(link);
    }

    fn lay_out_extended(&mut self, profile: &ChipProfile) {
        self.extended(aer::OFFSET, extended::AER, 2, dsn::OFFSET);
        // The error bits that an endpoint has, with their default severity; sections 7.8.4.2 to 7.8.4.6.
        self.clearable32(aer::OFFSET + aer::UNCORRECTABLE_STATUS, 0x0047_F030);
        self.writable32(aer::OFFSET + aer::UNCORRECTABLE_MASK, 0x0047_F030);
        self.put32(aer::OFFSET + aer::UNCORRECTABLE_SEVERITY, 0x0046_2030);
        self.writable32(aer::OFFSET + aer::UNCORRECTABLE_SEVERITY, 0x0047_F030);
        self.clearable32(aer::OFFSET + aer::CORRECTABLE_STATUS, 0x0000_F1C1);
        self.put32(aer::OFFSET + aer::CORRECTABLE_MASK, 0x0000_2000);
        self.writable32(aer::OFFSET + aer::CORRECTABLE_MASK, 0x0000_F1C1);

        self.extended(dsn::OFFSET, extended::DSN, 1, dvsec::OFFSET);
        self.put32(dsn::OFFSET + dsn::LOW, profile.serial as u32);
        self.put32(dsn::OFFSET + dsn::HIGH, (profile.serial >> 32) as u32);

        self.extended(dvsec::OFFSET, extended::DVSEC, 1, 0);
        self.put32(
            dvsec::OFFSET + dvsec::HEADER1,
            u32::from(profile.vendor)
                | u32::from(DVSEC_REVISION) << 16
                | u32::from(DVSEC_SIZE) << 20,
        );
        self.put16(dvsec::OFFSET + dvsec::HEADER2, DVSEC_ID);
    }

    /// Copies what is at `offset`; bytes beyond the end read as 0.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        let Ok(offset) = usize::try_from(offset) else {
            return;
        };
        if let Some(rest) = self.bytes.get(offset..) {
            for (to, from) in into.iter_mut().zip(rest) {
                *to = *from;
            }
        }
    }

    /// Stores the bits of `data` that are writable, clears those that a 1 clears.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let flr_byte = usize::from(pcie::OFFSET + pcie::DEVCTL + 1);
        let Ok(offset) = usize::try_from(offset) else {
            return effects;
        };
        for (at, value) in (offset..SIZE).zip(data.iter().copied()) {
            let (writable, clearable) = (self.writable[at], self.clearable[at]);
            let kept = self.bytes[at] & !writable & !(clearable & value);
            self.bytes[at] = kept | (value & writable);
            if at == usize::from(pm::OFFSET + pm::PMCSR) {
                self.write_power_state(value);
            }
            effects.reset |= at == flr_byte && value & (pcie::DEVCTL_FLR >> 8) as u8 != 0;
        }
        effects
    }

    /// Only D0 and D3hot exist; a write of another state is ignored, section 5.3.1.
    fn write_power_state(&mut self, value: u8) {
        let at = usize::from(pm::OFFSET + pm::PMCSR);
        let mask = pm::PMCSR_STATE as u8;
        if matches!(value & mask, 0 | 3) {
            self.bytes[at] = self.bytes[at] & !mask | value & mask;
        }
    }

    /// COMMAND.memory: the BARs decode.
    pub(crate) fn memory_enabled(&self) -> bool {
        self.get16(header::COMMAND) & header::COMMAND_MEMORY != 0
    }

    /// COMMAND.bus_master: the chip may do DMA and raise interrupts.
    pub(crate) fn bus_master(&self) -> bool {
        self.get16(header::COMMAND) & header::COMMAND_MASTER != 0
    }

    /// PMCSR: the function sleeps.
    pub(crate) fn in_d3hot(&self) -> bool {
        self.get16(pm::OFFSET + pm::PMCSR) & pm::PMCSR_STATE == 3
    }

    /// The link as it is trained.
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// LNKSTA.
    pub(crate) fn link_status(&self) -> u16 {
        self.get16(pcie::OFFSET + pcie::LNKSTA)
    }

    pub(crate) fn set_link(&mut self, link: Link) {
        self.link = link;
        self.put16(
            pcie::OFFSET + pcie::LNKSTA,
            u16::from(link.speed) | u16::from(link.width) << pcie::LINK_WIDTH_SHIFT,
        );
    }

    /// MSI-X enable follows the eventfds that VFIO sets, as the kernel's driver has it.
    pub(crate) fn set_msix_enabled(&mut self, enabled: bool) {
        let offset = msix_cap::OFFSET + msix_cap::CONTROL;
        let control = self.get16(offset) & !msix_cap::CONTROL_ENABLE;
        let bit = if enabled { msix_cap::CONTROL_ENABLE } else { 0 };
        self.put16(offset, control | bit);
    }

    /// Puts the vital signs into their capability.
    pub(crate) fn set_vital_signs(&mut self, vitals: &VitalSigns) {
        use zerocopy::IntoBytes;
        let at = usize::from(dvsec::OFFSET + BODY);
        self.bytes[at..at + VitalSigns::SIZE].copy_from_slice(vitals.as_bytes());
    }

    /// A function-level reset: everything but the link, the error status, which is sticky (section
    /// 7.4), and the vital signs.
    pub(crate) fn reset(&mut self, profile: &ChipProfile) {
        let mut fresh = Self::new(profile);
        fresh.set_link(self.link);
        for (offset, length) in [
            (aer::OFFSET + aer::UNCORRECTABLE_STATUS, 0x18),
            (dvsec::OFFSET + BODY, VitalSigns::SIZE),
        ] {
            let range = usize::from(offset)..usize::from(offset) + length;
            fresh.bytes[range.clone()].copy_from_slice(&self.bytes[range]);
        }
        *self = fresh;
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8; SIZE] {
        &self.bytes
    }

    fn capability(&mut self, offset: u16, id: u8, next: u16) {
        self.put8(offset, id);
        self.put8(offset + 1, next as u8);
    }

    fn extended(&mut self, offset: u16, id: u16, version: u32, next: u16) {
        self.put32(
            offset,
            u32::from(id) | version << 16 | u32::from(next) << 20,
        );
    }

    fn get16(&self, offset: u16) -> u16 {
        let at = usize::from(offset);
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn put8(&mut self, offset: u16, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    fn put16(&mut self, offset: u16, value: u16) {
        put(&mut self.bytes, offset, &value.to_le_bytes());
    }

    fn put32(&mut self, offset: u16, value: u32) {
        put(&mut self.bytes, offset, &value.to_le_bytes());
    }

    fn writable16(&mut self, offset: u16, mask: u16) {
        put(&mut self.writable, offset, &mask.to_le_bytes());
    }

    fn writable32(&mut self, offset: u16, mask: u32) {
        put(&mut self.writable, offset, &mask.to_le_bytes());
    }

    fn clearable16(&mut self, offset: u16, mask: u16) {
        put(&mut self.clearable, offset, &mask.to_le_bytes());
    }

    fn clearable32(&mut self, offset: u16, mask: u32) {
        put(&mut self.clearable, offset, &mask.to_le_bytes());
    }
}

fn put(bytes: &mut [u8; SIZE], offset: u16, value: &[u8]) {
    let at = usize::from(offset);
    bytes[at..at + value.len()].copy_from_slice(value);
}
