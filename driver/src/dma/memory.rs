//! The memory behind an arena: a memfd, mapped here, and shared with whoever gets its descriptor; or what the job has already.

#![allow(unsafe_code, reason = "mapped memory is reached through raw addresses")]

use std::any::Any;
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use auk_asic::PAGE;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::numa;

/// Shared memory of whole pages, which is there until this is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<AtomicU64>,
    bytes: NonZeroUsize,
    page: u64,
    backing: Backing,
}

/// What keeps the memory there.
enum Backing {
    /// A file, mapped here from this offset on.
    File { fd: Arc<OwnedFd>, offset: u64 },
    /// Somebody else, who is told by this being dropped.
    Lent(#[allow(dead_code, reason = "it is kept for being dropped")] Box<dyn Any + Send + Sync>),
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { fd, offset } => write!(f, "File({fd:?} from {offset} on)"),
            Self::Lent(_) => f.write_str("Lent"),
        }
    }
}

// SAFETY: the memory belongs to no thread and is only ever seen as atomics.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` zeroes in pages of `page` bytes, of a memfd of its own that is sealed: its size is fixed, so that a peer that maps it
    /// can rely on it. Near the NUMA nodes; if the kernel does not do that it is the second of what is returned.
    pub(super) fn new(
        bytes: u64,
        page: u64,
        nodes: &[u32],
    ) -> Result<(Self, Option<Errno>), Errno> {
        let length = libc::off_t::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
        let huge = page > PAGE as u64;
        let kind = match page.trailing_zeros() {
            30 => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_1GB,
            21 => MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB,
            _ => MFdFlags::empty(),
        };
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | kind;
        let fd = memfd_create("auk-dma", flags)?;
        ftruncate(&fd, length)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let memory = Self::map(Arc::new(fd), 0, bytes, page)?;
        let (start, length) = (memory.base.cast(), memory.bytes.get());
        let placed = match nodes {
            [] => Ok(()),
            // SAFETY: the range is the mapping that was just made.
            nodes => unsafe { numa::prefer(start, length, nodes) },
        };
        if huge {
            // mmap reserved the pages, but a cgroup's limit is only met when a page is taken, and then by SIGBUS.
            // SAFETY: the range is the mapping that was just made.
            unsafe { populate(start, length) }?;
        }
        Ok((memory, placed.err()))
    }

    /// Bytes `offset..offset + bytes` of a file with pages of `page` bytes, which is as long and does not get shorter.
    pub(super) fn map(fd: Arc<OwnedFd>, offset: u64, bytes: u64, page: u64) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or(Errno::ENOMEM)?;
        let start = libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: no address is asked for, so the kernel chooses one that is free; nothing of this program is replaced.
        let base = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &*fd,
                start,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            bytes,
            page,
            backing: Backing::File { fd, offset },
        })
    }

    /// Memory of somebody else's, whole pages. It is looked at once, so that what is not there is an error now.
    ///
    /// # Safety
    /// It stays mapped until `owner` is dropped, and while it does is changed by nobody but in ways that go with atomic accesses.
    pub(super) unsafe fn lent(
        base: NonNull<u8>,
        bytes: NonZeroUsize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, Errno> {
        // SAFETY: the caller says that the range is mapped.
        unsafe { populate(base.cast(), bytes.get()) }?;
        Ok(Self {
            base: base.cast(),
            bytes,
            page: PAGE as u64,
            backing: Backing::Lent(owner),
        })
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

    /// The file that it is of and where in it, if it is of one.
    pub(super) fn file(&self) -> Option<(&Arc<OwnedFd>, u64)> {
        match &self.backing {
            Backing::File { fd, offset } => Some((fd, *offset)),
            Backing::Lent(_) => None,
        }
    }

    /// Frees the pages of a range of a file; whoever looks at them again finds zeroes.
    pub(super) fn discard(&self, offset: u64, bytes: u64) -> Result<(), Errno> {
        let Backing::File { fd, offset: start } = &self.backing else {
            return Err(Errno::EOPNOTSUPP);
        };
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let wide = |number| libc::off_t::try_from(number).map_err(|_| Errno::EOVERFLOW);
        fallocate(fd, hole, wide(start + offset)?, wide(bytes)?)
    }

    /// All of it. The chip writes the words as another thread of this process would.
    pub(super) fn words(&self) -> &[AtomicU64] {
        let count = self.bytes.get() / size_of::<AtomicU64>();
        // SAFETY: the memory is `bytes` long, begins at a page and lives as long as `self`; its contents are initialised
        // (what nobody wrote reads as zeroes) and are valid for atomics whatever they are.
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
        if let Backing::Lent(_) = self.backing {
            return;
        }
        // SAFETY: the range is exactly what `map` got, and no reference into it outlives `self`.
        let result = unsafe { munmap(self.base.cast::<c_void>(), self.bytes.get()) };
        if let Err(errno) = result {
            tracing::error!(%errno, "unmapping DMA memory");
        }
    }
}

/// Has every page of a mapping there now, writable.
///
/// # Safety
/// The range is mapped.
unsafe fn populate(base: NonNull<c_void>, bytes: usize) -> Result<(), Errno> {
    let advise = |length| {
        // SAFETY: the caller says that the range is mapped; the advice changes nothing of what it holds.
        let advised = unsafe { libc::madvise(base.as_ptr(), length, libc::MADV_POPULATE_WRITE) };
        Errno::result(advised).map(drop)
    };
    match advise(bytes) {
        // Linux before 5.14 does not know it, and says so of no bytes too; a later one, that these pages are not to be written.
        Err(Errno::EINVAL) if advise(0).is_err() => Ok(()),
        other => other,
    }
}
