//! Firmware slots, the staging buffer, and who may sign an image.
//!
//! The simulator trusts one key, the *development key*, and carries its secret half so that tests
//! and demos can build images. It is public, so it protects nothing; silicon does not trust it.

use auk_asic::Status;
use auk_asic::firmware::{
    FirmwareVersion, Image, ImageHeader, MAGIC, MAX_IMAGE, SIGNED_HEADER, SLOTS,
};
use auk_asic::ident::Model;
use auk_asic::log::SlotInfo;
use ed25519_dalek::{Signature, Signer, SigningKey};
use zerocopy::IntoBytes;

use crate::kernels::Crc32c;

/// `key_id` of the development key.
pub const DEVELOPMENT_KEY_ID: u32 = 1;

/// The secret half of the development key.
const DEVELOPMENT_KEY: [u8; 32] = *b"Auk development key, not secret.";

/// Version of the image in the factory slot.
pub const FACTORY_VERSION: FirmwareVersion = FirmwareVersion::of(1, 0, 0);

/// An image that is too long for the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "firmware payload of {found} bytes, expected 1 to {} so that the image fits the chip",
    MAX_IMAGE as usize - ImageHeader::SIZE
)]
pub struct PayloadLength {
    /// Bytes of payload.
    pub found: usize,
}

/// A firmware image that is signed with the development key.
///
/// # Errors
/// [`PayloadLength`] when the payload is empty or the image would be longer than [`MAX_IMAGE`].
pub fn build_image(
    model: Model,
    version: FirmwareVersion,
    security_version: u32,
    payload: &[u8],
) -> Result<Vec<u8>, PayloadLength> {
    let wrong = PayloadLength {
        found: payload.len(),
    };
    if payload.is_empty() || payload.len() > MAX_IMAGE as usize - ImageHeader::SIZE {
        return Err(wrong);
    }
    let mut header = ImageHeader {
        magic: MAGIC,
        header_version: 1,
        device: model.code(),
        version: version.into_bits(),
        security_version,
        payload_length: u32::try_from(payload.len()).map_err(|_| wrong)?,
        payload_crc: Crc32c::of(payload),
        key_id: DEVELOPMENT_KEY_ID,
        reserved: [0; 9],
        signature: [0; 64],
    };
    let key = SigningKey::from_bytes(&DEVELOPMENT_KEY);
    header.signature = key.sign(&signed_bytes(&header, payload)).to_bytes();
    let mut image = header.as_bytes().to_vec();
    image.extend_from_slice(payload);
    Ok(image)
}

