//! Free ranges of an address space: IOVAs, and offsets in an arena.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The free part of an address space; neighbours are always merged, so that weeks of use do not wear it out.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    /// Last address of each free range by its first.
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(super) fn new(ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Self {
        let mut new = Self::default();
        for range in ranges {
            new.insert(*range.start(), *range.end());
        }
        new
    }

    /// Takes the lowest `length` bytes that begin at a multiple of `align`, a power of two.
    pub(super) fn take(&mut self, length: u64, align: u64) -> Option<u64> {
        let more = length.checked_sub(1)?;
        let (first, last, start) = self.free.iter().find_map(|(&first, &last)| {
            let start = first.checked_next_multiple_of(align)?;
            (start.checked_add(more)? <= last).then_some((first, last, start))
        })?;
        self.free.remove(&first);
        if first < start {
            self.free.insert(first, start - 1);
        }
        if start + more < last {
            self.free.insert(start + length, last);
        }
        Some(start)
    }

    /// Gives back what [`Ranges::take`] gave.
    pub(super) fn give(&mut self, start: u64, length: u64) {
        if let Some(more) = length.checked_sub(1) {
            self.insert(start, start.saturating_add(more));
        }
    }

    fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        // Everything that overlaps or touches becomes one.
        while let Some((&other_first, &other_last)) = self
            .free
            .range(..=last.saturating_add(1))
            .next_back()
            .filter(|(_, other_last)| other_last.saturating_add(1) >= first)
        {
            first = first.min(other_first);
            last = last.max(other_last);
            self.free.remove(&other_first);
        }
        self.free.insert(first, last);
    }

    /// Keeps only what lies in `allowed` too.
    pub(super) fn intersect(&mut self, allowed: &[RangeInclusive<u64>]) {
        let mut kept = Self::default();
        for (&first, &last) in &self.free {
            for range in allowed {
                kept.insert(first.max(*range.start()), last.min(*range.end()));
            }
        }
        *self = kept;
    }

    /// Bytes that are free in all, and in the largest piece.
    pub(super) fn free_bytes(&self) -> (u64, u64) {
        self.free.iter().fold((0, 0), |(sum, most), (first, last)| {
            let bytes = (last - first).saturating_add(1);
            (u64::saturating_add(sum, bytes), most.max(bytes))
        })
    }
}

/// Whether `start..=last` lies in one of the ranges.
pub(super) fn contains(ranges: &[RangeInclusive<u64>], start: u64, last: u64) -> bool {
    ranges
        .iter()
        .any(|range| *range.start() <= start && last <= *range.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lowest_aligned_place_is_taken() {
        let mut ranges = Ranges::new([0x1000..=0xFFFF]);
        assert_eq!(ranges.take(0x1000, 0x4000), Some(0x4000));
        assert_eq!(ranges.take(0x1000, 0x1000), Some(0x1000));
        assert_eq!(ranges.take(0x10000, 0x1000), None);
    }

    #[test]
    fn a_hole_is_never_part_of_what_is_taken() {
        let msi = 0xFEE0_0000..=0xFEEF_FFFFu64;
        let mut ranges = Ranges::new([0..=msi.start() - 1, msi.end() + 1..=u64::MAX]);
        ranges.take(*msi.start() - 0x1000, 0x1000).unwrap();
        let next = ranges.take(0x2000, 0x1000).unwrap();
        assert!(next > *msi.end());
    }

    #[test]
    fn the_whole_of_64_bits_can_be_held_and_shrunk() {
        let mut ranges = Ranges::new([0..=u64::MAX]);
        assert_eq!(ranges.free_bytes(), (u64::MAX, u64::MAX));
        ranges.intersect(&[0x1000..=(1 << 40) - 1]);
        assert_eq!(ranges.free_bytes().0, (1 << 40) - 0x1000);
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_and_everything_comes_back(
            sizes in proptest::collection::vec((1u64..40, 0u32..4), 1..60),
            order in any::<u64>(),
        ) {
            let all = 0x1000..=0xF_FFFFu64;
            let mut ranges = Ranges::new([all.clone()]);
            let before = ranges.free_bytes();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (i, (pages, align)) in sizes.iter().enumerate() {
                let length = pages * 0x1000;
                if let Some(start) = ranges.take(length, 0x1000 << align) {
                    prop_assert_eq!(start % (0x1000 << align), 0);
                    prop_assert!(contains(std::slice::from_ref(&all), start, start + length - 1));
                    for &(other, size) in &taken {
                        prop_assert!(start + length <= other || other + size <= start);
                    }
                    taken.push((start, length));
                }
                if order >> (i % 64) & 1 == 1 && let Some((start, length)) = taken.pop() {
                    ranges.give(start, length);
                }
            }
            while !taken.is_empty() {
                let (start, length) = taken.swap_remove(order as usize % taken.len());
                ranges.give(start, length);
            }
            prop_assert_eq!(ranges.free_bytes(), before);
        }
    }
}
