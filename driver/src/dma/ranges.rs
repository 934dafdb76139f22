//! Free ranges of an address space: IOVAs, and the free pieces of what is mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// The free part of an address space; neighbours are always merged, so that weeks of use do not wear it out.
///
/// Every operation takes a time that grows with the logarithm of the number of free ranges.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    /// Last address of each free range by its first.
    free: BTreeMap<u64, u64>,
    /// The same ranges by what fits in them, an index for each alignment that is asked for.
    fits: Vec<Fit>,
}

#[derive(Clone, Debug)]
struct Fit {
    align: u64,
    /// Of each range with an aligned address in it: how far that is from the last one, and the range's first address.
    ranges: BTreeSet<(u64, u64)>,
}

impl Fit {
    /// The first aligned address of a range.
    fn start(&self, first: u64, last: u64) -> Option<u64> {
        first
            .checked_next_multiple_of(self.align)
            .filter(|start| *start <= last)
    }
}

impl Ranges {
    /// For pieces at multiples of these alignments, which ascend.
    pub(super) fn new(
        alignments: &[u64],
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> Self {
        let fits = alignments.iter().map(|&align| Fit {
            align,
            ranges: BTreeSet::new(),
        });
        let mut new = Self {
            free: BTreeMap::new(),
            fits: fits.collect(),
        };
        for range in ranges {
            new.insert(*range.start(), *range.end(), &(0..=u64::MAX));
        }
        new
    }

    /// Takes `length` bytes that begin at a multiple of `align`, from the smallest range that has them.
    pub(super) fn take(&mut self, length: u64, align: u64) -> Option<u64> {
        let more = length.checked_sub(1)?;
        let fit = self.fits.iter().find(|fit| fit.align >= align)?;
        let &(_, first) = fit.ranges.range((more, 0)..).next()?;
        let last = *self.free.get(&first)?;
        let start = fit.start(first, last)?;
        self.remove(first, last);
        if first < start {
            self.add(first, start - 1);
        }
        if last - start > more {
            self.add(start + length, last);
        }
        Some(start)
    }

    /// Gives back what [`Ranges::take`] gave. It is merged with what is free beside it, as far as that lies in `within`.
    pub(super) fn give(&mut self, start: u64, length: u64, within: &RangeInclusive<u64>) {
        if let Some(more) = length.checked_sub(1) {
            self.insert(start, start.saturating_add(more), within);
        }
    }

    /// Takes exactly these bytes, which are a free range of their own.
    pub(super) fn take_range(&mut self, start: u64, length: u64) -> bool {
        let whole = self
            .free
            .get(&start)
            .is_some_and(|last| last - start == length.wrapping_sub(1));
        if whole {
            self.remove(start, start + (length - 1));
        }
        whole
    }

    fn insert(&mut self, mut first: u64, mut last: u64, within: &RangeInclusive<u64>) {
        if first > last {
            return;
        }
        // Everything that overlaps or touches becomes one; no free range lies across an end of `within`.
        let reach = *within.start()..=last.saturating_add(1).min(*within.end());
        while let Some((&other_first, &other_last)) = self
            .free
            .range(reach.clone())
            .next_back()
            .filter(|(_, other_last)| other_last.saturating_add(1) >= first)
        {
            self.remove(other_first, other_last);
            first = first.min(other_first);
            last = last.max(other_last);
        }
        self.add(first, last);
    }

    fn add(&mut self, first: u64, last: u64) {
        self.free.insert(first, last);
        for fit in &mut self.fits {
            if let Some(start) = fit.start(first, last) {
                fit.ranges.insert((last - start, first));
            }
        }
    }

    fn remove(&mut self, first: u64, last: u64) {
        self.free.remove(&first);
        for fit in &mut self.fits {
            if let Some(start) = fit.start(first, last) {
                fit.ranges.remove(&(last - start, first));
            }
        }
    }

    /// Keeps only what lies in `allowed` too.
    pub(super) fn intersect(&mut self, allowed: &[RangeInclusive<u64>]) {
        let alignments: Vec<u64> = self.fits.iter().map(|fit| fit.align).collect();
        let pieces = self.free.iter().flat_map(|(&first, &last)| {
            allowed
                .iter()
                .map(move |range| first.max(*range.start())..=last.min(*range.end()))
        });
        *self = Self::new(&alignments, pieces);
    }

    /// How many free ranges there are.
    pub(super) fn count(&self) -> usize {
        self.free.len()
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

    const PAGE: u64 = 0x1000;
    const ALIGNMENTS: [u64; 3] = [PAGE, 4 * PAGE, 16 * PAGE];
    const EVERYWHERE: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn the_smallest_range_that_fits_when_aligned_is_taken() {
        let mut ranges = Ranges::new(&ALIGNMENTS, [0x1000..=0x4FFF, 0x1_1000..=0xF_FFFF]);
        assert_eq!(ranges.take(PAGE, PAGE), Some(0x1000));
        assert_eq!(ranges.take(PAGE, 4 * PAGE), Some(0x4000));
        assert_eq!(ranges.take(2 * PAGE, 16 * PAGE), Some(0x2_0000));
        assert_eq!(ranges.take(0x100_0000, PAGE), None);
        assert_eq!(
            ranges.take(PAGE, 64 * PAGE),
            None,
            "no index has that alignment"
        );
    }

    #[test]
    fn a_hole_is_never_part_of_what_is_taken() {
        let msi = 0xFEE0_0000..=0xFEEF_FFFFu64;
        let mut ranges = Ranges::new(&ALIGNMENTS, [0..=msi.start() - 1, msi.end() + 1..=u64::MAX]);
        ranges.take(*msi.start() - PAGE, PAGE).unwrap();
        let next = ranges.take(2 * PAGE, PAGE).unwrap();
        assert!(next > *msi.end());
    }

    #[test]
    fn the_whole_of_64_bits_can_be_held_and_shrunk() {
        let mut ranges = Ranges::new(&ALIGNMENTS, [EVERYWHERE]);
        assert_eq!(ranges.free_bytes(), (u64::MAX, u64::MAX));
        for bits in [57, 48, 39] {
            ranges.intersect(&[PAGE..=(1 << bits) - 1]);
            assert_eq!(ranges.free_bytes().0, (1 << bits) - PAGE);
        }
        assert_eq!(ranges.take((1 << 39) - PAGE, PAGE), Some(PAGE));
    }

    #[test]
    fn what_lies_on_both_sides_of_a_border_is_not_merged() {
        let (low, high) = (0..=0x1FFFu64, 0x2000..=0x3FFFu64);
        let mut ranges = Ranges::new(&[PAGE], []);
        for start in [0x2000, 0, 0x1000, 0x3000] {
            let within = if low.contains(&start) { &low } else { &high };
            ranges.give(start, PAGE, within);
        }
        assert_eq!(ranges.count(), 2);
        assert_eq!(ranges.take(3 * PAGE, PAGE), None);
        assert!(!ranges.take_range(0, PAGE));
        assert!(ranges.take_range(0, 2 * PAGE));
        assert_eq!(ranges.count(), 1);
    }

    /// Pages of an address space, each free or not: the plainest allocator that there is.
    struct Model(Vec<bool>);

    impl Model {
        /// Whether an aligned run of free pages is anywhere.
        fn has(&self, pages: usize, align: usize) -> bool {
            (0..self.0.len())
                .step_by(align)
                .any(|at| self.is_free(at, pages))
        }

        fn is_free(&self, at: usize, pages: usize) -> bool {
            self.0
                .get(at..at + pages)
                .is_some_and(|run| run.iter().all(|free| *free))
        }

        fn set(&mut self, at: usize, pages: usize, free: bool) {
            self.0[at..at + pages].fill(free);
        }

        fn runs(&self) -> usize {
            let starts = self.0.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            starts + usize::from(self.0[0])
        }
    }

    proptest! {
        #[test]
        fn the_allocator_agrees_with_a_plain_model(
            steps in proptest::collection::vec((any::<bool>(), 1usize..40, 0usize..3, any::<usize>()), 1..200),
            hole in 40usize..200,
        ) {
            let mut model = Model(vec![true; 256]);
            model.set(0, 1, false);
            model.set(hole, 5, false);
            let at = |page: usize| page as u64 * PAGE;
            let mut ranges = Ranges::new(&ALIGNMENTS, [at(1)..=at(hole) - 1, at(hole + 5)..=at(256) - 1]);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (take, pages, align, which) in steps {
                let align = ALIGNMENTS[align];
                if take {
                    let pages_aligned = (align / PAGE) as usize;
                    match ranges.take(at(pages), align) {
                        Some(start) => {
                            prop_assert_eq!(start % align, 0);
                            let page = (start / PAGE) as usize;
                            prop_assert!(model.is_free(page, pages));
                            model.set(page, pages, false);
                            taken.push((page, pages));
                        }
                        None => prop_assert!(!model.has(pages, pages_aligned)),
                    }
                } else if !taken.is_empty() {
                    let (page, pages) = taken.swap_remove(which % taken.len());
                    ranges.give(at(page), at(pages), &EVERYWHERE);
                    model.set(page, pages, true);
                }
                prop_assert_eq!(ranges.count(), model.runs());
                let free = model.0.iter().filter(|free| **free).count();
                prop_assert_eq!(ranges.free_bytes().0, at(free));
            }
        }
    }
}
