//! Firmware images, and the firmware's self-test.

use auk_asic::firmware::{FirmwareVersion, Image, SLOTS};
use auk_asic::{SelfTest, admin::AdminCommand, submission::Operand};

use super::Device;
use crate::deadline::Deadline;
use crate::error::Error;

/// Bytes of an image that one command brings to the chip.
const PIECE: usize = 256 << 10;

impl Device {
    /// Brings a firmware image to a slot; with `activate` it runs from the next restart on:
    /// [`Device::restart_firmware`].
    ///
    /// The image's form is checked here, before anything is sent; its checksum and signature are for the chip.
    ///
    /// ```no_run
    /// # use auk_driver::Device;
    /// # use std::time::Duration;
    /// # fn update(device: &Device) -> Result<(), Box<dyn std::error::Error>> {
    /// let image = std::fs::read("a1.fw")?;
    /// device.install_firmware(&image, 1, true, Duration::from_secs(60))?;
    /// device.restart_firmware()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Image`] when it is cut short or is no image; [`Error::Invalid`] when it is for another chip or slot;
    /// [`Error::Command`] with [`ImageSignature`](auk_asic::Status::ImageSignature),
    /// [`ImageTooOld`](auk_asic::Status::ImageTooOld) or [`ImageMalformed`](auk_asic::Status::ImageMalformed) when the chip
    /// refuses it; [`Error::TimedOut`], what has become of the chip.
    pub fn install_firmware(
        &self,
        bytes: &[u8],
        slot: u8,
        activate: bool,
        deadline: impl Into<Deadline>,
    ) -> Result<FirmwareVersion, Error> {
        let inner = &self.inner;
        let deadline = deadline.into();
        let image = Image::parse(bytes).map_err(Error::Image)?;
        let invalid = |what, found: String, expected: String| {
            Err(Error::Invalid {
                what,
                found,
                expected,
            })
        };
        let model = inner.capabilities.model().code();
        if image.header.device != model {
            let found = format!("device {:#06x}", image.header.device);
            return invalid(
                "the firmware image's chip",
                found,
                format!("device {model:#06x}"),
            );
        }
        if slot >= SLOTS {
            return invalid(
                "the firmware slot",
                slot.to_string(),
                format!("0 to {}", SLOTS - 1),
            );
        }
        let most = self.identity()?.max_image;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if length > most {
            return invalid(
                "the firmware image's length",
                length.to_string(),
                format!("{most} bytes at most"),
            );
        }
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let buffer = inner.space.alloc(piece.len())?;
            buffer.write(0, piece)?;
            let command = AdminCommand::FirmwareDownload {
                src: Operand::host(buffer.iova()),
                length: piece.len() as u32,
                offset: (index * PIECE) as u32,
            };
            inner.execute(command, Some(buffer), "downloading firmware", deadline)?;
        }
        let command = AdminCommand::FirmwareCommit {
            slot,
            activate,
            length,
        };
        inner.execute(command, None, "committing firmware", deadline)?;
        Ok(image.version())
    }

    /// Runs the chip's self-test: patterns over reserved memory, known answers on all kernels.
    ///
    /// # Errors
    /// [`Error::Command`] when the firmware is in no state for it; [`Error::TimedOut`], what has become of the chip.
    pub fn self_test(&self, deadline: impl Into<Deadline>) -> Result<SelfTest, Error> {
        let inner = &self.inner;
        let result = inner.execute(
            AdminCommand::SelfTest,
            None,
            "the self-test",
            deadline.into(),
        )?;
        u8::try_from(result)
            .map_err(|_| auk_asic::Malformed {
                what: "result of the self-test",
                found: result,
                expected: "a code of the table SelfTest",
            })
            .and_then(SelfTest::parse)
            .map_err(|source| inner.malformed(source))
    }
}
