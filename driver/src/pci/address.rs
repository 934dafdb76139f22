//! The address of a PCI function.

use std::fmt;
use std::str::FromStr;

/// Domain, bus, device and function, as in `0000:41:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// What was given is not the address of a PCI function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not a PCI address; expected one like 0000:41:00.0 or 41:00.0")]
pub struct BdfError {
    found: String,
}

impl Bdf {
    /// The address made of its parts, or `None` when `device` is above 31 or `function` above 7.
    #[must_use]
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self {
            domain,
            bus,
            device,
            function,
        })
    }

    /// The domain; usually 0, beyond 16 bits behind some host bridges.
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// The bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device number, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        f.pad(&format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
    }
}

impl FromStr for Bdf {
    type Err = BdfError;

    /// Reads `domain:bus:device.function` in hexadecimal; without a domain it is 0.
    fn from_str(text: &str) -> Result<Self, BdfError> {
        parse(text).ok_or_else(|| BdfError {
            found: text.chars().take(64).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Bdf> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = match rest.rsplit_once(':') {
        Some((domain, bus)) => (hex(domain, 8)?, bus),
        None => (0, rest),
    };
    Bdf::new(
        domain,
        u8::try_from(hex(bus, 2)?).ok()?,
        u8::try_from(hex(device, 2)?).ok()?,
        u8::try_from(hex(function, 1)?).ok()?,
    )
}

/// Hexadecimal of 1 to `most` digits; no sign, which `from_str_radix` would take.
fn hex(text: &str, most: usize) -> Option<u32> {
    if text.is_empty() || text.len() > most || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_without_a_domain_is_in_domain_0() {
        let short: Bdf = "41:00.0".parse().unwrap();
        assert_eq!(short.to_string(), "0000:41:00.0");
    }

    #[test]
    fn a_domain_beyond_16_bits_keeps_its_digits() {
        let wide: Bdf = "10000:01:1f.7".parse().unwrap();
        assert_eq!((wide.domain(), wide.device()), (0x10000, 31));
        assert_eq!(wide.to_string(), "10000:01:1f.7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0000",
            "01:20.0",
            "01:00.8",
            "01:00",
            "+1:00.0",
            "1:2:3:4.0",
            "zz:00.0",
            "ü:00.0",
        ] {
            assert!(text.parse::<Bdf>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_address_reads_back_as_it_is_written(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let bdf = Bdf::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(bdf.to_string().parse::<Bdf>().unwrap(), bdf);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,20}") {
            let _ = text.parse::<Bdf>();
        }
    }
}
