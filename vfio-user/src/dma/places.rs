//! Rings in client memory.
#![allow(
    unsafe_code,
    reason = "a place in mapped memory, kept beside what keeps it mapped, has no safe representation"
)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Held;
use crate::memory::OutOfBounds;

/// Entries of `N` double words each in client memory, which stays mapped until this is dropped.
///
/// The client may change them at any moment, so that each word is read once and written whole.
#[derive(Debug)]
pub struct Places<const N: usize> {
    words: NonNull<[[AtomicU64; N]]>,
    writable: bool,
    _held: Held,
}

// SAFETY: it is memory that is held, and a place in it; atomic words may be used from any thread.
unsafe impl<const N: usize> Send for Places<N> {}
// SAFETY: as for `Send`.
unsafe impl<const N: usize> Sync for Places<N> {}

impl<const N: usize> Places<N> {
    /// The first `count` entries from where the memory is held on.
    ///
    /// # Errors
    /// [`OutOfBounds`] where they are not all in the mapping, or not aligned to double words.
    pub fn new(held: Held, count: usize) -> Result<Self, OutOfBounds> {
        let (memory, offset) = held.memory();
        let words = memory.words(offset, count.saturating_mul(N))?;
        let (places, _) = words.as_chunks();
        Ok(Self {
            words: NonNull::from(places),
            writable: memory.is_writable(),
            _held: held,
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&[AtomicU64; N]> {
        // SAFETY: the words are of memory that is held and so stays mapped and in its place; all that anybody does with them is
        // atomic.
        unsafe { self.words.as_ref() }.get(index)
    }

    /// Reads an entry. What a word elsewhere, which was loaded before, tells of is in it.
    #[must_use]
    #[inline]
    pub fn load(&self, index: usize) -> Option<[u64; N]> {
        let words = self.get(index)?;
        Some(std::array::from_fn(|word| {
            words[word].load(Ordering::Relaxed)
        }))
    }

    /// Says that an entry will be read soon.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(place) = self.get(index) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint about an address in the mapping; it reads nothing that a program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    /// Writes an entry; who loads its last word sees the others, and what was stored before (release). `None` where there is no such
    /// place, or the memory was mapped for reading only.
    #[inline]
    pub fn store(&self, index: usize, entry: [u64; N]) -> Option<()> {
        let words = self.get(index).filter(|_| self.writable)?;
        let (last, first) = words.split_last()?;
        for (word, value) in first.iter().zip(entry) {
            word.store(value, Ordering::Relaxed);
        }
        last.store(entry[N - 1], Ordering::Release);
        Some(())
    }
}
