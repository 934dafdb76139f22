//! Buffers smaller than a page: many of a size in one page.

use std::sync::Arc;

use auk_asic::PAGE;

use super::arena::Arena;

/// Least bytes of a buffer: a cache line, so that two buffers never share one.
const LEAST: u64 = 64;
/// Sizes of small buffers: powers of two from a cache line to half a page. Each begins at a multiple of its size.
const CLASSES: usize = 6;

/// A size of small buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest that holds `length`; `None` for what is better off with whole pages.
    pub(super) fn of(length: u64) -> Option<Self> {
        let bytes = length.max(LEAST).checked_next_power_of_two()?;
        let class = (bytes / LEAST).trailing_zeros();
        (class < CLASSES as u32).then_some(Self(class as u8))
    }

    pub(super) const fn bytes(self) -> u64 {
        LEAST << self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }

    /// One bit a buffer of a page.
    const fn all_free(self) -> u64 {
        u64::MAX >> (64 - PAGE as u64 / self.bytes())
    }
}

/// Which slab a buffer is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlabId(u32);

/// A page of buffers of one size.
#[derive(Debug)]
struct Slab {
    page: Page,
    class: Class,
    /// One bit a buffer.
    free: u64,
    /// Where it is in the list of its class, while any buffer of it is free.
    place: usize,
}

/// A page of an arena.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) arena: Arc<Arena>,
    pub(super) iova: u64,
}

/// All slabs. Taking and giving back takes the same time however many there are.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    slabs: Vec<Option<Slab>>,
    /// Free places in `slabs`.
    vacant: Vec<SlabId>,
    /// Those with a free buffer, by class.
    partial: [Vec<SlabId>; CLASSES],
}

impl Slabs {
    /// A free buffer: its page, its IOVA, and from which slab it is.
    pub(super) fn take(&mut self, class: Class) -> Option<(Page, u64, SlabId)> {
        let list = &mut self.partial[class.index()];
        let id = *list.last()?;
        let slab = self.slabs.get_mut(id.0 as usize)?.as_mut()?;
        let slot = slab.free.trailing_zeros();
        slab.free &= slab.free - 1;
        if slab.free == 0 {
            list.pop();
        }
        let iova = slab.page.iova + u64::from(slot) * class.bytes();
        Some((slab.page.clone(), iova, id))
    }

    /// Makes a page one of buffers of `class`.
    pub(super) fn add(&mut self, class: Class, page: Page) {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(None);
            SlabId(self.slabs.len() as u32 - 1)
        });
        let list = &mut self.partial[class.index()];
        self.slabs[id.0 as usize] = Some(Slab {
            page,
            class,
            free: class.all_free(),
            place: list.len(),
        });
        list.push(id);
    }

    /// Gives a buffer back. The page too, when nothing of it is used any more and its class has others: one stays, so that who takes
    /// and gives back a single buffer does not move a page each time.
    pub(super) fn give(&mut self, id: SlabId, iova: u64) -> Option<Page> {
        let slab = self.slabs.get_mut(id.0 as usize)?.as_mut()?;
        let class = slab.class;
        let list = &mut self.partial[class.index()];
        if slab.free == 0 {
            slab.place = list.len();
            list.push(id);
        }
        slab.free |= 1 << ((iova - slab.page.iova) / class.bytes());
        let spare = slab.free == class.all_free() && list.len() > 1;
        spare.then(|| self.remove(id)).flatten()
    }

    /// Takes the pages out of which no buffer is used.
    pub(super) fn take_unused(&mut self) -> Vec<Page> {
        let lists = self.partial.iter().flatten();
        let unused = lists.filter(|id| {
            let slab = self.slabs[id.0 as usize].as_ref();
            slab.is_some_and(|slab| slab.free == slab.class.all_free())
        });
        let unused: Vec<SlabId> = unused.copied().collect();
        unused
            .into_iter()
            .filter_map(|id| self.remove(id))
            .collect()
    }

    fn remove(&mut self, id: SlabId) -> Option<Page> {
        let slab = self.slabs.get_mut(id.0 as usize)?.take()?;
        let list = &mut self.partial[slab.class.index()];
        list.swap_remove(slab.place);
        let moved = list.get(slab.place).copied();
        if let Some(moved) = moved.and_then(|moved| self.slabs[moved.0 as usize].as_mut()) {
            moved.place = slab.place;
        }
        self.vacant.push(id);
        Some(slab.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_the_next_power_of_two_from_a_cache_line_to_half_a_page() {
        for (length, bytes) in [(1, 64), (64, 64), (65, 128), (1025, 2048), (2048, 2048)] {
            assert_eq!(Class::of(length).map(Class::bytes), Some(bytes), "{length}");
        }
        assert_eq!(Class::of(2049), None);
        assert_eq!(Class::of(u64::MAX), None);
        assert_eq!(Class::of(64).unwrap().all_free(), u64::MAX);
        assert_eq!(Class::of(2048).unwrap().all_free(), 0b11);
    }
}
