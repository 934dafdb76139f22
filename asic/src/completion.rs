//! The 16-byte completion entry.
//!
//! The chip writes the first word, then the second; the second carries phase and tag. A driver
//! reads the second word once, with acquire ordering, and only then the first.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Malformed, Status};

/// A completion entry as it lies in the ring: two 64-bit words.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(16))]
pub struct Completion {
    /// The command's result, 0 unless the opcode's table names one.
    pub result: u64,
    /// [`Tail`], written last.
    pub tail: u64,
}

fields!(Completion, size = 16, {
    0x00 => result,
    0x08 => tail,
});

/// The word of a completion that is written last.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Tail {
    /// Inverts with each lap of the ring; the first lap after CREATE_QUEUE writes 1.
    pub phase: bool,
    /// [`Status`].
    #[bits(15)]
    pub status_code: u16,
    /// The queue's tag.
    pub tag: u16,
    /// The command identifier of the submission.
    pub command_id: u16,
    /// The queue's number.
    pub queue: u16,
}

impl Tail {
    /// How the command ended.
    ///
    /// # Errors
    /// [`Malformed`] when the code is of no status.
    pub const fn status(self) -> Result<Status, Malformed> {
        Status::parse(self.status_code())
    }
}
