//! An arena: memory that is mapped for DMA in one piece, and given out in pieces.

use std::sync::{Mutex, PoisonError};

use auk_asic::PAGE;

use super::DmaError;
use super::memory::{HugePages, Memory};
use super::ranges::Ranges;
use crate::bus::DmaRange;

/// Least bytes of an arena: one huge page of x86-64, which is one entry of an IOMMU's table.
const LEAST: u64 = 2 << 20;

/// What an arena's IOVA is aligned to, so that an IOMMU can use its largest pages.
pub(super) fn alignment(bytes: u64) -> u64 {
    const GIGANTIC: u64 = 1 << 30;
    if bytes.is_multiple_of(GIGANTIC) {
        GIGANTIC
    } else {
        LEAST
    }
}

/// Bytes of an arena that can hold `length`.
pub(super) fn arena_bytes(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(LEAST)
}

/// An arena, mapped or about to be.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) iova: u64,
    pub(super) memory: Memory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Ranges,
    /// No byte from here on was ever given out: a memfd's pages are zero until they are written.
    virgin: u64,
}

impl Arena {
    /// Memory of `bytes`, a multiple of the page, to be mapped at `iova`.
    pub(super) fn new(iova: u64, bytes: u64, huge: HugePages) -> Result<Self, DmaError> {
        let memory = Memory::new(bytes, huge).map_err(|source| match huge {
            HugePages::Require => DmaError::NoHugePages {
                length: bytes,
                source,
            },
            HugePages::Prefer | HugePages::Never => DmaError::NoMemory {
                length: bytes,
                source,
            },
        })?;
        Ok(Self {
            iova,
            memory,
            state: Mutex::new(State {
                free: Ranges::new([0..=bytes - 1]),
                virgin: 0,
            }),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Bytes in huge pages.
    pub(super) fn huge_bytes(&self) -> u64 {
        if self.memory.page() > PAGE as u64 {
            self.bytes()
        } else {
            0
        }
    }

    pub(super) fn range(&self) -> DmaRange<'_> {
        DmaRange {
            iova: self.iova,
            size: self.bytes(),
            address: self.memory.address(),
            fd: self.memory.fd(),
            fd_offset: 0,
        }
    }

    /// Offset of `length` free bytes, whole pages, and how many of them may hold what a former buffer left.
    pub(super) fn take(&self, length: u64) -> Option<(u64, u64)> {
        let mut state = self.state();
        let offset = state.free.take(length, PAGE as u64)?;
        let used = state.virgin.saturating_sub(offset).min(length);
        state.virgin = state.virgin.max(offset + length);
        Some((offset, used))
    }

    pub(super) fn give(&self, offset: u64, length: u64) {
        self.state().free.give(offset, length);
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.state().free.free_bytes().0
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // It is right between any two of its operations, so that a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
