//! Memory shared with another process.
#![allow(
    unsafe_code,
    reason = "mapped memory that another process writes has no safe representation"
)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use thiserror::Error;

use crate::Errno;
use crate::stream::copy_past_caches;

/// Why memory could not be mapped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapError {
    /// Length 0, or an end that no file has.
    #[error("{len:#x} bytes at offset {offset:#x} cannot be mapped")]
    Range {
        /// From the beginning of the descriptor, in bytes.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The descriptor is shorter than what is to be mapped of it.
    #[error("the descriptor has {found:#x} bytes, and {needed:#x} are to be mapped")]
    TooShort {
        /// Bytes of the descriptor.
        found: u64,
        /// End of what is to be mapped.
        needed: u64,
    },
    /// The owner of the descriptor could make it shorter at any time.
    #[error(
        "the descriptor can be shrunk and does not let itself be sealed against it; \
         share a memfd that allows sealing (MFD_ALLOW_SEALING)"
    )]
    Shrinkable,
    /// The kernel refused.
    #[error("cannot {doing} shared memory: {errno}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// How a copy stores what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Into the caches, where whoever reads it soon finds it.
    Cached,
    /// Past the caches, where two memories are concerned: for more than they hold.
    Streaming,
}

impl MapError {
    /// What to tell a peer.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Range { .. } | Self::TooShort { .. } => Errno::EINVAL,
            Self::Shrinkable => Errno::EACCES,
            Self::Kernel { errno, .. } => *errno,
        }
    }
}

/// An access that does not lie in the memory, or is not aligned to its own size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{len} bytes at offset {offset:#x} are not an access within {size:#x} bytes")]
pub struct OutOfBounds {
    /// From the beginning of the memory, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Bytes of the memory.
    pub size: u64,
}