fn signed_bytes(header: &ImageHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes()[..SIGNED_HEADER].to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The two slots and the staging buffer.
#[derive(Debug)]
pub(crate) struct Firmware {
    model: Model,
    security_version: u32,
    slots: [Vec<u8>; SLOTS as usize],
    /// Booted from.
    pub(crate) active: u8,
    /// Boots next.
    pub(crate) next: u8,
    staging: Vec<u8>,
}

impl Firmware {
    /// The chip as it leaves the factory: a good image in slot 0, nothing in slot 1.
    pub(crate) fn new(model: Model, security_version: u32) -> Self {
        let payload = b"Auk A1 runtime, simulated";
        let image = build_image(model, FACTORY_VERSION, security_version, payload);
        Self {
            model,
            security_version,
            slots: [image.unwrap_or_default(), Vec::new()],
            active: 0,
            next: 0,
            staging: Vec::new(),
        }
    }

    /// FIRMWARE_DOWNLOAD.
    ///
    /// # Errors
    /// [`Status::InvalidField`] beyond the staging buffer.
    pub(crate) fn stage(&mut self, offset: u32, piece: &[u8]) -> Result<(), Status> {
        let start = offset as usize;
        let end = start
            .checked_add(piece.len())
            .filter(|&end| end <= MAX_IMAGE as usize)
            .ok_or(Status::InvalidField)?;
        if self.staging.len() < end {
            self.staging.resize(end, 0);
        }
        self.staging[start..end].copy_from_slice(piece);
        Ok(())
    }

    /// FIRMWARE_COMMIT.
    ///
    /// # Errors
    /// [`Status::InvalidField`] for a wrong slot, or why the image is refused.
    pub(crate) fn commit(&mut self, slot: u8, activate: bool, length: u32) -> Result<(), Status> {
        let index = usize::from(slot);
        if index >= self.slots.len() {
            return Err(Status::InvalidField);
        }
        let image = self
            .staging
            .get(..length as usize)
            .ok_or(Status::ImageMalformed)?;
        self.verify(image)?;
        self.slots[index] = image.to_vec();
        if activate {
            self.next = slot;
        }
        self.staging.clear();
        Ok(())
    }

    /// Boots from the next slot.
    ///
    /// # Errors
    /// Why its image is refused.
    pub(crate) fn boot(&mut self) -> Result<FirmwareVersion, Status> {
        let version = self.verify(&self.slots[usize::from(self.next)])?;
        self.active = self.next;
        Ok(version)
    }

    fn verify(&self, bytes: &[u8]) -> Result<FirmwareVersion, Status> {
        let image = Image::parse(bytes).map_err(|_| Status::ImageMalformed)?;
        let header = &image.header;
        if header.device != self.model.code() || header.payload_crc != Crc32c::of(image.payload) {
            return Err(Status::ImageMalformed);
        }
        if header.security_version < self.security_version {
            return Err(Status::ImageTooOld);
        }
        if header.key_id != DEVELOPMENT_KEY_ID {
            return Err(Status::ImageSignature);
        }
        let key = SigningKey::from_bytes(&DEVELOPMENT_KEY).verifying_key();
        let signature = Signature::from_bytes(&header.signature);
        key.verify_strict(&signed_bytes(header, image.payload), &signature)
            .map_err(|_| Status::ImageSignature)?;
        Ok(image.version())
    }

    /// Log page Firmware.
    pub(crate) fn slot_info(&self) -> Vec<u8> {
        let mut page = Vec::new();
        for (slot, bytes) in (0u8..).zip(&self.slots) {
            let mut info = SlotInfo::default();
            if let Ok(image) = Image::parse(bytes) {
                info.version = image.header.version;
                info.security_version = image.header.security_version;
                info.payload_length = image.header.payload_length;
            }
            info.flags = u32::from(slot == self.active) | u32::from(slot == self.next) << 1;
            page.extend_from_slice(info.as_bytes());
        }
        page
    }

    /// Whether there is such a slot, and something in it.
    pub(crate) fn has_image(&self, slot: u8) -> bool {
        let image = self.slots.get(usize::from(slot));
        image.is_some_and(|image| !image.is_empty())
    }

    /// Spoils the image in a slot, as a worn flash cell would.
    pub(crate) fn corrupt(&mut self, slot: u8) {
        let image = self.slots.get_mut(usize::from(slot));
        if let Some(byte) = image.and_then(|image| image.last_mut()) {
            *byte ^= 0xFF;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(image: &[u8]) -> Result<(), Status> {
        let mut firmware = Firmware::new(Model::Silicon, 3);
        firmware.stage(0, image)?;
        firmware.commit(1, true, u32::try_from(image.len()).unwrap())
    }

    fn image(model: Model, security_version: u32) -> Vec<u8> {
        let version = FirmwareVersion::of(2, 1, 0);
        build_image(model, version, security_version, &[7; 1000]).unwrap()
    }

    #[test]
    fn a_signed_image_is_taken_and_boots_next() {
        let image = image(Model::Silicon, 3);
        let mut firmware = Firmware::new(Model::Silicon, 3);
        for (index, piece) in image.chunks(100).enumerate() {
            firmware.stage(index as u32 * 100, piece).unwrap();
        }
        firmware.commit(1, true, image.len() as u32).unwrap();
        assert_eq!(firmware.boot(), Ok(FirmwareVersion::of(2, 1, 0)));
        assert_eq!(firmware.active, 1);
    }

    #[test]
    fn a_wrong_signature_is_refused() {
        let mut image = image(Model::Silicon, 3);
        image[0x40] ^= 1;
        assert_eq!(commit(&image), Err(Status::ImageSignature));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let mut image = image(Model::Silicon, 3);
        image[0x18] = 9;
        assert_eq!(commit(&image), Err(Status::ImageSignature));
    }

    #[test]
    fn a_changed_header_is_refused() {
        let mut image = image(Model::Silicon, 3);
        image[0x08] ^= 1;
        assert_eq!(commit(&image), Err(Status::ImageSignature));
    }

    #[test]
    fn a_changed_payload_is_refused() {
        let mut image = image(Model::Silicon, 3);
        *image.last_mut().unwrap() ^= 1;
        assert_eq!(commit(&image), Err(Status::ImageMalformed));
    }

    #[test]
    fn an_image_cut_short_anywhere_is_refused() {
        let image = image(Model::Silicon, 3);
        for length in 0..image.len() {
            assert_eq!(commit(&image[..length]), Err(Status::ImageMalformed));
        }
    }

    #[test]
    fn an_image_that_is_too_old_is_refused() {
        assert_eq!(commit(&image(Model::Silicon, 2)), Err(Status::ImageTooOld));
    }

    #[test]
    fn an_image_for_another_device_is_refused() {
        assert_eq!(commit(&image(Model::Fpga, 3)), Err(Status::ImageMalformed));
    }

    #[test]
    fn a_refused_image_leaves_both_slots_as_they_were() {
        let mut firmware = Firmware::new(Model::Silicon, 3);
        let before = firmware.slot_info();
        firmware.stage(0, &[1; 200]).unwrap();
        assert_eq!(firmware.commit(0, true, 200), Err(Status::ImageMalformed));
        assert_eq!(firmware.slot_info(), before);
        assert_eq!(firmware.boot(), Ok(FACTORY_VERSION));
    }

    #[test]
    fn staging_ends_at_the_greatest_image() {
        let mut firmware = Firmware::new(Model::Silicon, 3);
        assert_eq!(firmware.stage(MAX_IMAGE - 1, &[0]), Ok(()));
        assert_eq!(firmware.stage(MAX_IMAGE, &[0]), Err(Status::InvalidField));
        assert_eq!(firmware.stage(u32::MAX, &[0; 8]), Err(Status::InvalidField));
    }

    #[test]
    fn a_corrupted_slot_does_not_boot() {
        let mut firmware = Firmware::new(Model::Silicon, 3);
        let images = [0, 1, 2].map(|slot| firmware.has_image(slot));
        assert_eq!(images, [true, false, false]);
        firmware.corrupt(0);
        assert_eq!(firmware.boot(), Err(Status::ImageMalformed));
    }
}
