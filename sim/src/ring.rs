//! A ring in host memory, resolved to the client's pages when the queue is created.

use auk_asic::PAGE;
use auk_asic::completion::Completion;
use auk_asic::submission::{Operand, Submission};
use auk_vfio_user::dma::Held;
use auk_vfio_user::memory::SharedMemory;
use zerocopy::IntoBytes;

use crate::memory::{Direction, Memory};

const PAGE_BYTES: u64 = PAGE as u64;

/// A page-aligned piece of host memory that the chip reaches without looking it up again.
#[derive(Debug)]
pub(crate) struct Ring {
    iova: u64,
    length: u64,
    pages: Vec<Held>,
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
        let mut pages = Vec::new();
        let mut at = 0;
        while at < length {
            let bytes = PAGE_BYTES.min(length - at);
            pages.push(memory.hold(iova + at, bytes, direction)?);
            at += PAGE_BYTES;
        }
        Some(Self {
            iova,
            length,
            pages,
        })
    }

    /// Lets go of the client's memory if any of the ring is in this range.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        if iova < self.iova.saturating_add(self.length) && self.iova < iova.saturating_add(size) {
            self.pages.clear();
        }
    }

    /// Whether all of it can be reached.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.pages.is_empty()
    }

    #[inline]
    fn at(&self, offset: u64) -> Option<(&SharedMemory, u64)> {
        let page = self.pages.get((offset / PAGE_BYTES) as usize)?;
        let (memory, start) = page.memory();
        Some((memory, start + offset % PAGE_BYTES))
    }

    /// The submission entry in `slot`.
    #[inline]
    pub(crate) fn submission(&self, slot: u32) -> Option<Submission> {
        let (memory, offset) = self.at(u64::from(slot) * Submission::SIZE as u64)?;
        let mut entry = Submission::default();
        memory.read(offset, entry.as_mut_bytes()).ok()?;
        Some(entry)
    }

    /// Writes a completion entry, the word with the phase last.
    #[inline]
    pub(crate) fn complete(&self, slot: u32, entry: Completion) -> Option<()> {
        let (memory, offset) = self.at(u64::from(slot) * Completion::SIZE as u64)?;
        memory.store_u64(offset, entry.result).ok()?;
        // A release store: the result, and whatever the command wrote, are visible before the phase.
        memory.store_u64(offset + 8, entry.tail).ok()
    }

    /// The 32-bit word at the start: a park word.
    pub(crate) fn set_word(&self, value: u32) {
        if let Some((memory, offset)) = self.at(0)
            && let Err(error) = memory.store_u32(offset, value)
        {
            tracing::warn!(%error, "cannot write a park word");
        }
    }
}
