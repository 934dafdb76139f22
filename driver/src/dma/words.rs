//! Words of a buffer that a hot path looks at: where they are is found once, not by way of buffer, arena and memory each time.

#![allow(
    unsafe_code,
    reason = "a slice that lives as long as the buffer it is kept with"
)]

use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::DmaBuffer;

/// Words of a buffer, which they keep alive.
#[derive(Debug)]
pub(crate) struct Words {
    words: NonNull<[AtomicU64]>,
    _buffer: DmaBuffer,
}

// SAFETY: it is a buffer, and a place in it; atomic words may be used from any thread.
unsafe impl Send for Words {}
// SAFETY: as for `Send`.
unsafe impl Sync for Words {}

impl DmaBuffer {
    /// Words `range` of the buffer; none of them where it has fewer.
    pub(crate) fn part(&self, range: Range<usize>) -> Words {
        let words = self.words().get(range).unwrap_or_default();
        Words {
            words: NonNull::from(words),
            _buffer: self.clone(),
        }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the words are the buffer's, whose memory stays mapped and in its place while a handle of it is there; all
        // that anybody does with them is atomic.
        unsafe { self.words.as_ref() }
    }
}
