//! A queue's doorbell page: the only registers on the hot path.
//!
//! The words are on cache lines of their own. A driver maps the page; it never reads it back.

use bitfield_struct::bitfield;

use crate::register::registers;

registers! {
    /// Submission entries written since CREATE_QUEUE, modulo 2^32. A value more than the depth
    /// ahead of what the chip has completed stops the queue.
    SQ_TAIL = 0x00, WriteOnly;
    /// [`Arm`].
    CQ_ARM = 0x40, WriteOnly;
}

/// `CQ_ARM`: asks for one interrupt.
///
/// The chip fires when it has posted more completions than `consumed` says were seen, at once if
/// it already has, and then disarms until a different value is written.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Arm {
    /// Completions consumed since CREATE_QUEUE, modulo 2^16.
    pub consumed: u16,
    /// Changes with each arming, so that two armings at one index differ.
    #[bits(15)]
    pub sequence: u16,
    /// The queue is armed; 0 disarms.
    pub armed: bool,
}
