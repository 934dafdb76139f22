//! An IOVA space that many functions share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::Layout;
use super::pool::{Piece, Pool, Size};
use super::{DmaBuffer, DmaError, SpaceOptions};

/// Most bytes of one buffer: what a process of x86-64 can map.
pub(super) const MOST_BYTES: u64 = 1 << 47;

/// Memory for DMA that is at the same IOVA for all attached functions. Clones are the same space.
#[derive(Clone, Debug)]
pub struct DmaSpace {
    pub(super) inner: Arc<SpaceInner>,
}

/// What a space has given out, and what it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaUsage {
    /// Mappings that exist, over all functions.
    pub mappings: u64,
    /// Mappings that can still be made, on the bus that allows the fewest; `None` where no bus has a limit, or says what it is.
    pub mappings_left: Option<u64>,
    /// Bytes mapped of the space's own memory.
    pub mapped: u64,
    /// Of these, bytes in huge pages.
    pub huge: u64,
    /// Bytes in buffers that live, as they were rounded up: to a power of two from 64 on, or to whole pages.
    pub used: u64,
    /// Bytes mapped of memory that was registered.
    pub registered: u64,
    /// Bytes that were given up because a chip might still write them: it could not be reset, or unmapping them failed.
    pub leaked: u64,
    /// Pieces that the free pages of mapped memory are in.
    pub free_pieces: u64,
    /// Pieces that the free IOVAs are in.
    pub free_iova_pieces: u64,
}

#[derive(Debug)]
pub(super) struct SpaceInner {
    /// Changes of what is mapped where. Held while mapping, never while a buffer comes from mapped memory.
    layout: Mutex<Layout>,
    /// Taken after `layout` where both are, and never while anything waits.
    pool: Mutex<Pool>,
    pub(super) leaked: AtomicU64,
    pub(super) options: SpaceOptions,
    pub(super) told: Told,
}

/// What has been said in the log, and is not said again.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Memory is of ordinary pages.
    pub(super) ordinary: AtomicBool,
    /// Few mappings are left; forgotten when there are more again.
    pub(super) few_mappings: AtomicBool,
    /// Memory is not placed near the chips.
    pub(super) placement: AtomicBool,
}

impl Default for DmaSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl DmaSpace {
    /// A space with nothing attached; buffers may be allocated before and after functions are. Its memory is of huge pages
    /// where the host has some free, and next to the chips that are attached when it is mapped.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&SpaceOptions::default())
    }

    /// The same, with a say about its memory.
    #[must_use]
    pub fn with(options: &SpaceOptions) -> Self {
        Self {
            inner: Arc::new(SpaceInner {
                layout: Mutex::default(),
                pool: Mutex::default(),
                leaked: AtomicU64::new(0),
                options: *options,
                told: Told::default(),
            }),
        }
    }

    /// `length` zero bytes that all attached functions can reach. Up to half a page they begin at a multiple of their length, rounded
    /// up to a power of two from 64 on, and share no cache line with another buffer; longer ones have pages of their own.
    ///
    /// # Errors
    /// [`DmaError`]: no memory, no IOVA, no mapping left, or the bus refused.
    pub fn alloc(&self, length: usize) -> Result<DmaBuffer, DmaError> {
        let asked = length as u64;
        if asked == 0 || asked > MOST_BYTES {
            return Err(DmaError::Length { length: asked });
        }
        if let Some(buffer) = self.take_mapped(asked) {
            return Ok(buffer);
        }
        let mut layout = self.inner.layout();
        // Another thread may have mapped more while this one waited for its turn.
        if let Some(buffer) = self.take_mapped(asked) {
            return Ok(buffer);
        }
        if self.inner.pool().abandoned_bytes > 0 {
            // Unmapped, what lost chips may still write is in nobody's way.
            self.inner.trim(&mut layout);
        }
        match self.inner.grow(&mut layout, asked) {
            Err(error) if error.is_want() && self.inner.trim(&mut layout) => {
                self.inner.grow(&mut layout, asked)?;
            }
            other => other?,
        }
        // The pool's lock was let go, so that others may have been faster; then there is room for them too.
        loop {
            if let Some(buffer) = self.take_mapped(asked) {
                return Ok(buffer);
            }
            self.inner.grow(&mut layout, asked)?;
        }
    }

    fn take_mapped(&self, asked: u64) -> Option<DmaBuffer> {
        let (piece, stale) = self.inner.pool().take(asked)?;
        Some(DmaBuffer::new(self, piece, asked, stale))
    }

    /// Unmaps the memory in which no buffer is left.
    pub fn trim(&self) {
        let mut layout = self.inner.layout();
        self.inner.trim(&mut layout);
    }

    /// What there is. Each bus is asked how many mappings it allows.
    #[must_use]
    pub fn usage(&self) -> DmaUsage {
        let layout = self.inner.layout();
        let pool = self.inner.pool();
        DmaUsage {
            mappings: layout.mappings(),
            mappings_left: layout.mappings_left().unwrap_or(None),
            mapped: pool.mapped,
            huge: pool.huge,
            used: pool.used,
            registered: layout.registered,
            leaked: self.inner.leaked.load(Ordering::Relaxed) + pool.abandoned_bytes,
            free_pieces: pool.pieces() as u64,
            free_iova_pieces: layout.iova.count() as u64,
        }
    }
}

impl SpaceInner {
    pub(super) fn layout(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is right between any two of its operations, so that a panic elsewhere does not spoil it.
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what a buffer had.
    pub(super) fn give(&self, piece: &Piece) {
        self.pool().give(piece);
    }

    /// Takes back what a buffer had, and a chip may still write. Its pages go to the kernel, its IOVAs to nobody.
    pub(super) fn abandon(&self, piece: &Piece) {
        if let Size::Pages(bytes) = piece.size {
            piece.arena.discard(piece.iova, bytes);
        }
        self.pool().abandon(piece);
    }

    /// Unmaps the arenas that nobody uses. Whether there were any.
    fn trim(&self, layout: &mut Layout) -> bool {
        // Out of the pool first, so that no other thread takes a buffer from an arena that goes away.
        let unused = self.pool().take_unused();
        for arena in &unused {
            self.unmap(layout, arena);
        }
        !unused.is_empty()
    }
}

impl Drop for SpaceInner {
    /// Every buffer holds its space, so none is left; what is still attached loses the memory before it goes.
    fn drop(&mut self) {
        let arenas = self.pool().take_all();
        let mut layout = self.layout();
        for arena in arenas.values() {
            self.unmap(&mut layout, arena);
        }
    }
}
