//! A word of shared memory.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dma::prefetch;

/// A 64-bit word that the chip reads and writes as well; one of the model checker's in its tests.
pub trait Word {
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
    /// Says that what is so many bytes after it will be read soon.
    #[inline]
    fn prefetch_for_reading<const AHEAD: usize>(&self) {}
    /// Says that what is so many bytes after it will be written soon.
    #[inline]
    fn prefetch_for_writing<const AHEAD: usize>(&self) {}
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        Self::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        Self::store(self, value, order);
    }

    #[inline]
    fn prefetch_for_reading<const AHEAD: usize>(&self) {
        prefetch::for_reading::<AHEAD>(self);
    }

    #[inline]
    fn prefetch_for_writing<const AHEAD: usize>(&self) {
        prefetch::for_writing::<AHEAD>(self);
    }
}
