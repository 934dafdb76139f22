//! Words of a buffer that a hot path looks at: where they are is found once, not by way of buffer, arena and memory each time.

#![allow(
    unsafe_code,
    reason = "a slice that lives as long as the buffer it is kept with"
)]

use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::DmaBuffer;

/// Words of a buffer, which they keep alive, in groups of `N`.
#[derive(Debug)]
pub(crate) struct Words<const N: usize> {
    words: NonNull<[[AtomicU64; N]]>,
    _buffer: DmaBuffer,
}

// SAFETY: it is a buffer, and a place in it; atomic words may be used from any thread.
unsafe impl<const N: usize> Send for Words<N> {}
// SAFETY: as for `Send`.
unsafe impl<const N: usize> Sync for Words<N> {}

impl DmaBuffer {
    /// Words `range` of the buffer, as far as they are whole groups; none of them where it has fewer.
    pub(crate) fn part<const N: usize>(&self, range: Range<usize>) -> Words<N> {
        let words = self.words().get(range).unwrap_or_default();
        let (groups, _) = words.as_chunks();
        Words {
            words: NonNull::from(groups),
            _buffer: self.clone(),
        }
    }
}

impl<const N: usize> Deref for Words<N> {
    type Target = [[AtomicU64; N]];

    #[inline]
    fn deref(&self) -> &[[AtomicU64; N]] {
        // SAFETY: the words are the buffer's, whose memory stays mapped and in its place while a handle of it is there; all
        // that anybody does with them is atomic.
        unsafe { self.words.as_ref() }
    }
}
