//! Which DMA ranges a client has mapped.

use std::collections::BTreeMap;

use crate::Errno;
use crate::wire::{DmaMapRequest, DmaUnmapRequest};

/// The ranges, by first address, with their sizes. They are not empty, do not wrap and do not overlap.
#[derive(Debug)]
pub(super) struct Ranges {
    ranges: BTreeMap<u64, u64>,
    most: usize,
    /// Smallest page, in bytes: addresses and sizes are its multiples.
    page: u64,
}

impl Ranges {
    pub(super) fn new(most: usize, page: u64) -> Self {
        Self {
            ranges: BTreeMap::new(),
            most,
            page,
        }
    }

    /// Whether a range may be mapped.
    ///
    /// # Errors
    /// `EINVAL` for a range that is empty, unaligned or wraps, or an offset no file has; `EEXIST` for one that
    /// overlaps another; `ENOSPC` when there are as many ranges as agreed.
    pub(super) fn check(&self, request: &DmaMapRequest, has_fd: bool) -> Result<(), Errno> {
        let DmaMapRequest {
            address,
            size,
            offset,
            ..
        } = *request;
        let last = size
            .checked_sub(1)
            .and_then(|rest| address.checked_add(rest))
            .ok_or(Errno::EINVAL)?;
        if (address | size) & (self.page - 1) != 0 {
            return Err(Errno::EINVAL);
        }
        let end_in_file = offset
            .checked_add(size)
            .and_then(|end| i64::try_from(end).ok());
        if has_fd && (end_in_file.is_none() || offset & (self.page - 1) != 0)
            || !has_fd && offset != 0
        {
            return Err(Errno::EINVAL);
        }
        let before = self.ranges.range(..=last).next_back();
        if before.is_some_and(|(&first, &size)| first + (size - 1) >= address) {
            return Err(Errno::EEXIST);
        }
        if self.ranges.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Notes that a range is mapped, which [`Ranges::check`] has allowed.
    pub(super) fn insert(&mut self, request: &DmaMapRequest) {
        self.ranges.insert(request.address, request.size);
    }

    /// The ranges that an unmap means. None is fine: clients unmap whole address spaces to be sure.
    ///
    /// # Errors
    /// `EINVAL` when a range is only partly meant.
    pub(super) fn meant_by(&self, request: &DmaUnmapRequest) -> Result<Vec<(u64, u64)>, Errno> {
        if request.is_all() {
            return Ok(self
                .ranges
                .iter()
                .map(|(&first, &size)| (first, size))
                .collect());
        }
        let (first, last) = (request.address, request.last());
        let before = self.ranges.range(..first).next_back();
        if before.is_some_and(|(&start, &size)| start + (size - 1) >= first) {
            return Err(Errno::EINVAL);
        }
        let meant: Vec<_> = self
            .ranges
            .range(first..=last)
            .map(|(&start, &size)| (start, size))
            .collect();
        if meant
            .last()
            .is_some_and(|&(start, size)| start + (size - 1) > last)
        {
            return Err(Errno::EINVAL);
        }
        Ok(meant)
    }

    /// Notes that a range is mapped no more.
    pub(super) fn remove(&mut self, first: u64) {
        self.ranges.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protection;

    fn map(ranges: &mut Ranges, address: u64, size: u64) -> Result<(), Errno> {
        let request = DmaMapRequest::new(address, size, Protection::READ, 0);
        ranges
            .check(&request, true)
            .map(|()| ranges.insert(&request))
    }

    fn unmap(ranges: &Ranges, address: u64, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
        ranges.meant_by(&DmaUnmapRequest::new(address, size))
    }

    #[test]
    fn overlaps_are_refused_and_neighbours_are_not() {
        let mut ranges = Ranges::new(10, 4096);
        map(&mut ranges, 0x2000, 0x2000).unwrap();
        for (address, size) in [
            (0x2000, 0x1000),
            (0x1000, 0x2000),
            (0x3000, 0x2000),
            (0, 0x10000),
        ] {
            assert_eq!(map(&mut ranges, address, size), Err(Errno::EEXIST));
        }
        map(&mut ranges, 0x1000, 0x1000).unwrap();
        map(&mut ranges, 0x4000, 0x1000).unwrap();
        map(&mut ranges, 0_u64.wrapping_sub(0x1000), 0x1000).unwrap();
    }

    #[test]
    fn what_is_empty_unaligned_or_wraps_is_refused() {
        let mut ranges = Ranges::new(10, 4096);
        for (address, size) in [
            (0, 0),
            (1, 0x1000),
            (0, 0x1001),
            (0x1000, 0_u64.wrapping_sub(0xfff)),
        ] {
            assert_eq!(map(&mut ranges, address, size), Err(Errno::EINVAL));
        }
        let beyond_any_file =
            DmaMapRequest::new(0, 0x1000, Protection::READ, i64::MAX as u64 & !0xfff);
        assert_eq!(ranges.check(&beyond_any_file, true), Err(Errno::EINVAL));
        let offset_into_nothing = DmaMapRequest::new(0, 0x1000, Protection::READ, 0x1000);
        assert_eq!(
            ranges.check(&offset_into_nothing, false),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn the_number_of_ranges_is_limited() {
        let mut ranges = Ranges::new(2, 4096);
        map(&mut ranges, 0, 0x1000).unwrap();
        map(&mut ranges, 0x1000, 0x1000).unwrap();
        assert_eq!(map(&mut ranges, 0x2000, 0x1000), Err(Errno::ENOSPC));
    }

    #[test]
    fn an_unmap_means_whole_ranges_or_none() {
        let mut ranges = Ranges::new(10, 4096);
        map(&mut ranges, 0x2000, 0x2000).unwrap();
        map(&mut ranges, 0x8000, 0x1000).unwrap();
        assert_eq!(unmap(&ranges, 0x2000, 0x2000), Ok(vec![(0x2000, 0x2000)]));
        assert_eq!(
            unmap(&ranges, 0, u64::MAX),
            Ok(vec![(0x2000, 0x2000), (0x8000, 0x1000)])
        );
        assert_eq!(unmap(&ranges, 0x4000, 0x4000), Ok(vec![]));
        assert_eq!(unmap(&ranges, 0x2000, 0x1000), Err(Errno::EINVAL));
        assert_eq!(unmap(&ranges, 0x3000, 0x1000), Err(Errno::EINVAL));
        assert_eq!(
            ranges
                .meant_by(&DmaUnmapRequest::all())
                .map(|all| all.len()),
            Ok(2)
        );
    }
}
