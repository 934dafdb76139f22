//! What of a queue lies in host memory, resolved to the client's pages when the queue is created.

use std::ops::Range;

use auk_asic::completion::Completion;
use auk_asic::submission::{Operand, Submission};
use auk_vfio_user::dma::{Held, Places};

use crate::memory::{Direction, Memory};

/// The entries that the driver writes.
pub(crate) type SubmissionRing = Ring<{ Submission::SIZE / 8 }>;
/// The entries that the chip writes.
pub(crate) type CompletionRing = Ring<{ Completion::SIZE / 8 }>;

/// A ring of entries of so many double words, that the chip reaches without looking it up again.
#[derive(Debug)]
pub(crate) struct Ring<const WORDS: usize> {
    range: Range<u64>,
    /// In order. Mostly there is one: who maps memory for DMA maps more than a ring in one piece.
    pieces: Vec<Piece<WORDS>>,
}

/// What of a ring lies in one mapping.
#[derive(Debug)]
struct Piece<const WORDS: usize> {
    /// The slot of its first place.
    first: usize,
    places: Places<WORDS>,
}

impl<const WORDS: usize> Ring<WORDS> {
    const ENTRY: u64 = (WORDS * size_of::<u64>()) as u64;

    /// The ring of `1 << depth_log2` entries at `iova`; `None` when not all of it is mapped.
    pub(crate) fn new(
        memory: &Memory,
        iova: u64,
        depth_log2: u8,
        direction: Direction,
    ) -> Option<Self> {
        let bytes = Self::ENTRY << depth_log2;
        memory.check(Operand::host(iova), bytes, direction).ok()?;
        let end = iova.checked_add(bytes)?;
        let mut pieces = Vec::new();
        let (mut at, mut first) = (iova, 0);
        while at < end {
            let (held, bytes) = memory.hold(at, end - at, direction)?;
            // A mapping that ends within an entry leaves none of the ring: pages have whole entries.
            let count = (bytes / Self::ENTRY) as usize;
            let places = Places::new(held, count).ok().filter(|_| count > 0)?;
            pieces.push(Piece { first, places });
            first += count;
            at += count as u64 * Self::ENTRY;
        }
        Some(Self {
            range: iova..end,
            pieces,
        })
    }

    /// Lets go of the client's memory if any of the ring is in this range.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        if iova < self.range.end && self.range.start < iova.saturating_add(size) {
            self.pieces.clear();
        }
    }

    /// Whether all of it can be reached.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// The memory that a slot is in, and its place there.
    #[inline]
    fn at(&self, slot: u32) -> Option<(&Places<WORDS>, usize)> {
        let slot = slot as usize;
        match self.pieces.first() {
            Some(Piece { places, .. }) if slot < places.len() => Some((places, slot)),
            _ => self.at_later(slot),
        }
    }

    #[cold]
    fn at_later(&self, slot: usize) -> Option<(&Places<WORDS>, usize)> {
        let piece = self.pieces.iter().rfind(|piece| piece.first <= slot)?;
        Some((&piece.places, slot - piece.first))
    }

    /// Reads the entry in `slot`.
    #[inline]
    pub(crate) fn load(&self, slot: u32) -> Option<[u64; WORDS]> {
        let (places, index) = self.at(slot)?;
        places.load(index)
    }

    /// Says that the entry in `slot` will be read soon.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some((places, index)) = self.at(slot) {
            places.prefetch(index);
        }
    }

    /// Writes the entry in `slot`, its last word after whatever was written before.
    #[inline]
    pub(crate) fn store(&self, slot: u32, entry: [u64; WORDS]) -> Option<()> {
        let (places, index) = self.at(slot)?;
        places.store(index, entry)
    }
}

/// A queue's park word.
#[derive(Debug)]
pub(crate) struct ParkWord {
    iova: u64,
    held: Option<Held>,
}

impl ParkWord {
    const SIZE: u64 = size_of::<u32>() as u64;

    /// The word at `iova`; `None` when it is not mapped.
    pub(crate) fn new(memory: &Memory, iova: u64) -> Option<Self> {
        let word = Operand::host(iova);
        memory.check(word, Self::SIZE, Direction::Write).ok()?;
        let (held, bytes) = memory.hold(iova, Self::SIZE, Direction::Write)?;
        (bytes == Self::SIZE).then_some(Self {
            iova,
            held: Some(held),
        })
    }

    /// Lets go of the client's memory if the word is in this range.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        if iova < self.iova.saturating_add(Self::SIZE) && self.iova < iova.saturating_add(size) {
            self.held = None;
        }
    }

    /// Whether it can be reached.
    pub(crate) fn is_mapped(&self) -> bool {
        self.held.is_some()
    }

    /// Says in it whether the chip sleeps.
    pub(crate) fn set(&self, parked: bool) {
        let Some(held) = &self.held else {
            return;
        };
        let (memory, offset) = held.memory();
        if let Err(error) = memory.store_u32(offset, u32::from(parked)) {
            tracing::warn!(%error, "cannot write a park word");
        }
    }
}
