//! Submission and completion rings: nothing but memory and indices.
//!
//! The memory is a slice of atomic words that the caller passes in each time, so that the same code runs on DMA
//! memory and on a test's vector, filled with whatever a hostile chip may write.

mod commands;
mod completion;
mod protocol;
mod submission;
mod word;

pub use commands::{Commands, Ended, Full, Keep, Pending, SERIALS, Token};
pub use completion::{CompletionPlace, CompletionRing, Entry};
pub use protocol::{SharedWords, arm_and_look, publish};
pub use submission::{SubmissionPlace, SubmissionRing, SubmissionWords};
pub use word::Word;

/// Where the entry of a free-running index is in a ring, which has a power of two places.
#[inline]
const fn place<T>(index: usize, memory: &[T]) -> usize {
    index & memory.len().wrapping_sub(1)
}

#[cfg(all(test, loom))]
mod loom_ring_tests;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
