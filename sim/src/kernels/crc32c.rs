//! CRC-32C (Castagnoli), as in RFC 3720, section 12.1.

use std::fmt;

use crc::{CRC_32_ISCSI, Crc, Digest, Table};

static CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// A checksum under way.
pub(crate) struct Crc32c(Digest<'static, u32, Table<16>>);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(CASTAGNOLI.digest())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub(crate) fn finish(&self) -> u32 {
        self.0.clone().finalize()
    }

    /// The checksum of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> u32 {
        CASTAGNOLI.checksum(bytes)
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({:#010x})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(Crc32c::of(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn pieces_sum_to_the_whole() {
        let mut crc = Crc32c::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.finish(), Crc32c::of(b"123456789"));
    }
}
