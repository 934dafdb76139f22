//! The ring that the driver writes and the chip reads.

use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::submission::Submission;

/// 64-bit words of an entry.
const WORDS: usize = Submission::SIZE / size_of::<u64>();

/// The driver's index into a submission ring.
#[derive(Debug)]
pub struct SubmissionRing {
    mask: u32,
    tail: u32,
}

impl SubmissionRing {
    /// Bytes of a ring of this depth.
    #[must_use]
    pub const fn bytes(depth_log2: u8) -> usize {
        Submission::SIZE << depth_log2
    }

    /// An empty ring.
    #[must_use]
    pub const fn new(depth_log2: u8) -> Self {
        Self {
            mask: (1 << depth_log2) - 1,
            tail: 0,
        }
    }

    /// Entries written since the queue was made, modulo 2^32: the doorbell's next value.
    #[inline]
    #[must_use]
    pub const fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes the next entry. The caller has seen to it that the chip is done with the one that lies there: no more
    /// commands are in flight than the ring is deep.
    #[inline]
    pub fn write(&mut self, memory: &[AtomicU64], entry: &Submission) {
        let words: [u64; WORDS] = zerocopy::transmute!(*entry);
        let (entries, _) = memory.as_chunks::<WORDS>();
        if let Some(place) = entries.get((self.tail & self.mask) as usize) {
            // The doorbell's release fence publishes them.
            for (to, word) in place.iter().zip(words) {
                to.store(word, Ordering::Relaxed);
            }
        }
        self.tail = self.tail.wrapping_add(1);
    }
}
