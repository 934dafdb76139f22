//! Copies past the caches.
#![allow(
    unsafe_code,
    reason = "stores that bypass the caches are instructions of the processor"
)]

use std::ptr;

/// Bytes of a cache line.
const LINE: usize = 64;
/// How far ahead of the loads the source is asked for: what memory takes to answer, at its own speed.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8 * LINE;

/// Copies `len` bytes, whole lines of them with stores that do not read the destination first and leave the caches as they were. That
/// is a third less for memory to move, and a loss for whoever reads the result soon. They are seen by others in order with
/// what is stored afterwards.
///
/// # Safety
/// As [`ptr::copy_nonoverlapping`].
pub(crate) unsafe fn copy_past_caches(from: *const u8, to: *mut u8, len: usize) {
    let head = to.align_offset(LINE).min(len);
    let lines = (len - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: a part of what the caller vouches for, as are the next two.
    unsafe { ptr::copy_nonoverlapping(from, to, head) };
    // SAFETY: as above; a line begins behind the head, if the range reaches as far.
    unsafe { copy_lines(from.wrapping_add(head), to.wrapping_add(head), lines) };
    let (from, to) = (from.wrapping_add(tail), to.wrapping_add(tail));
    // SAFETY: as above.
    unsafe { ptr::copy_nonoverlapping(from, to, len - tail) };
}

/// # Safety
/// As [`ptr::copy_nonoverlapping`], for `lines` cache lines; `to` begins one.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_lines(from: *const u8, to: *mut u8, lines: usize) {
    use std::arch::x86_64::{
        __m128i, _MM_HINT_NTA, _mm_loadu_si128, _mm_prefetch, _mm_sfence, _mm_stream_si128,
    };
    const WORDS: usize = LINE / size_of::<__m128i>();

    for line in 0..lines {
        let source = from.wrapping_add(line * LINE).cast::<__m128i>();
        let target = to.wrapping_add(line * LINE).cast::<__m128i>();
        let ahead = source.wrapping_byte_add(AHEAD).cast();
        // SAFETY: a hint, which may be about any address.
        unsafe { _mm_prefetch::<_MM_HINT_NTA>(ahead) };
        let words: [__m128i; WORDS] = std::array::from_fn(|word| {
            // SAFETY: the word is of a line in the range that the caller vouches for, and need not be aligned.
            unsafe { _mm_loadu_si128(source.wrapping_add(word)) }
        });
        for (word, value) in words.into_iter().enumerate() {
            // SAFETY: as above; the line is aligned, and so are its words.
            unsafe { _mm_stream_si128(target.wrapping_add(word), value) };
        }
    }
    // SAFETY: an instruction of every x86-64.
    unsafe { _mm_sfence() };
}

/// # Safety
/// As [`ptr::copy_nonoverlapping`], for `lines` cache lines.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_lines(from: *const u8, to: *mut u8, lines: usize) {
    // SAFETY: the caller's.
    unsafe { ptr::copy_nonoverlapping(from, to, lines * LINE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_and_no_other_at_any_alignment_and_length() {
        let source: Vec<u8> = (0..1000_u32).map(|i| (i * 7 + 1) as u8).collect();
        for from in [0, 1, 15, 16, 63] {
            for to in 0..2 * LINE {
                for len in [0, 1, 15, 16, 63, 64, 65, 127, 128, 200, 700] {
                    let mut target = vec![0xee; 1000];
                    let (read, written) = (&source[from..from + len], &mut target[to..to + len]);
                    // SAFETY: two slices of `len` bytes, in two vectors.
                    unsafe { copy_past_caches(read.as_ptr(), written.as_mut_ptr(), len) };
                    assert_eq!(written, read, "{from} to {to}, {len}");
                    let others = target[..to].iter().chain(&target[to + len..]);
                    assert!(others.into_iter().all(|&byte| byte == 0xee));
                }
            }
        }
    }
}