/// Memory mapped from a descriptor, shared with whoever else has it mapped.
///
/// Another process may change it at any moment, so nothing here gives out references: bytes are copied, words are
/// loaded and stored whole.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread, until it is dropped.
unsafe impl Send for SharedMemory {}
// SAFETY: every access copies or is atomic; that others write meanwhile is what it is made for.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps `len` bytes of a descriptor from `offset` on, to write as well if `writable`, and seals it against getting
    /// shorter.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        writable: bool,
    ) -> Result<Self, MapError> {
        let range = MapError::Range { offset, len };
        let end = offset.checked_add(len).ok_or_else(|| range.clone())?;
        let (Ok(start), Ok(_)) = (i64::try_from(offset), i64::try_from(end)) else {
            return Err(range);
        };
        let size = usize::try_from(len)
            .ok()
            .and_then(std::num::NonZero::new)
            .ok_or(range)?;
        // Sealed first: what is found long enough then stays so.
        seal(fd)?;
        let found = fstat(fd)
            .map_err(|errno| MapError::Kernel {
                doing: "look at",
                errno,
            })?
            .st_size;
        let found = u64::try_from(found).unwrap_or(0);
        if found < end {
            return Err(MapError::TooShort { found, needed: end });
        }
        let write = if writable {
            ProtFlags::PROT_WRITE
        } else {
            ProtFlags::empty()
        };
        let protection = ProtFlags::PROT_READ | write;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, start) }
            .map_err(|errno| MapError::Kernel {
                doing: "map",
                errno,
            })?;
        Ok(Self {
            base: base.cast(),
            len: size.get(),
            writable,
        })
    }

    /// Creates `len` bytes of memory that is zero and can never change its size, with a descriptor to share it.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn create(name: &CStr, len: u64) -> Result<(OwnedFd, Self), MapError> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(
            |errno| MapError::Kernel {
                doing: "create",
                errno,
            },
        )?;
        let size = i64::try_from(len).map_err(|_| MapError::Range { offset: 0, len })?;
        ftruncate(&fd, size).map_err(|errno| MapError::Kernel {
            doing: "size",
            errno,
        })?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| MapError::Kernel {
            doing: "seal",
            errno,
        })?;
        let memory = Self::map(fd.as_fd(), 0, len, true)?;
        Ok((fd, memory))
    }

    /// Bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Whether it was mapped to write as well.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// `count` double words. To store to them, the memory must be [writable](Self::is_writable).
    pub(crate) fn words(&self, offset: u64, count: usize) -> Result<&[AtomicU64], OutOfBounds> {
        let start = self.at(offset, count.saturating_mul(8), 8)?;
        // SAFETY: `at` has checked that the words lie in the mapping, and are aligned; they are accessed as atomics only.
        Ok(unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), count) })
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    #[inline]
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.at(offset, data.len(), 1)?;
        // SAFETY: `at` has checked that the bytes lie in the mapping; `data` is ours alone.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfBounds`]; all of it is, when the memory was mapped for reading only.
    #[inline]
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.writable_at(offset, data.len(), 1)?;
        // SAFETY: `at` has checked that the bytes lie in the mapping, which is writable; `data` is not in it, as
        // nothing gives out references to it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
        Ok(())
    }

    /// Copies `len` bytes from one memory to another, or within one, where the two ranges may overlap.
    ///
    /// # Errors
    /// [`OutOfBounds`] of the source or the destination; nothing was copied then.
    #[inline]
    pub fn copy(
        from: (&Self, u64),
        to: (&Self, u64),
        len: usize,
        stores: Stores,
    ) -> Result<(), OutOfBounds> {
        let source = from.0.at(from.1, len, 1)?;
        let destination = to.0.writable_at(to.1, len, 1)?;
        let (from_bytes, to_bytes) = (source.as_ptr().cast_const(), destination.as_ptr());
        match stores {
            // SAFETY: `at` has checked both ranges, the second in memory that is writable; they may overlap.
            _ if std::ptr::eq(from.0, to.0) => unsafe { std::ptr::copy(from_bytes, to_bytes, len) },
            // SAFETY: as above; they are in two mappings, which do not overlap.
            Stores::Cached => unsafe { std::ptr::copy_nonoverlapping(from_bytes, to_bytes, len) },
            // SAFETY: as above.
            Stores::Streaming => unsafe { copy_past_caches(from_bytes, to_bytes, len) },
        }
        Ok(())
    }

    /// Loads a word; what its writer stored before it is visible afterwards (acquire).
    ///
    /// # Errors
    /// [`OutOfBounds`], also when it is not aligned.
    #[inline]
    pub fn load_u32(&self, offset: u64) -> Result<u32, OutOfBounds> {
        let word = self.at(offset, 4, 4)?.cast::<u32>();
        // SAFETY: in the mapping, aligned, and accessed as an atomic only.
        Ok(unsafe { AtomicU32::from_ptr(word.as_ptr()) }.load(Ordering::Acquire))
    }

    /// Loads a double word; what its writer stored before it is visible afterwards (acquire).
    ///
    /// # Errors
    /// [`OutOfBounds`], also when it is not aligned.
    #[inline]
    pub fn load_u64(&self, offset: u64) -> Result<u64, OutOfBounds> {
        let word = self.at(offset, 8, 8)?.cast::<u64>();
        // SAFETY: in the mapping, aligned, and accessed as an atomic only.
        Ok(unsafe { AtomicU64::from_ptr(word.as_ptr()) }.load(Ordering::Acquire))
    }

    /// Stores a word; who loads it sees what was stored before (release).
    ///
    /// # Errors
    /// [`OutOfBounds`], also when it is not aligned, or the memory was mapped for reading only.
    #[inline]
    pub fn store_u32(&self, offset: u64, value: u32) -> Result<(), OutOfBounds> {
        let word = self.writable_at(offset, 4, 4)?.cast::<u32>();
        // SAFETY: in the mapping, which is writable, aligned, and accessed as an atomic only.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Stores a double word; who loads it sees what was stored before (release).
    ///
    /// # Errors
    /// [`OutOfBounds`], also when it is not aligned, or the memory was mapped for reading only.
    #[inline]
    pub fn store_u64(&self, offset: u64, value: u64) -> Result<(), OutOfBounds> {
        let word = self.writable_at(offset, 8, 8)?.cast::<u64>();
        // SAFETY: in the mapping, which is writable, aligned, and accessed as an atomic only.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Adds to a double word, wrapping: its value before. As a load and a store in one (acquire and release).
    ///
    /// # Errors
    /// [`OutOfBounds`], also when it is not aligned, or the memory was mapped for reading only.
    #[inline]
    pub fn fetch_add_u64(&self, offset: u64, value: u64) -> Result<u64, OutOfBounds> {
        let word = self.writable_at(offset, 8, 8)?.cast::<u64>();
        // SAFETY: in the mapping, which is writable, aligned, and accessed as an atomic only.
        Ok(unsafe { AtomicU64::from_ptr(word.as_ptr()) }.fetch_add(value, Ordering::AcqRel))
    }

    /// Where `len` bytes at `offset` are.
    #[inline]
    fn at(&self, offset: u64, len: usize, align: u64) -> Result<NonNull<u8>, OutOfBounds> {
        let size = self.len as u64;
        let inside = offset
            .checked_add(len as u64)
            .is_some_and(|end| end <= size);
        if !inside || offset & (align - 1) != 0 || self.base.addr().get() as u64 & (align - 1) != 0
        {
            return Err(OutOfBounds {
                offset,
                len: len as u64,
                size,
            });
        }
        // SAFETY: inside the mapping, and so within `usize`.
        Ok(unsafe { self.base.add(offset as usize) })
    }

    #[inline]
    fn writable_at(&self, offset: u64, len: usize, align: u64) -> Result<NonNull<u8>, OutOfBounds> {
        if !self.writable {
            return Err(OutOfBounds {
                offset,
                len: len as u64,
                size: 0,
            });
        }
        self.at(offset, len, align)
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, of which nothing remains in use.
        if let Err(errno) = unsafe { munmap(self.base.cast(), self.len) } {
            tracing::warn!(%errno, "cannot unmap shared memory");
        }
    }
}

/// Sees to it that a descriptor cannot be made shorter: touching memory that is gone kills the process.
fn seal(fd: BorrowedFd<'_>) -> Result<(), MapError> {
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    let sealed = seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_SHRINK))
        || fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).is_ok();
    if sealed {
        Ok(())
    } else {
        Err(MapError::Shrinkable)
    }
}
