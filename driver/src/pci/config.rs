//! Config space, read through whatever serves it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use auk_asic::config::{SIZE, dsn, extended, header};
use auk_asic::vitals::Vitals;

use super::capability::{self, Capability, DvsecHeader, ExtendedCapability};
use super::{Bdf, ConfigError, PciError, read_vitals};

/// Something that serves a function's config space: the `config` file of sysfs, or a bus.
pub trait ConfigSpace {
    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// [`ConfigError::Io`] or [`ConfigError::Short`]; never a part of `data` filled and success.
    fn read(&self, offset: u16, data: &mut [u8]) -> Result<(), ConfigError>;

    /// The byte at `offset`.
    ///
    /// # Errors
    /// As [`ConfigSpace::read`].
    fn read_u8(&self, offset: u16) -> Result<u8, ConfigError> {
        let mut data = [0; 1];
        self.read(offset, &mut data)?;
        Ok(data[0])
    }

    /// The 16-bit word at `offset`.
    ///
    /// # Errors
    /// As [`ConfigSpace::read`].
    fn read_u16(&self, offset: u16) -> Result<u16, ConfigError> {
        let mut data = [0; 2];
        self.read(offset, &mut data)?;
        Ok(u16::from_le_bytes(data))
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Errors
    /// As [`ConfigSpace::read`].
    fn read_u32(&self, offset: u16) -> Result<u32, ConfigError> {
        let mut data = [0; 4];
        self.read(offset, &mut data)?;
        Ok(u32::from_le_bytes(data))
    }

    /// Vendor and device ID.
    ///
    /// # Errors
    /// [`ConfigError::Gone`] when they read all ones, else as [`ConfigSpace::read`].
    fn identity(&self) -> Result<(u16, u16), ConfigError> {
        let word = self.read_u32(header::VENDOR)?;
        if word == u32::MAX {
            return Err(ConfigError::Gone);
        }
        let [a, b, c, d] = word.to_le_bytes();
        Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
    }

    /// The capabilities, in the order of the list.
    ///
    /// # Errors
    /// [`ConfigError::Gone`], [`ConfigError::BrokenList`], or as [`ConfigSpace::read`].
    fn capabilities(&self) -> Result<Vec<Capability>, ConfigError> {
        capability::walk(self)
    }

    /// The extended capabilities, in the order of the list; none for a function that has none.
    ///
    /// # Errors
    /// As [`ConfigSpace::capabilities`].
    fn extended_capabilities(&self) -> Result<Vec<ExtendedCapability>, ConfigError> {
        capability::walk_extended(self)
    }

    /// The DVSEC of `vendor` with `id`.
    ///
    /// # Errors
    /// As [`ConfigSpace::capabilities`].
    fn find_dvsec(&self, vendor: u16, id: u16) -> Result<Option<DvsecHeader>, ConfigError> {
        capability::find_dvsec(self, vendor, id)
    }

    /// The Device Serial Number, PCI Express Base Specification 6.0, section 7.9.3; `None` without that
    /// capability.
    ///
    /// # Errors
    /// As [`ConfigSpace::capabilities`].
    fn serial_number(&self) -> Result<Option<u64>, ConfigError> {
        let list = self.extended_capabilities()?;
        let Some(found) = list.iter().find(|found| found.id == extended::DSN) else {
            return Ok(None);
        };
        let low = self.read_u32(found.offset.saturating_add(dsn::LOW))?;
        let high = self.read_u32(found.offset.saturating_add(dsn::HIGH))?;
        Ok(Some(u64::from(high) << 32 | u64::from(low)))
    }
}

/// Config space by the `config` file of sysfs.
///
/// The descriptor stays open, so that what was opened with privilege can be read on without. Reads of a
/// function during a reset can sleep in the kernel without a limit: an agent makes them in a process of
/// their own.
#[derive(Debug)]
pub struct SysfsConfig {
    bdf: Bdf,
    file: File,
}

impl SysfsConfig {
    pub(super) fn open(bdf: Bdf, path: &Path) -> Result<Self, PciError> {
        let file = File::open(path).map_err(|source| PciError::File {
            bdf,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { bdf, file })
    }

    /// The vital signs.
    ///
    /// # Errors
    /// [`PciError::Config`] with the reason; [`PciError::is_gone`] tells an absent function.
    pub fn vitals(&self) -> Result<Vitals, PciError> {
        read_vitals(self).map_err(|source| PciError::Config {
            bdf: self.bdf,
            source,
        })
    }
}

impl ConfigSpace for SysfsConfig {
    fn read(&self, offset: u16, data: &mut [u8]) -> Result<(), ConfigError> {
        let failed = |source: io::Error, length| match source.raw_os_error() {
            Some(libc::ENODEV) => ConfigError::Gone,
            _ => ConfigError::Io {
                offset,
                length,
                source,
            },
        };
        let length = data.len();
        let mut done = 0;
        while done < length {
            match self
                .file
                .read_at(&mut data[done..], u64::from(offset) + done as u64)
            {
                Ok(0) => {
                    let end = self.file.metadata().map_or(0, |found| found.len());
                    return Err(ConfigError::Short {
                        end: end.min(u64::from(offset) + done as u64),
                        wanted: (u64::from(offset) + length as u64).min(SIZE as u64),
                    });
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, length)),
            }
        }
        Ok(())
    }
}
