//! Copies between plain memory and words that a chip may change at any time.
//!
//! The words are atomics and are read or written once each, so that whatever a chip or another thread
//! does meanwhile, the outcome is a mixture of old and new bytes and nothing worse.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();

/// Copies `data.len()` bytes from byte `offset` on. The range must lie in `words`.
pub(super) fn read(words: &[AtomicU64], offset: usize, data: &mut [u8]) {
    let head = head_bytes(offset, data.len());
    let mut index = offset / WORD;
    let (head, rest) = data.split_at_mut(head);
    if !head.is_empty() {
        let bytes = words[index].load(Relaxed).to_le_bytes();
        let from = offset % WORD;
        head.copy_from_slice(&bytes[from..from + head.len()]);
        index += 1;
    }
    let mut chunks = rest.chunks_exact_mut(WORD);
    for (chunk, word) in chunks.by_ref().zip(&words[index..]) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        index += 1;
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        let bytes = words[index].load(Relaxed).to_le_bytes();
        tail.copy_from_slice(&bytes[..tail.len()]);
    }
}

/// Copies `data` to byte `offset` on. The range must lie in `words`.
pub(super) fn write(words: &[AtomicU64], offset: usize, data: &[u8]) {
    let head = head_bytes(offset, data.len());
    let mut index = offset / WORD;
    let (head, rest) = data.split_at(head);
    if !head.is_empty() {
        merge(&words[index], offset % WORD, head);
        index += 1;
    }
    let mut chunks = rest.chunks_exact(WORD);
    for (chunk, word) in chunks.by_ref().zip(&words[index..]) {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Relaxed);
        index += 1;
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        merge(&words[index], 0, tail);
    }
}

/// Bytes before the first whole word.
fn head_bytes(offset: usize, length: usize) -> usize {
    (offset.wrapping_neg() % WORD).min(length)
}

/// Replaces a part of a word, and leaves the rest to whoever else writes it.
fn merge(word: &AtomicU64, from: usize, data: &[u8]) {
    let replace = |old: u64| {
        let mut bytes = old.to_le_bytes();
        bytes[from..from + data.len()].copy_from_slice(data);
        u64::from_le_bytes(bytes)
    };
    let mut old = word.load(Relaxed);
    while let Err(found) = word.compare_exchange_weak(old, replace(old), Relaxed, Relaxed) {
        old = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_agree_with_plain_slices(
            offset in 0usize..40,
            data in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let words: Vec<AtomicU64> = (0..10).map(|_| AtomicU64::new(0xA5A5_A5A5_A5A5_A5A5)).collect();
            let mut plain = vec![0xA5; 80];
            plain[offset..offset + data.len()].copy_from_slice(&data);
            write(&words, offset, &data);
            let mut all = vec![0; 80];
            read(&words, 0, &mut all);
            prop_assert_eq!(&all, &plain);
            let mut back = vec![0; data.len()];
            read(&words, offset, &mut back);
            prop_assert_eq!(back, data);
        }
    }
}
