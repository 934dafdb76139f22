//! Where a function sits: domain, bus, device, function.

use std::fmt;

/// The address of a PCI function of the simulated host, written as sysfs writes it: `0000:01:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    /// Domain (segment); always 0 here.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// Device 0, function 0 of a bus of domain 0: where the only endpoint below a port sits.
    pub(crate) const fn endpoint(bus: u8) -> Self {
        Self {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        }
    }

    /// Whether `text` names this function, with or without the domain.
    pub(crate) fn is_named(self, text: &str) -> bool {
        let full = self.to_string();
        text == full || (self.domain == 0 && full.strip_prefix("0000:") == Some(text))
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}
