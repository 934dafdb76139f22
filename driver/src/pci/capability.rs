//! Walks of the two capability lists; both are bounded, whatever the function says.

use auk_asic::config::{SIZE, dvsec, extended, header};

use super::{ConfigError, ConfigSpace};

/// First byte after the header, PCI Express Base Specification 6.0, section 7.5.1.
const FIRST: u8 = 0x40;
/// First byte of extended config space, section 7.6.
const FIRST_EXTENDED: u16 = 0x100;

/// A capability, section 7.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Capability ID.
    pub id: u8,
    /// Where it is.
    pub offset: u16,
}

/// An extended capability, section 7.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedCapability {
    /// Extended capability ID.
    pub id: u16,
    /// Version.
    pub version: u8,
    /// Where it is.
    pub offset: u16,
}

/// A Designated Vendor-Specific Extended Capability, section 7.9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DvsecHeader {
    /// Where the extended capability is.
    pub offset: u16,
    /// Revision of the layout.
    pub revision: u8,
    /// Bytes, the headers included.
    pub length: u16,
}

pub(super) fn walk<C: ConfigSpace + ?Sized>(config: &C) -> Result<Vec<Capability>, ConfigError> {
    const LIST: &str = "capability";
    config.identity()?;
    if config.read_u16(header::STATUS)? & header::STATUS_CAPABILITIES == 0 {
        return Ok(Vec::new());
    }
    let mut found: Vec<Capability> = Vec::new();
    let mut from = header::CAPABILITIES;
    // The two low bits of a pointer are reserved and must be masked, section 7.5.1.1.11.
    let mut next = config.read_u8(from)? & !0b11;
    while next != 0 {
        let broken = |problem| ConfigError::BrokenList {
            list: LIST,
            offset: from,
            problem,
        };
        if next < FIRST {
            return Err(broken("its pointer leads into the header"));
        }
        let offset = u16::from(next);
        if found.iter().any(|seen| seen.offset == offset) {
            return Err(broken("its pointer leads back"));
        }
        let [id, pointer] = config.read_u16(offset)?.to_le_bytes();
        if id == 0xFF {
            config.identity()?;
            return Err(broken("its pointer leads to all ones"));
        }
        found.push(Capability { id, offset });
        from = offset;
        next = pointer & !0b11;
    }
    Ok(found)
}

pub(super) fn walk_extended<C: ConfigSpace + ?Sized>(
    config: &C,
) -> Result<Vec<ExtendedCapability>, ConfigError> {
    const LIST: &str = "extended capability";
    config.identity()?;
    let mut found: Vec<ExtendedCapability> = Vec::new();
    let mut offset = FIRST_EXTENDED;
    loop {
        let word = match config.read_u32(offset) {
            // The kernel shows 256 bytes of a function that is not PCI Express, to everybody.
            Err(ConfigError::Short { end, .. }) if end == u64::from(FIRST_EXTENDED) => {
                return Ok(found);
            }
            read => read?,
        };
        if word == u32::MAX {
            config.identity()?;
            if found.is_empty() {
                // A function without extended config space: nothing answers beyond byte 255.
                return Ok(found);
            }
            return Err(ConfigError::BrokenList {
                list: LIST,
                offset,
                problem: "it reads all ones",
            });
        }
        let [id_low, id_high, version, _] = word.to_le_bytes();
        let id = u16::from_le_bytes([id_low, id_high]);
        if word == 0 {
            return Ok(found);
        }
        found.push(ExtendedCapability {
            id,
            version: version & 0xF,
            offset,
        });
        // Bits 31:20; the two low bits are reserved, section 7.6.3.
        let next = (word >> 20) as u16 & !0b11;
        if next == 0 {
            return Ok(found);
        }
        let broken = |problem| ConfigError::BrokenList {
            list: LIST,
            offset,
            problem,
        };
        if next < FIRST_EXTENDED || usize::from(next) + 4 > SIZE {
            return Err(broken("its pointer leads outside extended config space"));
        }
        if found.iter().any(|seen| seen.offset == next) {
            return Err(broken("its pointer leads back"));
        }
        offset = next;
    }
}

