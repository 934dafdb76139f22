//! The firmware image: a header, a signature, a payload.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Malformed;

/// A firmware version, packed as major.minor.patch.
#[bitfield(u32)]
#[derive(PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "u32", into = "u32")
)]
pub struct FirmwareVersion {
    /// Patch.
    pub patch: u16,
    /// Minor.
    pub minor: u8,
    /// Major.
    pub major: u8,
}

impl FirmwareVersion {
    /// The version major.minor.patch.
    #[must_use]
    pub const fn of(major: u8, minor: u8, patch: u16) -> Self {
        Self::new()
            .with_major(major)
            .with_minor(minor)
            .with_patch(patch)
    }

    /// The version in a register, where 0 is none.
    #[must_use]
    pub const fn parse_optional(raw: u32) -> Option<Self> {
        if raw == 0 {
            None
        } else {
            Some(Self::from_bits(raw))
        }
    }
}

impl core::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major(), self.minor(), self.patch())
    }
}

/// Magic of a firmware image, "AUKF" as bytes.
pub const MAGIC: u32 = u32::from_le_bytes(*b"AUKF");
/// Firmware slots.
pub const SLOTS: u8 = 2;
/// Greatest image in bytes, header included.
pub const MAX_IMAGE: u32 = 4 << 20;
/// Bytes of the header that the signature covers, followed by the payload.
pub const SIGNED_HEADER: usize = 64;

/// Header of a firmware image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// Layout of this header: 1.
    pub header_version: u16,
    /// PCI device ID that the image is for.
    pub device: u16,
    /// [`FirmwareVersion`], not 0.
    pub version: u32,
    /// Images below the chip's fused security version are refused.
    pub security_version: u32,
    /// Bytes of payload after the header, 1 to [`MAX_IMAGE`] less the header.
    pub payload_length: u32,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Which public key verifies the signature.
    pub key_id: u32,
    /// 0.
    pub reserved: [u32; 9],
    /// Ed25519 (RFC 8032) over the first [`SIGNED_HEADER`] bytes and the payload.
    pub signature: [u8; 64],
}

fields!(ImageHeader, size = 128, {
    0x00 => magic,
    0x04 => header_version,
    0x06 => device,
    0x08 => version,
    0x0C => security_version,
    0x10 => payload_length,
    0x14 => payload_crc,
    0x18 => key_id,
    0x1C => reserved,
    0x40 => signature,
});

/// A firmware image whose header is sound and whose length is right; its checksum and signature
/// are for the chip to verify.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The header.
    pub header: ImageHeader,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Image<'a> {
    /// The image in `bytes`, which hold nothing else.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short, too long, or its header is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let wrong = |what, found: u64, expected| {
            Err(Malformed {
                what,
                found,
                expected,
            })
        };
        let Ok((header, payload)) = ImageHeader::read_from_prefix(bytes) else {
            return wrong(
                "bytes of a firmware image",
                bytes.len() as u64,
                "at least 128",
            );
        };
        if header.magic != MAGIC {
            return wrong("firmware magic", u64::from(header.magic), "\"AUKF\"");
        }
        if header.header_version != 1 {
            return wrong(
                "firmware header version",
                u64::from(header.header_version),
                "1",
            );
        }
        if header.version == 0 {
            return wrong("firmware version", 0, "a version other than 0.0.0");
        }
        if header.reserved != [0; 9] {
            return wrong("firmware header reserved words", 1, "all 0");
        }
        let most = MAX_IMAGE - ImageHeader::SIZE as u32;
        if header.payload_length == 0 || header.payload_length > most {
            return wrong(
                "firmware payload length",
                u64::from(header.payload_length),
                "1 to 4 MiB",
            );
        }
        if payload.len() as u64 != u64::from(header.payload_length) {
            return wrong(
                "bytes of firmware payload",
                payload.len() as u64,
                "as many as the header's payload_length: the image is cut short or too long",
            );
        }
        Ok(Self { header, payload })
    }

    /// The image's version.
    #[must_use]
    pub const fn version(&self) -> FirmwareVersion {
        FirmwareVersion::from_bits(self.header.version)
    }
}
