//! Hints to the processor about words that the chip had last.

#![allow(
    unsafe_code,
    reason = "the language has no safe way to say that a line will be needed"
)]

use std::sync::atomic::AtomicU64;

/// Says that the cache line `AHEAD` bytes after a word will be written soon, so that it comes from the other processor's cache
/// while something else is done. Stores wait for their lines too, but only as many as the processor can hold back. Whether
/// anything is there does not matter.
#[inline]
pub(crate) fn for_writing<const AHEAD: usize>(word: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint that faults on no address and changes nothing that a program could see; processors without it do nothing
    // (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PREFETCHW).
    unsafe {
        std::arch::asm!(
            "prefetchw [{} + {}]",
            in(reg) word.as_ptr(),
            const AHEAD,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = word;
}

/// Says that the cache line `AHEAD` bytes after a word will be read soon: what the chip has written there is on the way while
/// something else is done. Whether anything is there does not matter.
#[inline]
pub(crate) fn for_reading<const AHEAD: usize>(word: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint that faults on no address and changes nothing that a program could see (Intel 64 and IA-32 Architectures
    // Software Developer's Manual, volume 2, PREFETCHh).
    unsafe {
        std::arch::asm!(
            "prefetcht0 [{} + {}]",
            in(reg) word.as_ptr(),
            const AHEAD,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = word;
}
