//! Config space through sysfs: aligned dwords, as few as it takes.
//!
//! The kernel serves a user's config read a dword at a time under a lock that the whole host
//! shares, and each dword is a transaction on the bus. So reads are counted.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use auk_asic::config::{SIZE, header};
use nix::sys::statfs::{SYSFS_MAGIC, fstatfs};

use super::ProbeError;
use super::directory::Directory;

/// Where extended capabilities begin, PCI Express Base Specification 6.0, section 7.6.
const EXTENDED: u16 = 0x100;
/// Extended capabilities are dword-aligned and do not overlap, so a longer list has a loop in it.
const MOST_CAPABILITIES: usize = (SIZE - EXTENDED as usize) / 4;
/// Where the other capabilities begin at the earliest, behind the header, and how many there can be.
const FIRST_CAPABILITY: u16 = 0x40;
const MOST_OLD_CAPABILITIES: usize = (EXTENDED - FIRST_CAPABILITY) as usize / 4;

/// The config space of one function, opened once: on sysfs a read of it fails with ENODEV when its
/// device has left.
#[derive(Debug)]
pub struct ConfigSpace {
    file: File,
    path: PathBuf,
    /// A plain file, which stays readable when it is removed.
    plain: bool,
    dwords: Cell<u32>,
}

impl ConfigSpace {
    /// Opens the `config` file of a function's directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(function: &Path) -> Result<Self, ProbeError> {
        Self::open_in(&Directory::open(function)?)
    }

    /// As [`open`](Self::open), in a directory that is open already.
    pub(crate) fn open_in(function: &Directory) -> Result<Self, ProbeError> {
        let path = function.path().join("config");
        Ok(Self::new(function.file("config")?, path))
    }

    /// Config space by a descriptor that somebody else has opened.
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        let plain = fstatfs(&file).is_ok_and(|system| system.filesystem_type() != SYSFS_MAGIC);
        Self {
            file,
            path,
            plain,
            dwords: Cell::new(0),
        }
    }

    /// Whether it is a plain file, which tells nobody that its device has left.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether it was removed or replaced.
    pub(crate) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Dwords that were asked for since it was opened.
    #[must_use]
    pub fn dwords_read(&self) -> u32 {
        self.dwords.get()
    }

    /// Reads consecutive dwords; the kernel reads them in ascending order.
    ///
    /// # Errors
    /// When the range leaves config space or what the kernel shows of it, or the read fails.
    pub fn read<const N: usize>(&self, offset: u16) -> Result<[u32; N], ProbeError> {
        let mut bytes = [[0u8; 4]; N];
        let needed = u64::from(offset) + 4 * N as u64;
        if !offset.is_multiple_of(4) || needed > SIZE as u64 {
            return Err(self.short(SIZE as u64, needed));
        }
        let count = u32::try_from(N).unwrap_or(u32::MAX);
        self.dwords.set(self.dwords.get().saturating_add(count));
        let flat = bytes.as_flattened_mut();
        let mut done = 0;
        while done < flat.len() {
            let at = u64::from(offset) + done as u64;
            match self.file.read_at(&mut flat[done..], at) {
                Ok(0) => return Err(self.short(at, needed)),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ProbeError::io(&self.path, &error)),
            }
        }
        Ok(bytes.map(u32::from_le_bytes))
    }

    /// Reads one dword.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn dword(&self, offset: u16) -> Result<u32, ProbeError> {
        let [value] = self.read(offset)?;
        Ok(value)
    }

    /// Reads the vendor and device dword, which says whether anybody answers.
    ///
    /// # Errors
    /// [`ProbeError::AllOnes`] when nobody does, and as [`read`](Self::read).
    pub fn answer(&self) -> Result<u32, ProbeError> {
        match self.dword(header::VENDOR)? {
            u32::MAX => Err(ProbeError::AllOnes {
                path: self.path.display().to_string(),
            }),
            value => Ok(value),
        }
    }

    /// Offset of the capability with an ID, section 7.5.1.1.11.
    ///
    /// # Errors
    /// When the list leaves its bounds or runs in a circle, and as [`read`](Self::read).
    pub fn find(&self, id: u8) -> Result<Option<u16>, ProbeError> {
        let has_list = self.dword(header::COMMAND)? >> 16 & u32::from(header::STATUS_CAPABILITIES);
        if has_list == 0 {
            return Ok(None);
        }
        let mut offset = self.dword(header::CAPABILITIES)? & 0xFC;
        for _ in 0..MOST_OLD_CAPABILITIES {
            let Ok(at @ FIRST_CAPABILITY..) = u16::try_from(offset) else {
                return Ok(None);
            };
            let word = self.dword(at)?;
            if word & 0xFF == u32::from(id) {
                return Ok(Some(at));
            }
            offset = word >> 8 & 0xFC;
        }
        let expected = "a list of capabilities from 0x40 to 0xff";
        let found = "a list that runs in a circle";
        Err(ProbeError::malformed(&self.path, found, expected))
    }

    /// Offsets of the extended capabilities with an ID, for which `wanted` says yes.
    ///
    /// # Errors
    /// When the list leaves its bounds or runs in a circle, and as [`read`](Self::read).
    pub fn find_extended(
        &self,
        id: u16,
        mut wanted: impl FnMut(&Self, u16) -> Result<bool, ProbeError>,
    ) -> Result<Option<u16>, ProbeError> {
        let mut offset = EXTENDED;
        for _ in 0..MOST_CAPABILITIES {
            let word = self.dword(offset)?;
            if word == u32::MAX {
                return Err(ProbeError::AllOnes {
                    path: self.path.display().to_string(),
                });
            }
            let [low, high] = [word & 0xFFFF, word >> 20];
            if low == u32::from(id) && wanted(self, offset)? {
                return Ok(Some(offset));
            }
            // 12 bits by the shift, and the two lowest are reserved (section 7.6.3).
            let next = u16::try_from(high).unwrap_or(0) & 0xFFC;
            if next == 0 {
                return Ok(None);
            }
            if next < EXTENDED {
                return Err(self.bad_list(&format!("next {next:#x} at {offset:#x}")));
            }
            offset = next;
        }
        Err(self.bad_list("a list that runs in a circle"))
    }

    fn short(&self, found: u64, needed: u64) -> ProbeError {
        ProbeError::Short {
            path: self.path.display().to_string(),
            found,
            needed,
        }
    }

    fn bad_list(&self, found: &str) -> ProbeError {
        ProbeError::malformed(
            &self.path,
            found,
            "a list of extended capabilities from 0x100 on",
        )
    }
}
