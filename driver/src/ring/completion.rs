//! The ring that the chip writes and the driver reads.

use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::completion::{Completion, Tail};

/// 64-bit words of an entry.
const WORDS: usize = Completion::SIZE / size_of::<u64>();

/// The driver's index into a completion ring.
#[derive(Debug)]
pub struct CompletionRing {
    queue: u16,
    tag: u16,
    mask: u32,
    head: u32,
    /// Of the lap that the ring is in; of the first one it is 1.
    phase: bool,
    /// The last word that was not of this queue's life, so that one stray is counted once.
    last_stray: u64,
    strays: u64,
}

/// A completion of this life of the queue. What it says of commands is still to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The command's identifier, as the chip gave it.
    pub command_id: u16,
    /// The status code, as the chip gave it.
    pub status_code: u16,
    /// The result.
    pub result: u64,
}

impl CompletionRing {
    /// Bytes of a ring of this depth.
    #[must_use]
    pub const fn bytes(depth_log2: u8) -> usize {
        Completion::SIZE << depth_log2
    }

    /// The index into a zeroed ring of queue `queue`, whose completions will carry `tag`.
    #[must_use]
    pub const fn new(depth_log2: u8, queue: u16, tag: u16) -> Self {
        Self {
            queue,
            tag,
            mask: (1 << depth_log2) - 1,
            head: 0,
            phase: true,
            last_stray: 0,
            strays: 0,
        }
    }

    /// The tag that completions carry.
    #[must_use]
    pub const fn tag(&self) -> u16 {
        self.tag
    }

    /// Completions consumed since the queue was made, modulo 2^32.
    #[must_use]
    pub const fn head(&self) -> u32 {
        self.head
    }

    /// Completions seen that carried another queue's number or tag: of a former life of the queue, or of a chip that has
    /// gone wrong.
    #[must_use]
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// The next completion, if it is there.
    ///
    /// The second word is read once, with acquire ordering; the first only after it is known to be good. An entry
    /// with the right phase and another queue or tag is not consumed: the chip owes this place a completion of this
    /// life, which will overwrite it.
    #[inline]
    pub fn next(&mut self, memory: &[AtomicU64]) -> Option<Entry> {
        let [first, last] = self.place(memory)?;
        let word = last.load(Ordering::Acquire);
        let tail = Tail::from_bits(word);
        if tail.phase() != self.phase {
            return None;
        }
        if tail.tag() != self.tag || tail.queue() != self.queue {
            self.note_stray(word);
            return None;
        }
        let result = first.load(Ordering::Relaxed);
        self.head = self.head.wrapping_add(1);
        self.phase ^= self.head & self.mask == 0;
        Some(Entry {
            command_id: tail.command_id(),
            status_code: tail.status_code(),
            result,
        })
    }

    /// Whether [`CompletionRing::next`] would find something to look at. For the look after arming.
    #[must_use]
    pub fn has_next(&self, memory: &[AtomicU64]) -> bool {
        let Some([_, last]) = self.place(memory) else {
            return false;
        };
        let tail = Tail::from_bits(last.load(Ordering::Acquire));
        tail.phase() == self.phase && tail.tag() == self.tag && tail.queue() == self.queue
    }

    /// The two words of the next completion.
    #[inline]
    fn place<'a>(&self, memory: &'a [AtomicU64]) -> Option<&'a [AtomicU64; WORDS]> {
        let (entries, _) = memory.as_chunks();
        entries.get((self.head & self.mask) as usize)
    }

    #[cold]
    fn note_stray(&mut self, word: u64) {
        if word != self.last_stray {
            self.last_stray = word;
            self.strays += 1;
        }
    }
}
