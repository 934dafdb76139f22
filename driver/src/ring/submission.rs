//! The ring that the driver writes and the chip reads.

use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::submission::Submission;

use super::{Word, place};

/// A place in the ring: the words of an entry.
pub type SubmissionPlace<W = AtomicU64> = [W; WORDS];
const WORDS: usize = Submission::SIZE / size_of::<u64>();

/// Entries between the one that is written and the one whose line is asked for meanwhile.
const AHEAD: usize = 8;

/// A submission entry as it is stored, but for its identifier.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionWords([u64; WORDS]);

/// The driver's index into a submission ring. The memory that it is given is the whole ring: a power of two places.
#[derive(Debug, Default)]
pub struct SubmissionRing {
    /// Not cut to 32 bits, so that a place in the ring needs no widening.
    tail: usize,
}

impl SubmissionRing {
    /// Bytes of a ring of this depth.
    #[must_use]
    pub const fn bytes(depth_log2: u8) -> usize {
        Submission::SIZE << depth_log2
    }

    /// Entries written since the queue was made, modulo 2^32: the doorbell's next value.
    #[inline]
    #[must_use]
    pub const fn tail(&self) -> u32 {
        self.tail as u32
    }

    /// Writes the next entry, under an identifier. The caller has seen to it that the chip is done with the one that lies
    /// there: no more commands are in flight than the ring is deep.
    #[inline]
    pub fn write<W: Word>(
        &mut self,
        memory: &[SubmissionPlace<W>],
        entry: &SubmissionWords,
        id: u16,
    ) {
        let tail = self.tail;
        if let Some(place) = memory.get(place(tail, memory)) {
            // The doorbell's release fence publishes them.
            let id = u64::from(id) << Submission::COMMAND_ID_SHIFT;
            place[0].store(entry.0[0] | id, Ordering::Relaxed);
            for (to, word) in place.iter().zip(&entry.0).skip(1) {
                to.store(*word, Ordering::Relaxed);
            }
            // The chip had its line last. At the ring's end this asks for what is behind it, once a lap.
            place[0].prefetch_for_writing::<{ AHEAD * Submission::SIZE }>();
        }
        self.tail = tail.wrapping_add(1);
    }
}

impl SubmissionWords {
    /// The words of an entry, whose identifier is still to come.
    #[must_use]
    #[inline]
    pub const fn new(entry: Submission) -> Self {
        Self(zerocopy::transmute!(entry.with_id(0)))
    }

    /// The same entry, to start after all earlier ones of its queue have completed.
    #[must_use]
    pub const fn fenced(self) -> Self {
        let entry: Submission = zerocopy::transmute!(self.0);
        Self::new(entry.fenced())
    }
}
