//! An arena: memory that is mapped for DMA in one piece, and given out in pieces.

use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::PAGE;

use super::memory::Memory;
use crate::bus::DmaRange;

/// Least bytes of an arena: one huge page of x86-64, which is one entry of an IOMMU's table.
pub(super) const LEAST: u64 = 2 << 20;
/// The next huge page of x86-64, and most bytes that an arena is made larger than what is asked for.
pub(super) const GIGANTIC: u64 = 1 << 30;

/// What an arena's IOVA is aligned to, so that an IOMMU can use its largest pages.
pub(super) const fn alignment(bytes: u64) -> u64 {
    if bytes.is_multiple_of(GIGANTIC) {
        GIGANTIC
    } else {
        LEAST
    }
}

/// Least bytes of an arena that can hold `length`.
pub(super) fn arena_bytes(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(LEAST)
}

/// Bytes of a new arena that is to hold `least`, in a space that holds `mapped`: an eighth of that, in multiples of `least`. So the number of
/// mappings grows with the logarithm of what they hold, until they are of a gibibyte, and no more than an eighth is idle.
pub(super) const fn generous(least: u64, mapped: u64) -> u64 {
    let eighth = mapped / 8;
    let more = if eighth < GIGANTIC { eighth } else { GIGANTIC };
    let times = more / least;
    if times > 1 { times * least } else { least }
}

/// An arena, mapped or about to be.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) iova: u64,
    pub(super) memory: Memory,
    /// Given out in pieces by the pool, and not registered as a whole.
    own: bool,
    /// Bytes in pages that are not free. This and the next are written under the pool's lock alone.
    used: AtomicU64,
    /// No byte from here on was ever given out: a memfd's pages are zero until they are written.
    virgin: AtomicU64,
}

impl Arena {
    /// Memory of the space's own, or registered memory, that is to be mapped at `iova`.
    pub(super) const fn new(iova: u64, memory: Memory, own: bool) -> Self {
        Self {
            iova,
            memory,
            own,
            used: AtomicU64::new(0),
            virgin: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    pub(super) const fn is_own(&self) -> bool {
        self.own
    }

    /// Bytes in huge pages.
    pub(super) fn huge_bytes(&self) -> u64 {
        if self.memory.page() > PAGE as u64 {
            self.bytes()
        } else {
            0
        }
    }

    /// Its IOVAs.
    pub(super) fn iovas(&self) -> RangeInclusive<u64> {
        self.iova..=self.iova + (self.bytes() - 1)
    }

    pub(super) fn range(&self) -> DmaRange<'_> {
        let (fd, fd_offset) = self.memory.file().unzip();
        DmaRange {
            iova: self.iova,
            size: self.bytes(),
            address: self.memory.address(),
            fd: fd.map(|fd| fd.as_fd()),
            fd_offset: fd_offset.unwrap_or(0),
        }
    }

    /// Whole pages at `iova` are used from now on. How many of their bytes may hold what a former buffer left.
    pub(super) fn take(&self, iova: u64, length: u64) -> u64 {
        let offset = iova - self.iova;
        let virgin = self.virgin.load(Ordering::Relaxed);
        self.virgin
            .store(virgin.max(offset + length), Ordering::Relaxed);
        self.used.fetch_add(length, Ordering::Relaxed);
        virgin.saturating_sub(offset).min(length)
    }

    /// Whole pages are free from now on.
    pub(super) fn give(&self, length: u64) {
        self.used.fetch_sub(length, Ordering::Relaxed);
    }

    /// The pages at `iova` are not needed any more, by anybody of this process.
    pub(super) fn discard(&self, iova: u64, length: u64) {
        if let Err(error) = self.memory.discard(iova - self.iova, length) {
            tracing::debug!(%error, iova, length, "pages that nobody uses stay in memory");
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.used.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terabyte_of_small_buffers_is_little_more_than_a_thousand_mappings() {
        let (mut mapped, mut arenas) = (0, 0);
        while mapped < 1 << 40 {
            let bytes = generous(LEAST, mapped);
            assert!(bytes <= LEAST.max(mapped / 8) && bytes <= GIGANTIC);
            assert!(bytes.is_multiple_of(LEAST));
            mapped += bytes;
            arenas += 1;
        }
        assert!(arenas < 1200, "{arenas}");
    }

    #[test]
    fn buffers_of_one_size_leave_nothing_over() {
        let size = 66 << 20;
        assert_eq!(generous(size, 10 << 30) % size, 0);
        assert_eq!(generous(size, 100 << 20), size);
    }
}
