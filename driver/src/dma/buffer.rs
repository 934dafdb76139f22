//! A buffer that chips can reach.

#![allow(
    unsafe_code,
    reason = "plain slices of memory that a chip shares are unsafe functions"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::arena::Arena;
use super::pool::{Piece, Size};
use super::{DmaError, DmaSpace, copy};

/// Memory that the functions attached to its space can read and write.
///
/// A clone is the same memory. It returns to the space when the last handle is gone, and every command that
/// names it holds a handle until the chip has proven to be done with it: to drop a buffer, or to leak it, while
/// a command runs is safe.
///
/// A chip may change the contents at any time, so safe access copies, and reads each word once.
#[derive(Clone, Debug)]
pub struct DmaBuffer {
    chunk: Arc<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// Before `space`, whose end would take the arena's mappings away.
    origin: Origin,
    space: DmaSpace,
    iova: u64,
    length: u64,
    /// Nobody is to have the memory after this.
    abandoned: AtomicBool,
}

/// What a buffer is made of.
#[derive(Debug)]
enum Origin {
    /// A piece of the space's own memory.
    Pool(Piece),
    /// Memory that was registered, all of it.
    Registered(Arc<Arena>),
}

impl Chunk {
    #[inline]
    fn arena(&self) -> &Arena {
        match &self.origin {
            Origin::Pool(piece) => &piece.arena,
            Origin::Registered(arena) => arena,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        match &self.origin {
            Origin::Pool(piece) if *self.abandoned.get_mut() => self.space.inner.abandon(piece),
            Origin::Pool(piece) => self.space.inner.give(piece),
            Origin::Registered(arena) => self.space.inner.unregister(arena),
        }
    }
}

impl DmaBuffer {
    /// A buffer whose first `stale` bytes are to be zeroed.
    pub(super) fn new(space: &DmaSpace, piece: Piece, length: u64, stale: u64) -> Self {
        let buffer = Self {
            chunk: Arc::new(Chunk {
                iova: piece.iova,
                origin: Origin::Pool(piece),
                space: space.clone(),
                length,
                abandoned: AtomicBool::new(false),
            }),
        };
        for word in &buffer.all_words()[..stale as usize / size_of::<u64>()] {
            word.store(0, Ordering::Relaxed);
        }
        buffer
    }

    /// All of what was registered.
    pub(super) fn registered(space: &DmaSpace, arena: Arc<Arena>) -> Self {
        Self {
            chunk: Arc::new(Chunk {
                iova: arena.iova,
                length: arena.bytes(),
                origin: Origin::Registered(arena),
                space: space.clone(),
                abandoned: AtomicBool::new(false),
            }),
        }
    }

    /// A chip may write it for ever: once the last handle is gone, nobody else gets the memory. What was registered is its owner's again
    /// once every bus has unmapped it, which proves more.
    pub(crate) fn abandon(&self) {
        self.chunk.abandoned.store(true, Ordering::Relaxed);
    }

    /// Bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.chunk.length as usize
    }

    /// Where the chips see it.
    #[must_use]
    #[inline]
    pub fn iova(&self) -> u64 {
        self.chunk.iova
    }

    /// Whether no other buffer has a byte in its pages: so it is from more than half a page on.
    #[must_use]
    pub fn has_own_pages(&self) -> bool {
        match &self.chunk.origin {
            Origin::Pool(piece) => matches!(piece.size, Size::Pages(_)),
            Origin::Registered(_) => true,
        }
    }

    /// The space it is from.
    #[must_use]
    pub fn space(&self) -> &DmaSpace {
        &self.chunk.space
    }

    /// Whether chips attached to `space` can reach it.
    #[must_use]
    #[inline]
    pub fn is_in(&self, space: &DmaSpace) -> bool {
        Arc::ptr_eq(&self.chunk.space.inner, &space.inner)
    }

    /// Copies `data.len()` bytes out, from `offset` on.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`].
    pub fn read(&self, offset: usize, data: &mut [u8]) -> Result<(), DmaError> {
        self.check(offset, data.len())?;
        copy::read(self.all_words(), offset, data);
        Ok(())
    }

