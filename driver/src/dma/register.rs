//! Memory that the job has already.

#![allow(
    unsafe_code,
    reason = "memory that somebody else owns is registered by unsafe functions"
)]

use std::any::Any;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use auk_asic::PAGE;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use super::arena::{Arena, LEAST};
use super::error::RegisterError;
use super::grow::take_iova;
use super::memory::Memory;
use super::space::{MOST_BYTES, SpaceInner};
use super::{DmaBuffer, DmaError, DmaSpace, limits};

impl DmaSpace {
    /// Lets the attached functions reach `length` bytes of this process's memory, without a copy. `owner` is whatever keeps the memory
    /// mapped (a `Vec`, an `Arc` of a mapping, `()` for what always is): it is dropped once no handle and no command has the buffer any
    /// more and every function was unmapped, and never if one could not be.
    ///
    /// Kernel VFIO takes any memory of whole pages. A simulator maps what it is to reach, and can only do so by a descriptor:
    /// [`DmaSpace::register_file`].
    ///
    /// Dropping the last handle unmaps the memory, which is a call to the bus.
    ///
    /// # Safety
    /// Until `owner` is dropped
    /// - the memory stays mapped at `memory`, readable and writable, and initialised;
    /// - the job has references to it only while nothing writes it through the buffer, and mutable ones only while nothing uses the buffer
    ///   at all: neither a command in flight nor a method of a handle;
    /// - the chips of this space are trusted to touch nothing that they were not asked to.
    ///
    /// # Errors
    /// [`DmaError::Register`] with the reason; [`DmaError::Bus`] with [`BusError::NoDescriptor`](crate::bus::BusError::NoDescriptor)
    /// where a simulator is attached; and as for [`DmaSpace::alloc`]. `owner` is then dropped.
    pub unsafe fn register(
        &self,
        memory: NonNull<u8>,
        length: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<DmaBuffer, DmaError> {
        let address = memory.as_ptr() as u64;
        let bytes = length as u64;
        let place = || format!("address {address:#x}");
        let wrong = |source| failed(place(), bytes, source);
        check_pages("address", address, bytes, PAGE as u64).map_err(wrong)?;
        let size = NonZeroUsize::new(length).ok_or_else(|| wrong(RegisterError::Length))?;
        // SAFETY: the caller says that it is mapped while `owner` lives, and how it is used meanwhile.
        let memory = unsafe { Memory::lent(memory, size, Box::new(owner)) };
        let memory = memory.map_err(|errno| {
            wrong(RegisterError::NotMapped {
                source: errno.into(),
            })
        })?;
        let range = (Place::ADDRESSES, address, bytes);
        self.add_registered(memory, range, wrong)
    }

    /// Lets the attached functions reach bytes `offset..offset + length` of a file in memory, without a copy: a memfd, also one of huge
    /// pages, that is sealed against shrinking. Every bus takes it. The buffer is one more mapping of the file in this process; the
    /// job's own show the same bytes.
    ///
    /// Dropping the last handle unmaps the memory, which is a call to the bus. If that fails, or nobody is left to ask,
    /// [`DmaUsage::leaked`](super::DmaUsage::leaked) counts the bytes: somebody may still write them.
    ///
    /// # Safety
    /// Until the buffer and every command that names it are gone
    /// - whoever has that part of the file mapped has references to it only while nothing writes it through the buffer, and mutable ones
    ///   only while nothing uses the buffer at all: neither a command in flight nor a method of a handle;
    /// - the chips of this space are trusted to touch nothing that they were not asked to.
    ///
    /// # Errors
    /// [`DmaError::Register`] with the reason; and as for [`DmaSpace::alloc`].
    pub unsafe fn register_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
    ) -> Result<DmaBuffer, DmaError> {
        let wrong = |source| failed(format!("offset {offset:#x} of a file"), length, source);
        let page = check_file(file, offset, length).map_err(wrong)?;
        let descriptor = |source| wrong(RegisterError::Descriptor { source });
        let place = Place::of(file).map_err(|errno| descriptor(errno.into()))?;
        let fd = self.inner.layout().places.descriptor(place, file);
        let fd = fd.map_err(|errno| limits::refused(length, errno))?;
        let memory = Memory::map(fd, offset, length, page).map_err(|errno| match errno {
            Errno::ENOMEM | Errno::EMFILE => limits::refused(length, errno),
            errno => descriptor(errno.into()),
        })?;
        self.add_registered(memory, (place, offset, length), wrong)
    }