pub(super) fn find_dvsec<C: ConfigSpace + ?Sized>(
    config: &C,
    vendor: u16,
    id: u16,
) -> Result<Option<DvsecHeader>, ConfigError> {
    for found in config.extended_capabilities()? {
        // Both header words must lie in config space.
        if found.id != extended::DVSEC || usize::from(found.offset) + 12 > SIZE {
            continue;
        }
        let first = config.read_u32(found.offset + dvsec::HEADER1)?;
        let [a, b, _, _] = first.to_le_bytes();
        let second = config.read_u16(found.offset + dvsec::HEADER2)?;
        if u16::from_le_bytes([a, b]) == vendor && second == id {
            return Ok(Some(DvsecHeader {
                offset: found.offset,
                revision: (first >> 16) as u8 & 0xF,
                length: (first >> 20) as u16,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Bytes(Vec<u8>);

    impl ConfigSpace for Bytes {
        fn read(&self, offset: u16, data: &mut [u8]) -> Result<(), ConfigError> {
            let start = usize::from(offset);
            let found = self
                .0
                .get(start..start + data.len())
                .ok_or(ConfigError::Short {
                    end: self.0.len() as u64,
                    wanted: u64::from(offset) + data.len() as u64,
                })?;
            data.copy_from_slice(found);
            Ok(())
        }
    }

    fn config() -> Bytes {
        let mut bytes = vec![0; SIZE];
        bytes[0..4].copy_from_slice(&[0xE5, 0x1A, 0x00, 0xA1]);
        bytes[6] = 0x10;
        bytes[0x34] = 0x40;
        bytes[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        bytes[0x50..0x52].copy_from_slice(&[0x11, 0x00]);
        bytes[0x100..0x104].copy_from_slice(&0x1601_0001u32.to_le_bytes());
        bytes[0x160..0x164].copy_from_slice(&0x0001_0023u32.to_le_bytes());
        bytes[0x164..0x168].copy_from_slice(&0x0501_1AE5u32.to_le_bytes());
        bytes[0x168] = 1;
        Bytes(bytes)
    }

    #[test]
    fn both_lists_are_walked_in_order() {
        let config = config();
        let ids: Vec<_> = config
            .capabilities()
            .unwrap()
            .iter()
            .map(|c| c.id)
            .collect();
        assert_eq!(ids, [0x01, 0x11]);
        let ids: Vec<_> = config
            .extended_capabilities()
            .unwrap()
            .iter()
            .map(|c| c.id)
            .collect();
        assert_eq!(ids, [0x0001, 0x0023]);
        let found = config.find_dvsec(0x1AE5, 1).unwrap().unwrap();
        assert_eq!(
            (found.offset, found.revision, found.length),
            (0x160, 1, 0x50)
        );
        assert_eq!(config.find_dvsec(0x1AE5, 2).unwrap(), None);
    }

    #[test]
    fn a_list_that_runs_in_a_circle_is_refused() {
        let mut circle = config();
        circle.0[0x51] = 0x40;
        assert!(matches!(
            circle.capabilities(),
            Err(ConfigError::BrokenList { .. })
        ));
        let mut circle = config();
        circle.0[0x160..0x164].copy_from_slice(&0x1001_0023u32.to_le_bytes());
        assert!(matches!(
            circle.extended_capabilities(),
            Err(ConfigError::BrokenList { .. })
        ));
    }

    #[test]
    fn a_pointer_into_the_header_is_refused() {
        let mut config = config();
        config.0[0x34] = 0x20;
        assert!(matches!(
            config.capabilities(),
            Err(ConfigError::BrokenList { .. })
        ));
    }

    #[test]
    fn all_ones_are_a_function_that_is_gone() {
        let gone = Bytes(vec![0xFF; SIZE]);
        assert!(matches!(gone.identity(), Err(ConfigError::Gone)));
        assert!(matches!(gone.capabilities(), Err(ConfigError::Gone)));
        assert!(matches!(gone.find_dvsec(0x1AE5, 1), Err(ConfigError::Gone)));
    }

    #[test]
    fn sixty_four_bytes_without_privilege_are_told_as_that() {
        let mut short = config();
        short.0.truncate(64);
        assert!(matches!(
            short.capabilities(),
            Err(ConfigError::Short { end: 64, .. })
        ));
    }

    #[test]
    fn a_function_of_256_bytes_has_no_extended_capabilities() {
        let mut conventional = config();
        conventional.0.truncate(256);
        assert_eq!(conventional.extended_capabilities().unwrap(), []);
        assert_eq!(conventional.serial_number().unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_contents_make_the_walks_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            let config = Bytes(bytes);
            let _ = config.capabilities();
            let _ = config.find_dvsec(0x1AE5, 1);
            let _ = config.serial_number();
            let _ = super::super::read_vitals(&config);
        }
    }
}
