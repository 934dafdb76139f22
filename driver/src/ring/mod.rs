//! Submission and completion rings: nothing but memory and indices.
//!
//! The memory is a slice of atomic words that the caller passes in each time, so that the same code runs on DMA
//! memory and on a test's vector, filled with whatever a hostile chip may write.

mod commands;
mod completion;
mod protocol;
mod submission;

pub use commands::{Commands, Ended, Full, Keep, Pending, Token};
pub use completion::{CompletionRing, Entry};
pub use protocol::{SharedWords, arm_and_look, publish};
pub use submission::SubmissionRing;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
