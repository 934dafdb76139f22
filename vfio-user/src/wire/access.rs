//! REGION_READ, REGION_WRITE, DMA_READ and DMA_WRITE.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Violation, exactly, fixed};

/// Payload of REGION_READ and REGION_WRITE, before the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionAccess {
    /// Where in the region, in bytes.
    pub offset: u64,
    /// Index of the region.
    pub region: u32,
    /// Bytes of data.
    pub count: u32,
}

/// Payload of DMA_READ and DMA_WRITE, before the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaAccess {
    /// First address.
    pub address: u64,
    /// Bytes of data.
    pub count: u64,
}

impl RegionAccess {
    /// Reads a payload without data: a read command, or the reply to a write.
    ///
    /// # Errors
    /// A [`Violation`] when there is more or less than that.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        exactly(payload)
    }

    /// Reads a payload with its data: a write command, or the reply to a read.
    ///
    /// # Errors
    /// A [`Violation`] when `count` is not the number of bytes that follow.
    pub fn parse_with_data(payload: &[u8]) -> Result<(Self, &[u8]), Violation> {
        let access: Self = fixed(payload)?;
        with_data(payload, size_of::<Self>(), u64::from(access.count)).map(|data| (access, data))
    }
}

impl DmaAccess {
    /// Reads a payload without data: a read command.
    ///
    /// # Errors
    /// A [`Violation`] when there is more or less than that.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        exactly(payload)
    }

    /// Reads a payload with its data: a write command, or the reply to a read.
    ///
    /// # Errors
    /// A [`Violation`] when `count` is not the number of bytes that follow.
    pub fn parse_with_data(payload: &[u8]) -> Result<(Self, &[u8]), Violation> {
        let access: Self = fixed(payload)?;
        with_data(payload, size_of::<Self>(), access.count).map(|data| (access, data))
    }

    /// Reads the reply to a write. Its `count` has 4 bytes in the specification's table and 8 in practice.
    ///
    /// # Errors
    /// A [`Violation`] when there is less than the shorter of the two.
    pub fn parse_write_reply(payload: &[u8]) -> Result<Self, Violation> {
        if payload.len() == 12 {
            let mut padded = [0; size_of::<Self>()];
            padded[..12].copy_from_slice(payload);
            let short: Self = fixed(&padded)?;
            // The four bytes are the low half of the count only where the low half comes first.
            let count = if cfg!(target_endian = "little") {
                short.count
            } else {
                short.count >> 32
            };
            return Ok(Self { count, ..short });
        }
        exactly(payload)
    }
}

fn with_data(payload: &[u8], fixed: usize, count: u64) -> Result<&[u8], Violation> {
    let data = payload.get(fixed..).unwrap_or_default();
    if data.len() as u64 != count {
        return Err(Violation::Field {
            field: "count",
            found: count,
            rule: "expected the number of bytes that follow",
        });
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_access_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(access) = RegionAccess::parse(&bytes) {
                prop_assert_eq!(access.as_bytes(), &bytes[..]);
            }
            if let Ok((access, data)) = RegionAccess::parse_with_data(&bytes) {
                prop_assert_eq!(access.count as usize, data.len());
            }
            if let Ok((access, data)) = DmaAccess::parse_with_data(&bytes) {
                prop_assert_eq!(access.count, data.len() as u64);
            }
            let _ = DmaAccess::parse(&bytes);
            let _ = DmaAccess::parse_write_reply(&bytes);
        }

        #[test]
        fn accesses_survive_the_wire(offset: u64, region: u32, address: u64,
                                     data in prop::collection::vec(any::<u8>(), 0..64)) {
            let access = RegionAccess { offset, region, count: data.len() as u32 };
            let bytes = [access.as_bytes(), &data].concat();
            prop_assert_eq!(RegionAccess::parse_with_data(&bytes), Ok((access, &data[..])));
            let access = DmaAccess { address, count: data.len() as u64 };
            let bytes = [access.as_bytes(), &data].concat();
            prop_assert_eq!(DmaAccess::parse_with_data(&bytes), Ok((access, &data[..])));
        }
    }

    #[test]
    fn both_sizes_of_a_dma_write_reply_are_read() {
        let access = DmaAccess {
            address: 0x1000,
            count: 64,
        };
        assert_eq!(DmaAccess::parse_write_reply(access.as_bytes()), Ok(access));
        let short = [&0x1000_u64.to_ne_bytes()[..], &64_u32.to_ne_bytes()].concat();
        assert_eq!(DmaAccess::parse_write_reply(&short), Ok(access));
        assert!(DmaAccess::parse_write_reply(&short[..11]).is_err());
    }
}
