//! Memory that is shared with another process, and every access to it.
//!
//! The other side may change any byte at any time, so nothing here hands out a slice: callers get
//! copies or atomics, and look at each word once. Every access is bounds-checked against the
//! mapping.
#![allow(
    unsafe_code,
    reason = "the simulator's memory: mmap, and access through raw pointers to what others may change"
)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::FromBytes;

/// Bytes of a descriptor, mapped shared. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<c_void>,
    length: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread; all access goes through copies and
// atomics, which any thread may do.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; no method hands out a reference to plain bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `fd` from `offset` on.
    ///
    /// # Errors
    /// What `mmap` says; `EINVAL` for a length of 0 or an offset beyond what the system can address.
    pub(crate) fn new(
        fd: impl AsFd,
        offset: u64,
        length: u64,
        writable: bool,
    ) -> Result<Self, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        let size = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let mut protection = ProtFlags::PROT_READ;
        if writable {
            protection |= ProtFlags::PROT_WRITE;
        }
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let address = unsafe { mmap(None, size, protection, flags, fd, offset) }?;
        Ok(Self {
            address,
            length,
            writable,
        })
    }

    /// Bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length as u64
    }

    /// The address of `length` bytes at `offset`, if all of them are in the mapping.
    fn at(&self, offset: u64, length: usize) -> Option<*mut u8> {
        let start = usize::try_from(offset).ok()?;
        if length > self.length || start > self.length - length {
            return None;
        }
        // SAFETY: `start` is within the mapping, as just checked.
        Some(unsafe { self.address.as_ptr().cast::<u8>().add(start) })
    }

    fn at_writable(&self, offset: u64, length: usize) -> Option<*mut u8> {
        if self.writable {
            self.at(offset, length)
        } else {
            None
        }
    }

    /// A copy of the value at `offset`; `None` beyond the end.
    #[inline]
    pub(crate) fn load<T: FromBytes>(&self, offset: u64) -> Option<T> {
        let from = self.at(offset, size_of::<T>())?;
        // SAFETY: the bytes are in the mapping, any bytes make a T, and alignment is not needed.
        Some(unsafe { from.cast::<T>().read_unaligned() })
    }

    /// Copies bytes from `offset` on; false beyond the end.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(from) = self.at(offset, into.len()) else {
            return false;
        };
        // SAFETY: the source is in the mapping, and `into` is exclusive, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        true
    }

    /// Copies bytes to `offset`; false beyond the end or where the mapping is read-only.
    #[must_use]
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> bool {
        let Some(to) = self.at_writable(offset, from.len()) else {
            return false;
        };
        // SAFETY: the destination is in a writable mapping, which no reference of ours points into.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        true
    }

    /// Copies `length` bytes from one mapping to another, or within one; false beyond either end or
    /// where the destination is read-only.
    #[must_use]
    pub(crate) fn copy(from: (&Self, u64), to: (&Self, u64), length: usize) -> bool {
        let (Some(source), Some(destination)) =
            (from.0.at(from.1, length), to.0.at_writable(to.1, length))
        else {
            return false;
        };
        if from.0.address != to.0.address {
            // SAFETY: both ranges are in their mappings, which are different ones.
            unsafe { std::ptr::copy_nonoverlapping(source, destination, length) };
        } else {
            // SAFETY: both ranges are in the mapping; `copy` allows them to overlap.
            unsafe { std::ptr::copy(source, destination, length) };
        }
        true
    }

    /// The aligned 32-bit word at `offset`, to load from; store to it only if the mapping is
    /// writable.
    #[inline]
    pub(crate) fn word32(&self, offset: u64) -> Option<&AtomicU32> {
        let address = self.at(offset, size_of::<u32>())?.cast::<u32>();
        if !address.is_aligned() {
            return None;
        }
        // SAFETY: aligned, in the mapping, which lives as long as the reference; all access of
        // ours to a word that is used so is atomic.
        Some(unsafe { AtomicU32::from_ptr(address) })
    }

    /// The aligned 64-bit word at `offset` of a writable mapping.
    #[inline]
    pub(crate) fn word64(&self, offset: u64) -> Option<&AtomicU64> {
        let address = self.at_writable(offset, size_of::<u64>())?.cast::<u64>();
        if !address.is_aligned() {
            return None;
        }
        // SAFETY: aligned, in a writable mapping, which lives as long as the reference.
        Some(unsafe { AtomicU64::from_ptr(address) })
    }

    /// The aligned 64-bit word at `offset`, to load from only.
    #[inline]
    pub(crate) fn word64_readable(&self, offset: u64) -> Option<&AtomicU64> {
        let address = self.at(offset, size_of::<u64>())?.cast::<u64>();
        if !address.is_aligned() {
            return None;
        }
        // SAFETY: aligned and in the mapping, which lives as long as the reference; callers load.
        Some(unsafe { AtomicU64::from_ptr(address) })
    }

    /// Whether stores are allowed.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are what mmap returned, and no reference outlives `self`.
        if let Err(error) = unsafe { munmap(self.address, self.length) } {
            tracing::error!(%error, length = self.length, "cannot unmap shared memory");
        }
    }
}
