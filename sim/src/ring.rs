//! A ring in host memory, resolved to the client's pages when the queue is created.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use auk_asic::PAGE;
use auk_asic::completion::Completion;
use auk_asic::submission::{Operand, Submission};

use crate::memory::{Direction, Mapping, Memory};

const PAGE_BYTES: u64 = PAGE as u64;

#[derive(Debug)]
struct Page {
    mapping: Arc<Mapping>,
    offset: u64,
}

/// A page-aligned piece of host memory that the chip reaches without looking it up again.
#[derive(Debug)]
pub(crate) struct Ring {
    iova: u64,
    length: u64,
    pages: Vec<Page>,
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
            let span = memory
                .span(Operand::host(iova + at), bytes, direction)
                .ok()
                .filter(|span| span.length == bytes)?;
            pages.push(Page {
                mapping: Arc::clone(span.mapping),
                offset: span.offset,
            });
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
    fn at(&self, offset: u64) -> Option<(&Mapping, u64)> {
        let page = self.pages.get((offset / PAGE_BYTES) as usize)?;
        Some((&page.mapping, page.offset + offset % PAGE_BYTES))
    }

    /// The submission entry in `slot`.
    #[inline]
    pub(crate) fn submission(&self, slot: u32) -> Option<Submission> {
        let (mapping, offset) = self.at(u64::from(slot) * Submission::SIZE as u64)?;
        mapping.load(offset)
    }

    /// Writes a completion entry, the word with the phase last.
    #[inline]
    pub(crate) fn complete(&self, slot: u32, entry: Completion) -> Option<()> {
        let (mapping, offset) = self.at(u64::from(slot) * Completion::SIZE as u64)?;
        let result = mapping.word64(offset)?;
        let tail = mapping.word64(offset + 8)?;
        result.store(entry.result, Ordering::Relaxed);
        // Release: the result, and whatever the command wrote, are visible before the phase.
        tail.store(entry.tail, Ordering::Release);
        Some(())
    }

    /// The 32-bit word at the start: a park word.
    pub(crate) fn set_word(&self, value: u32) {
        if let Some((mapping, offset)) = self.at(0)
            && mapping.is_writable()
            && let Some(word) = mapping.word32(offset)
        {
            word.store(value, Ordering::Relaxed);
        }
    }
}