    /// Copies `data` in, from `offset` on.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`].
    pub fn write(&self, offset: usize, data: &[u8]) -> Result<(), DmaError> {
        self.check(offset, data.len())?;
        copy::write(self.all_words(), offset, data);
        Ok(())
    }

    /// A copy of `length` bytes from `offset` on.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`].
    pub fn to_vec(&self, offset: usize, length: usize) -> Result<Vec<u8>, DmaError> {
        self.check(offset, length)?;
        let mut data = vec![0; length];
        copy::read(self.all_words(), offset, &mut data);
        Ok(data)
    }

    /// A copy of the `T` at `offset`.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`].
    pub fn read_value<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, DmaError> {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies a value in at `offset`.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`].
    pub fn write_value<T: IntoBytes + Immutable + ?Sized>(
        &self,
        offset: usize,
        value: &T,
    ) -> Result<(), DmaError> {
        self.write(offset, value.as_bytes())
    }

    /// Sets every byte to 0.
    pub fn zero(&self) {
        for word in self.words() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The 64-bit word at `offset`, read with acquire ordering; for semaphores.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`], [`DmaError::Misaligned`].
    pub fn load(&self, offset: usize) -> Result<u64, DmaError> {
        Ok(u64::from_le(self.word(offset)?.load(Ordering::Acquire)))
    }

    /// Writes the 64-bit word at `offset` with release ordering; for semaphores.
    ///
    /// # Errors
    /// [`DmaError::OutOfBounds`], [`DmaError::Misaligned`].
    pub fn store(&self, offset: usize, value: u64) -> Result<(), DmaError> {
        self.word(offset)?.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    /// The contents as a plain slice.
    ///
    /// # Safety
    /// While the slice lives nobody writes the buffer: no other thread, and no chip of its space. The latter means
    /// that no command in flight has it as its output, and that the chip is trusted to write nothing it was not asked to.
    #[must_use]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: a chunk lies in its arena; the caller says that nobody writes it.
        unsafe { self.chunk.arena().memory.slice(self.offset(), self.len()) }
    }

    /// The contents as a plain mutable slice.
    ///
    /// # Safety
    /// While the slice lives nobody else reads or writes the buffer: no other thread, no other slice, and no chip of its
    /// space. The latter means that no command in flight names it, and that the chip is trusted to touch nothing it was
    /// not asked to.
    #[must_use]
    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is shared; the caller promises to be alone"
    )]
    pub unsafe fn as_mut_slice(&self) -> &mut [u8] {
        // SAFETY: a chunk lies in its arena; the caller says that nobody else uses it.
        unsafe {
            self.chunk
                .arena()
                .memory
                .slice_mut(self.offset(), self.len())
        }
    }

    /// Where in its arena it begins.
    #[inline]
    fn offset(&self) -> usize {
        (self.chunk.iova - self.chunk.arena().iova) as usize
    }

    /// The buffer as words, the last one perhaps partly beyond its length but inside what was rounded up for it.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        &self.all_words()[..self.len().div_ceil(size_of::<u64>())]
    }

    /// From the buffer's start to its arena's end; buffers begin at cache lines, so that offsets in both are aligned alike.
    #[inline]
    fn all_words(&self) -> &[AtomicU64] {
        &self.chunk.arena().memory.words()[self.offset() / size_of::<u64>()..]
    }

    fn word(&self, offset: usize) -> Result<&AtomicU64, DmaError> {
        self.check(offset, size_of::<u64>())?;
        if !offset.is_multiple_of(size_of::<u64>()) {
            return Err(DmaError::Misaligned {
                offset: offset as u64,
                align: size_of::<u64>() as u64,
            });
        }
        Ok(&self.words()[offset / size_of::<u64>()])
    }

    fn check(&self, offset: usize, length: usize) -> Result<(), DmaError> {
        if offset
            .checked_add(length)
            .is_some_and(|end| end <= self.len())
        {
            return Ok(());
        }
        Err(DmaError::OutOfBounds {
            offset: offset as u64,
            length: length as u64,
            size: self.chunk.length,
        })
    }
}
