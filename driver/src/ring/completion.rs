//! The ring that the chip writes and the driver reads.

use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::Status;
use auk_asic::completion::{Completion, Tail};

use super::{Word, place};

/// A place in the ring: the words of an entry.
pub type CompletionPlace<W = AtomicU64> = [W; Completion::SIZE / size_of::<u64>()];

/// Bytes between the completion that is taken and the line that is asked for meanwhile. The chip has mostly written the next line by
/// then, and each is a journey between two caches: who asks only when it gets there takes longer for four completions than the chip,
/// and both then wait for each other in turns. Further ahead the chip is still writing.
const AHEAD: usize = 64;

/// What tells a completion of this lap of this life of the queue from everything else.
const IDENTITY: u64 = Tail::new()
    .with_phase(true)
    .with_tag(u16::MAX)
    .with_queue(u16::MAX)
    .into_bits();
const PHASE: u64 = Tail::new().with_phase(true).into_bits();

/// The driver's index into a completion ring. The memory that it is given is the whole ring: a power of two places.
#[derive(Debug)]
pub struct CompletionRing {
    /// The bits of [`IDENTITY`] of the next completion. In the first lap the phase is 1.
    expected: u64,
    /// Not cut to 32 bits, so that a place in the ring needs no widening.
    head: usize,
    /// The last word that was not of this queue's life, so that one stray is counted once.
    last_stray: u64,
    strays: u64,
}

/// A completion of this life of the queue. What it says of commands is still to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) tail: Tail,
    /// The result.
    pub result: u64,
}

impl Entry {
    /// Whether it says that the command succeeded.
    #[must_use]
    #[inline]
    pub const fn is_success(&self) -> bool {
        const STATUS: u64 = Tail::new().with_status_code(0x7FFF).into_bits();
        const SUCCESS: u64 = Tail::new()
            .with_status_code(Status::Success.code())
            .into_bits();
        self.tail.into_bits() & STATUS == SUCCESS
    }
}

impl CompletionRing {
    /// Bytes of a ring of this depth.
    #[must_use]
    pub const fn bytes(depth_log2: u8) -> usize {
        Completion::SIZE << depth_log2
    }

    /// The index into a zeroed ring of queue `queue`, whose completions will carry `tag`.
    #[must_use]
    pub const fn new(queue: u16, tag: u16) -> Self {
        let expected = Tail::new().with_phase(true).with_tag(tag).with_queue(queue);
        Self {
            expected: expected.into_bits(),
            head: 0,
            last_stray: 0,
            strays: 0,
        }
    }

    /// Begins anew with another tag, on a ring that was zeroed; what was seen of strays is remembered.
    pub const fn renew(&mut self, tag: u16) {
        let strays = self.strays;
        *self = Self::new(Tail::from_bits(self.expected).queue(), tag);
        self.strays = strays;
    }

    /// The tag that completions carry.
    #[must_use]
    pub const fn tag(&self) -> u16 {
        Tail::from_bits(self.expected).tag()
    }

    /// Completions consumed since the queue was made, modulo 2^32.
    #[must_use]
    pub const fn head(&self) -> u32 {
        self.head as u32
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
    pub fn next<W: Word>(&mut self, memory: &[CompletionPlace<W>]) -> Option<Entry> {
        let (head, expected) = (self.head, self.expected);
        let [first, last] = memory.get(place(head, memory))?;
        let word = last.load(Ordering::Acquire);
        let differs = (word ^ expected) & IDENTITY;
        if differs != 0 {
            if differs & PHASE == 0 {
                self.note_stray(word);
            }
            return None;
        }
        let result = first.load(Ordering::Relaxed);
        first.prefetch_for_reading::<AHEAD>();
        self.head = head.wrapping_add(1);
        if place(self.head, memory) == 0 {
            self.expected = expected ^ PHASE;
        }
        Some(Entry {
            tail: Tail::from_bits(word),
            result,
        })
    }

    /// Whether [`CompletionRing::next`] would find something. For the look after arming.
    #[must_use]
    pub fn has_next<W: Word>(&self, memory: &[CompletionPlace<W>]) -> bool {
        let next = memory.get(place(self.head, memory));
        next.is_some_and(|[_, last]| (last.load(Ordering::Acquire) ^ self.expected) & IDENTITY == 0)
    }

    #[cold]
    fn note_stray(&mut self, word: u64) {
        if word != self.last_stray {
            self.last_stray = word;
            self.strays += 1;
        }
    }
}
