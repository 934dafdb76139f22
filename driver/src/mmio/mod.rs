//! Mapped BARs: the one place with volatile access.
//!
//! # Ordering
//!
//! A volatile store orders nothing but other volatile accesses of this thread, in the compiler. What
//! the chip may rely on comes from three rules:
//!
//! - **Memory before doorbell.** [`Doorbell::ring`] and [`Doorbell::arm`] begin with a release fence: the entries that
//!   the value speaks of were written before. On x86-64 stores are not reordered with later stores to
//!   uncached or write-back memory, so the fence binds the compiler alone; on aarch64 it is a barrier of the
//!   inner shareable domain, which is the one that a coherent PCIe root complex is in.
//! - **Doorbell before memory.** Where a later load must not pass the store (the park word, the look after
//!   arming), the caller puts a full fence between: see [`crate::ring`]. Nothing here does.
//! - **Mapped before trapped.** A store to a mapped page and a later trapped access (`pwrite`, a message) reach the chip
//!   in that order: posted writes of one requester to one function are not reordered (PCI Express Base
//!   Specification 6.0, section 2.4.1), and a read pushes them ahead of itself. A simulator looks at all doorbells before it
//!   answers a trapped access. The store itself leaves the processor before the system call does, because a
//!   full fence stands between them wherever a KICK follows a doorbell.

#![allow(
    unsafe_code,
    reason = "BARs can only be reached through mapped addresses"
)]

mod fault;
mod register;

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use auk_asic::{PAGE, doorbell};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::{SFlag, fstat};

pub use fault::install as install_sigbus_handler;
pub use register::RegisterError;

use crate::bus::{BusError, RegionInfo};

/// A part of a BAR, mapped for reading and writing until it is dropped.
#[derive(Debug)]
pub struct Window {
    base: NonNull<u8>,
    length: usize,
    range: &'static fault::Range,
}

// SAFETY: the mapping belongs to no thread, and all access to it is volatile and naturally aligned.
unsafe impl Send for Window {}
// SAFETY: as above; concurrent volatile accesses of one word are what the chip itself makes.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `length` bytes from `offset` of a region, both multiples of the page.
    ///
    /// # Errors
    /// [`BusError::NoRegion`] when no mappable area of the region covers them, or when what is behind the descriptor is
    /// shorter or can be cut short (an access beyond its end would kill this process with SIGBUS);
    /// [`BusError::System`] when the kernel refuses the mapping.
    pub fn map(index: u32, info: &RegionInfo, offset: u64, length: u64) -> Result<Self, BusError> {
        let refused = |problem| BusError::NoRegion { index, problem };
        let mappable = info.mmap.as_ref().ok_or_else(|| {
            refused("it cannot be mapped, and an I/O queue needs a mapped doorbell page")
        })?;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= info.size)
            .ok_or_else(|| refused("it ends before the page that was to be mapped"))?;
        let covered = mappable.areas.is_empty()
            || mappable.areas.iter().any(|area| {
                area.offset <= offset
                    && area
                        .offset
                        .checked_add(area.size)
                        .is_some_and(|area_end| end <= area_end)
            });
        if !covered {
            return Err(refused(
                "none of its mappable areas covers the page that was to be mapped",
            ));
        }
        let start = mappable
            .offset
            .checked_add(offset)
            .and_then(|start| libc::off_t::try_from(start).ok())
            .ok_or_else(|| {
                refused("its offset in the descriptor is beyond what a file can have")
            })?;
        let size = usize::try_from(length)
            .ok()
            .and_then(NonZeroUsize::new)
            .filter(|size| {
                size.get() % PAGE == 0
                    && offset.is_multiple_of(PAGE as u64)
                    && start % PAGE as libc::off_t == 0
            })
            .ok_or_else(|| refused("its mappable area is not made of pages"))?;
        check_backing(&mappable.fd, start.unsigned_abs(), length, &refused)?;
        Self::over(mappable.fd.as_fd(), start, size).map_err(|errno| BusError::System {
            what: "mapping a BAR",
            source: errno.into(),
        })
    }

    fn over(fd: impl AsFd, start: libc::off_t, size: NonZeroUsize) -> Result<Self, Errno> {
        // SAFETY: no address is asked for, so the kernel chooses one that is free; nothing of this program is replaced.
        let base = unsafe {
            mmap(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                fd,
                start,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            length: size.get(),
            range: fault::Range::register(base.as_ptr() as usize, size.get()),
        })
    }

    /// Whether an access has found the BAR gone: what was stored since went nowhere. Only ever true with
    /// [`install_sigbus_handler`]; without it the process ended.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.range.is_lost()
    }

    /// Where a 32-bit register is.
    ///
    /// # Safety
    /// `offset` is a multiple of 4 and below the length, which is a page at least.
    #[inline]
    unsafe fn register(&self, offset: usize) -> NonNull<u32> {
        // SAFETY: the sum is inside the mapping.
        unsafe { self.base.add(offset) }.cast()
    }

    /// Reads a 32-bit register.
    ///
    /// # Safety
    /// As for [`Window::register`].
    #[inline]
    unsafe fn read(&self, offset: usize) -> u32 {
        // SAFETY: the caller's.
        let register = unsafe { self.register(offset) };
        // SAFETY: the register lies in the mapping, which lives as long as `self`, and is aligned because the mapping
        // begins at a page.
        unsafe { register.read_volatile() }
    }

    /// Writes a 32-bit register.
    ///
    /// # Safety
    /// As for [`Window::register`].
    #[inline]
    unsafe fn write(&self, offset: usize, value: u32) {
        // SAFETY: the caller's.
        let register = unsafe { self.register(offset) };
        // SAFETY: as when reading.
        unsafe { register.write_volatile(value) };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.range.unregister();
        // SAFETY: the range is exactly what `map` got, and no pointer into it outlives `self`.
        let result = unsafe { munmap(self.base.cast::<c_void>(), self.length) };
        if let Err(errno) = result {
            tracing::error!(%errno, "unmapping a BAR");
        }
    }
}