    #[allow(
        clippy::needless_late_init,
        reason = "what is declared first goes last, after the lock: an owner's end may be anything"
    )]
    fn add_registered(
        &self,
        memory: Memory,
        (place, start, bytes): (Place, u64, u64),
        wrong: impl FnOnce(RegisterError) -> DmaError,
    ) -> Result<DmaBuffer, DmaError> {
        let arena;
        let layout = &mut *self.inner.layout();
        if let Some(found) = layout.places.find(place, start, bytes) {
            return Err(wrong(found));
        }
        self.inner.check_budget(layout)?;
        // Where an address is aligned, its IOVA is too, so that an IOMMU can use its largest pages.
        let skew = memory.address() as u64 % LEAST;
        let iova = if bytes < LEAST {
            take_iova(layout, bytes, PAGE as u64)?
        } else {
            let first = take_iova(layout, skew + bytes, LEAST)?;
            layout.iova.give(first, skew, &(0..=u64::MAX));
            first + skew
        };
        arena = Arc::new(Arena::new(iova, memory, false));
        self.inner.map(layout, &arena)?;
        layout.registered += bytes;
        Ok(DmaBuffer::registered(self, Arc::clone(&arena)))
    }
}

impl SpaceInner {
    /// Nobody has the registered memory any more.
    pub(super) fn unregister(&self, arena: &Arc<Arena>) {
        let layout = &mut *self.layout();
        layout.registered -= arena.bytes();
        self.unmap(layout, arena);
    }
}

fn failed(place: String, length: u64, source: RegisterError) -> DmaError {
    DmaError::Register {
        place,
        length,
        source,
    }
}

/// That a range is of whole pages, and of an address space.
fn check_pages(
    what: &'static str,
    start: u64,
    length: u64,
    align: u64,
) -> Result<(), RegisterError> {
    for (what, value) in [(what, start), ("length", length)] {
        if !value.is_multiple_of(align) {
            return Err(RegisterError::Unaligned { what, align });
        }
    }
    let in_reach = start.checked_add(length).is_some() && length <= MOST_BYTES;
    if length == 0 || !in_reach {
        return Err(RegisterError::Length);
    }
    Ok(())
}

/// The size of a file's pages, if this part of it is there and stays so.
fn check_file(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<u64, RegisterError> {
    let descriptor = |errno: Errno| RegisterError::Descriptor {
        source: errno.into(),
    };
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(RegisterError::MayShrink);
    }
    let system = fstatfs(file).map_err(descriptor)?;
    let page = if system.filesystem_type() == HUGETLBFS_MAGIC {
        system.block_size() as u64
    } else {
        PAGE as u64
    };
    check_pages("offset", offset, length, page)?;
    let size = fstat(file).map_err(descriptor)?.st_size.unsigned_abs();
    if offset + length > size {
        return Err(RegisterError::TooShort { size });
    }
    Ok(page)
}

/// What a range is of: the process's addresses, or a file, by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64, u64);

impl Place {
    /// No file is of device 0 and inode 0.
    const ADDRESSES: Self = Self(0, 0);

    fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let found = fstat(file)?;
        Ok(Self(found.st_dev, found.st_ino))
    }
}

/// Where the mapped memory is in the process and in files.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The last byte by place and first byte.
    ranges: BTreeMap<(Place, u64), u64>,
    /// One for each file that is registered, however many parts of it are.
    descriptors: BTreeMap<Place, Weak<OwnedFd>>,
}

impl Places {
    pub(super) fn add(&mut self, arena: &Arena) {
        self.ranges.extend(ranges(arena));
    }

    pub(super) fn remove(&mut self, arena: &Arena) {
        for (start, _) in ranges(arena) {
            self.ranges.remove(&start);
        }
    }

    /// A descriptor of the file to keep.
    fn descriptor(&mut self, place: Place, file: BorrowedFd<'_>) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(known) = self.descriptors.get(&place).and_then(Weak::upgrade) {
            return Ok(known);
        }
        self.descriptors.retain(|_, known| known.strong_count() > 0);
        let fd = file
            .try_clone_to_owned()
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
        let fd = Arc::new(fd);
        self.descriptors.insert(place, Arc::downgrade(&fd));
        Ok(fd)
    }

    /// The error, if something is there already.
    fn find(&self, place: Place, start: u64, length: u64) -> Option<RegisterError> {
        let asked_last = start + (length - 1);
        let before = self
            .ranges
            .range((place, 0)..=(place, asked_last))
            .next_back();
        let (&(_, start), &last) = before.filter(|(_, last)| **last >= start)?;
        Some(RegisterError::Overlaps { start, last })
    }
}

fn ranges(arena: &Arena) -> impl Iterator<Item = ((Place, u64), u64)> {
    let more = arena.bytes() - 1;
    let address = arena.memory.address() as u64;
    let file = arena.memory.file();
    let file = file.and_then(|(file, offset)| Some((Place::of(file.as_fd()).ok()?, offset)));
    [Some((Place::ADDRESSES, address)), file]
        .into_iter()
        .flatten()
        .map(move |(place, start)| ((place, start), start + more))
}
