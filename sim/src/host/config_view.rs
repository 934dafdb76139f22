//! Reading a configuration space as the kernel would, to say in text what it says in bits.

use auk_asic::config::{self, header, pcie, pm};

/// One configuration space.
#[derive(Clone, Copy)]
pub(crate) struct ConfigView<'a>(pub(crate) &'a [u8; config::SIZE]);

impl ConfigView<'_> {
    /// Whether nothing answers: all of it reads as ones.
    pub(crate) fn is_gone(self) -> bool {
        self.0.iter().all(|byte| *byte == u8::MAX)
    }

    /// The byte at an offset; all ones beyond the end, as on the bus.
    pub(crate) fn u8(self, at: u16) -> u8 {
        self.0.get(usize::from(at)).copied().unwrap_or(u8::MAX)
    }

    /// The 16-bit word at an offset.
    pub(crate) fn u16(self, at: u16) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at.saturating_add(1))])
    }

    /// The 32-bit word at an offset.
    pub(crate) fn u32(self, at: u16) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at.saturating_add(2))) << 16
    }

    /// Class code: base class, subclass and interface in 24 bits.
    pub(crate) fn class(self) -> u32 {
        self.u32(header::REVISION) >> 8
    }

    /// Offset of a capability.
    pub(crate) fn capability(self, id: u8) -> Option<u16> {
        if self.u16(header::STATUS) & header::STATUS_CAPABILITIES == 0 {
            return None;
        }
        let mut at = u16::from(self.u8(header::CAPABILITIES) & 0xFC);
        // The list has room for 48 entries behind the header, so a longer one runs in a circle.
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            if self.u8(at) == id {
                return Some(at);
            }
            at = u16::from(self.u8(at + 1) & 0xFC);
        }
        None
    }

    /// Offset of an extended capability.
    pub(crate) fn extended(self, id: u16) -> Option<u16> {
        let mut at = 0x100;
        // 3840 bytes of extended space hold at most 480 entries of 8 bytes.
        for _ in 0..480 {
            let entry = self.u32(at);
            if at < 0x100 || entry == 0 || entry == u32::MAX {
                return None;
            }
            if entry & 0xFFFF == u32::from(id) {
                return Some(at);
            }
            at = (entry >> 20) as u16 & 0xFFC;
        }
        None
    }

    /// Power state, 0 for D0 to 3 for D3hot.
    pub(crate) fn power_state(self) -> u16 {
        self.capability(config::capability::PM)
            .map_or(0, |at| self.u16(at + pm::PMCSR) & pm::PMCSR_STATE)
    }

    /// Whether the function answers to memory accesses.
    pub(crate) fn memory_enabled(self) -> bool {
        self.u16(header::COMMAND) & header::COMMAND_MEMORY != 0
    }

    /// The link that the function is on.
    pub(crate) fn link(self) -> Option<Link> {
        let at = self.capability(config::capability::PCIE)?;
        let split = |bits: u16| LinkState {
            speed: (bits & pcie::LINK_SPEED) as u8,
            width: (bits >> pcie::LINK_WIDTH_SHIFT & pcie::LINK_WIDTH) as u8,
        };
        Some(Link {
            most: split(self.u16(at + pcie::LNKCAP)),
            now: split(self.u16(at + pcie::LNKSTA)),
        })
    }
}

/// Speed and width of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// Code of the speed: 1 is 2.5 GT/s, 5 is 32 GT/s.
    pub(crate) speed: u8,
    /// Lanes.
    pub(crate) width: u8,
}

impl LinkState {
    /// What a read of all ones says: no speed that the kernel knows, and as many lanes as the field can hold.
    pub(crate) const ONES: Self = Self {
        speed: 0xF,
        width: 0x3F,
    };
    /// A link that is down, as a port shows it: the lowest speed, and no lanes.
    pub(crate) const DOWN: Self = Self { speed: 1, width: 0 };

    /// The speed in the words of the kernel's `pci_speed_string`.
    pub(crate) const fn speed_text(self) -> &'static str {
        match self.speed {
            1 => "2.5 GT/s PCIe",
            2 => "5.0 GT/s PCIe",
            3 => "8.0 GT/s PCIe",
            4 => "16.0 GT/s PCIe",
            5 => "32.0 GT/s PCIe",
            6 => "64.0 GT/s PCIe",
            _ => "Unknown",
        }
    }
}

/// What a link could be, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// From the link capabilities.
    pub(crate) most: LinkState,
    /// From the link status.
    pub(crate) now: LinkState,
}