/// A regular file or a memfd must be long enough and sealed against shrinking; a VFIO descriptor is neither, and its
/// mappings fault into the kernel's care.
fn check_backing(
    fd: impl AsFd,
    start: u64,
    length: u64,
    refused: &dyn Fn(&'static str) -> BusError,
) -> Result<(), BusError> {
    let found = fstat(fd.as_fd()).map_err(|errno| BusError::System {
        what: "looking at the descriptor of a BAR",
        source: errno.into(),
    })?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Ok(());
    }
    let size = u64::try_from(found.st_size).unwrap_or(0);
    if start.checked_add(length).is_none_or(|end| end > size) {
        return Err(refused("the memory behind it is shorter than it says"));
    }
    match fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS) {
        Ok(seals) if seals & SealFlag::F_SEAL_SHRINK.bits() != 0 => Ok(()),
        _ => Err(refused(
            "the memory behind it is not sealed against shrinking",
        )),
    }
}

const SQ_TAIL: usize = doorbell::SQ_TAIL.offset as usize;
const CQ_ARM: usize = doorbell::CQ_ARM.offset as usize;
const _: () = assert!(
    SQ_TAIL < PAGE && SQ_TAIL.is_multiple_of(4) && CQ_ARM < PAGE && CQ_ARM.is_multiple_of(4)
);

/// The doorbell page of one queue.
#[derive(Clone, Debug)]
pub struct Doorbell {
    page: Arc<Window>,
}

impl Doorbell {
    /// The doorbell whose page is all of `page`.
    #[must_use]
    pub fn new(page: Window) -> Self {
        Self {
            page: Arc::new(page),
        }
    }

    /// Whether its page is gone, as [`Window::is_lost`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.page.is_lost()
    }

    /// Tells the chip how many entries have been written. All earlier writes to the ring are visible first.
    #[inline]
    pub fn ring(&self, tail: u32) {
        fence(Ordering::Release);
        // SAFETY: `SQ_TAIL` is where the assertion above says.
        unsafe { self.page.write(SQ_TAIL, tail) };
    }

    /// Writes the arming word. All earlier reads of the ring are done first.
    #[inline]
    pub fn arm(&self, arm: doorbell::Arm) {
        fence(Ordering::Release);
        // SAFETY: `CQ_ARM` is where the assertion above says.
        unsafe { self.page.write(CQ_ARM, arm.into_bits()) };
    }
}

#[cfg(test)]
impl Window {
    /// Takes it out of the handler's care.
    fn forgotten(&self) {
        self.range.unregister();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{MmapArea, RegionMmap};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;

    pub(super) fn region(bytes: u64, claimed: u64, sealed: bool) -> (File, RegionInfo) {
        let fd: OwnedFd =
            memfd_create("bar", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
        let file = File::from(fd);
        file.set_len(bytes).unwrap();
        if sealed {
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        }
        let info = RegionInfo {
            size: claimed,
            readable: true,
            writable: true,
            mmap: Some(RegionMmap {
                fd: Arc::new(file.try_clone().unwrap().into()),
                offset: 0,
                areas: vec![MmapArea {
                    offset: 0,
                    size: claimed,
                }],
            }),
        };
        (file, info)
    }

    #[test]
    fn a_doorbell_writes_its_two_words_and_nothing_else() {
        let (file, info) = region(8192, 8192, true);
        let doorbell = Doorbell::new(Window::map(0, &info, 4096, 4096).unwrap());
        doorbell.ring(7);
        doorbell.arm(doorbell::Arm::new().with_consumed(3).with_armed(true));
        let mut bytes = vec![0; 8192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words[1024], 7);
        assert_eq!(words[1024 + 16], 3 | 1 << 31);
        assert_eq!(words.iter().filter(|word| **word != 0).count(), 2);
    }

    #[test]
    fn memory_that_is_shorter_than_its_region_is_not_mapped() {
        let (_file, info) = region(4096, 8192, true);
        assert!(matches!(
            Window::map(0, &info, 4096, 4096),
            Err(BusError::NoRegion { .. })
        ));
    }

    #[test]
    fn memory_that_can_be_cut_short_is_not_mapped() {
        let (_file, info) = region(8192, 8192, false);
        assert!(matches!(
            Window::map(0, &info, 0, 4096),
            Err(BusError::NoRegion { .. })
        ));
    }

    #[test]
    fn pages_outside_the_mappable_areas_are_not_mapped() {
        let (_file, mut info) = region(8192, 8192, true);
        if let Some(mmap) = &mut info.mmap {
            mmap.areas = vec![MmapArea {
                offset: 4096,
                size: 4096,
            }];
        }
        assert!(Window::map(0, &info, 4096, 4096).is_ok());
        for (offset, length) in [(0, 4096), (4096, 8192), (u64::MAX - 4095, 4096), (4096, 0)] {
            assert!(
                Window::map(0, &info, offset, length).is_err(),
                "{offset:#x}"
            );
        }
    }
}
