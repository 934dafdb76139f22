//! The two places where driver and chip could each miss what the other did: the doorbell of a chip that is about to
//! sleep, and the completion of a driver that is about to.
//!
//! Both are the same pattern: each side writes one word, fences fully, and reads the other's. The fence on both
//! sides is what makes it impossible that both read the old value. The tests prove it under loom.

use auk_asic::doorbell::Arm;

/// The words that a queue shares with the chip beside the rings.
pub trait SharedWords {
    /// Stores SQ_TAIL, after all earlier writes to memory.
    fn store_tail(&self, tail: u32);
    /// Stores CQ_ARM.
    fn store_arm(&self, arm: Arm);
    /// Reads the park word.
    fn load_park(&self) -> u32;
    /// Orders every access before against every access after.
    fn full_fence(&self);
}

/// Rings the doorbell. Whether the chip sleeps and must be woken by KICK.
///
/// Without `parking` the park word is not looked at, and no fence is paid for.
#[inline]
pub fn publish(words: &impl SharedWords, tail: u32, parking: bool) -> bool {
    words.store_tail(tail);
    if !parking {
        return false;
    }
    words.full_fence();
    words.load_park() == 1
}

/// Arms the queue's interrupt, then looks once more whether a completion is there already. Only when `look` says no may
/// the caller sleep on the interrupt.
#[inline]
pub fn arm_and_look(words: &impl SharedWords, arm: Arm, look: impl FnOnce() -> bool) -> bool {
    words.store_arm(arm);
    words.full_fence();
    look()
}
