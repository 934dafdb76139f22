//! The memory behind an arena: a memfd, mapped here, and shared with whoever gets its descriptor.
//!
//! Of huge pages where that is wanted and there are any: an IOMMU then needs an entry a huge page, and pinning is a
//! matter of a few pages instead of hundreds of thousands.

#![allow(unsafe_code, reason = "mapped memory is reached through raw addresses")]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use auk_asic::PAGE;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

/// Whether memory for DMA is to be of huge pages (`Documentation/admin-guide/mm/hugetlbpage.rst`): of 1 GiB where a
/// buffer is a multiple of that, else of 2 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Where the host has some free; ordinary pages otherwise.
    #[default]
    Prefer,
    /// Or else it is an error.
    Require,
    /// Not, even if there are some: they are for somebody else.
    Never,
}

/// The kinds of pages of x86-64, the largest first.
const HUGE: [(u64, MFdFlags); 2] = [
    (1 << 30, MFdFlags::MFD_HUGE_1GB),
    (2 << 20, MFdFlags::MFD_HUGE_2MB),
];

/// Zeroed shared memory of whole pages, mapped until it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<AtomicU64>,
    bytes: NonZeroUsize,
    page: u64,
    fd: OwnedFd,
}

// SAFETY: the mapping belongs to no thread and is only ever seen as atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` zeroes, a multiple of the page.
    pub(super) fn new(bytes: u64, huge: HugePages) -> io::Result<Self> {
        let mut refused = None;
        if huge != HugePages::Never {
            for (page, kind) in HUGE {
                if !bytes.is_multiple_of(page) {
                    continue;
                }
                match Self::of(bytes, page, MFdFlags::MFD_HUGETLB | kind) {
                    Ok(memory) => return Ok(memory),
                    Err(error) => refused = Some(error),
                }
            }
        }
        if huge == HugePages::Require {
            return Err(refused.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()));
        }
        Self::of(bytes, PAGE as u64, MFdFlags::empty())
    }

    /// The descriptor is sealed: its size is fixed, so that a peer that maps it can rely on it.
    fn of(bytes: u64, page: u64, kind: MFdFlags) -> io::Result<Self> {
        let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let bytes = usize::try_from(bytes)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | kind;
        let fd = memfd_create("auk-dma", flags)?;
        ftruncate(&fd, length)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        // SAFETY: no address is asked for, so the kernel chooses one that is free; nothing of this program is replaced.
        let base = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &fd,
                0,
            )
        }?;
        let memory = Self {
            base: base.cast(),
            bytes,
            page,
            fd,
        };
        if page > PAGE as u64 {
            memory.populate()?;
        }
        Ok(memory)
    }

    /// Has every page there now. `mmap` reserved them, but a cgroup's limit is only met when a page is taken, and then
    /// by SIGBUS.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; the advice changes nothing of what it holds.
        let advised = unsafe {
            libc::madvise(
                self.base.as_ptr().cast(),
                self.bytes.get(),
                libc::MADV_POPULATE_WRITE,
            )
        };
        match Errno::result(advised) {
            // Linux before 5.14 does not know it.
            Ok(_) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Bytes of one of its pages.
    pub(super) const fn page(&self) -> u64 {
        self.page
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get() as u64
    }

    pub(super) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// All of it. The chip writes the words as another thread of this process would.
    pub(super) fn words(&self) -> &[AtomicU64] {
        let count = self.bytes.get() / size_of::<AtomicU64>();
        // SAFETY: the mapping is `bytes` long, begins at a page and lives as long as `self`; its contents are initialised
        // (a memfd reads as zeroes) and are valid for atomics whatever they are.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), count) }
    }

    /// Bytes `offset..offset + length` as a plain slice.
    ///
    /// # Safety
    /// The range lies in the memory, and nobody writes it while the slice lives: no chip, no peer, no thread.
    pub(super) unsafe fn slice(&self, offset: usize, length: usize) -> &[u8] {
        // SAFETY: the caller says that the range lies in the mapping.
        let start = unsafe { self.base.cast::<u8>().add(offset) };
        // SAFETY: the range is mapped and initialised, and the caller says that nobody writes it.
        unsafe { slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Bytes `offset..offset + length` as a plain mutable slice.
    ///
    /// # Safety
    /// The range lies in the memory, and nobody else reads or writes it while the slice lives: no chip, no peer, no thread,
    /// no other slice.
    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is shared; the caller promises to be alone"
    )]
    pub(super) unsafe fn slice_mut(&self, offset: usize, length: usize) -> &mut [u8] {
        // SAFETY: the caller says that the range lies in the mapping.
        let start = unsafe { self.base.cast::<u8>().add(offset) };
        // SAFETY: the range is mapped and initialised, and the caller says that nobody else uses it.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `new` got, and no reference into it outlives `self`.
        let result = unsafe { munmap(self.base.cast::<c_void>(), self.bytes.get()) };
        if let Err(errno) = result {
            tracing::error!(%errno, "unmapping DMA memory");
        }
    }
}
