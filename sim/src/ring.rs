//! A ring in host memory, resolved to the client's pages when the queue is created.

use auk_asic::completion::Completion;
use auk_asic::submission::{Operand, Submission};
use auk_vfio_user::dma::Held;
use auk_vfio_user::memory::SharedMemory;
use zerocopy::IntoBytes;

use crate::memory::{Direction, Memory};

const SUBMISSION: u64 = Submission::SIZE as u64;
const COMPLETION: u64 = Completion::SIZE as u64;

/// A piece of host memory that the chip reaches without looking it up again.
#[derive(Debug)]
pub(crate) struct Ring {
    iova: u64,
    length: u64,
    /// In order. Mostly there is one: who maps memory for DMA maps more than a ring in one piece.
    pieces: Vec<Piece>,
}

/// What of a ring lies in one mapping.
#[derive(Debug)]
struct Piece {
    held: Held,
    /// Offset in the ring of its first byte, and of the byte after its last.
    start: u64,
    end: u64,
}

impl Ring {
    /// The ring of `length` bytes at `iova`; `None` when not all of it is mapped.
    pub(crate) fn new(
        memory: &Memory,
        iova: u64,
        length: u64,
        direction: Direction,
    ) -> Option<Self> {
        memory.check(Operand::host(iova), length, direction).ok()?;
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < length {
            let (held, bytes) = memory.hold(iova + start, length - start, direction)?;
            let end = start + bytes;
            pieces.push(Piece { held, start, end });
            start = end;
        }
        Some(Self {
            iova,
            length,
            pieces,
        })
    }

    /// Lets go of the client's memory if any of the ring is in this range.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        if iova < self.iova.saturating_add(self.length) && self.iova < iova.saturating_add(size) {
            self.pieces.clear();
        }
    }

    /// Whether all of it can be reached.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Where an entry of `size` bytes, which divide a page, is.
    #[inline]
    fn at(&self, offset: u64, size: u64) -> Option<(&SharedMemory, u64)> {
        let piece = match self.pieces.first() {
            Some(first) if offset + size <= first.end => first,
            _ => self.piece(offset, size)?,
        };
        let (memory, start) = piece.held.memory();
        Some((memory, start + (offset - piece.start)))
    }

    #[cold]
    fn piece(&self, offset: u64, size: u64) -> Option<&Piece> {
        let has = |piece: &&Piece| piece.start <= offset && offset + size <= piece.end;
        self.pieces.iter().find(has)
    }

    /// Reads the submission entry in `slot`.
    #[inline]
    pub(crate) fn submission(&self, slot: u32, entry: &mut Submission) -> Option<()> {
        let (memory, offset) = self.at(u64::from(slot) * SUBMISSION, SUBMISSION)?;
        memory.read(offset, entry.as_mut_bytes()).ok()
    }

    /// Says that the submission entry in `slot` will be read soon.
    #[inline]
    pub(crate) fn expect_submission(&self, slot: u32) {
        if let Some((memory, offset)) = self.at(u64::from(slot) * SUBMISSION, SUBMISSION) {
            memory.prefetch(offset);
        }
    }

    /// Writes a completion entry, the word with the phase last.
    #[inline]
    pub(crate) fn complete(&self, slot: u32, entry: Completion) -> Option<()> {
        let (memory, offset) = self.at(u64::from(slot) * COMPLETION, COMPLETION)?;
        memory.store_u64(offset, entry.result).ok()?;
        // A release store: the result, and whatever the command wrote, are visible before the phase.
        memory.store_u64(offset + 8, entry.tail).ok()
    }

    /// The 32-bit word at the start: a park word.
    pub(crate) fn set_word(&self, value: u32) {
        if let Some((memory, offset)) = self.at(0, 4)
            && let Err(error) = memory.store_u32(offset, value)
        {
            tracing::warn!(%error, "cannot write a park word");
        }
    }
}
