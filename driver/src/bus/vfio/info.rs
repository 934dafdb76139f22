//! The answers of VFIO's info ioctls: a structure, and a chain of capabilities behind it.
//!
//! `struct vfio_info_cap_header` of `<linux/vfio.h>`: a capability begins with its identifier, its version and the offset of
//! the next, counted from the beginning of the structure; 0 ends the chain.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use vfio_bindings::bindings::vfio;

use crate::bus::MmapArea;

/// Bytes of a capability's header.
const HEADER: usize = size_of::<vfio::vfio_info_cap_header>();

/// What is wrong with an answer; the kernel is broken, or is another one than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer is malformed at byte {offset}: {problem}")]
pub(super) struct BadInfo {
    offset: usize,
    problem: &'static str,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub(super) struct Info(Vec<u8>);

/// One capability; its body reaches to the end of the answer, since no length is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability<'a> {
    pub(super) id: u32,
    info: &'a Info,
    offset: usize,
}

impl Info {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn u32(&self, offset: usize) -> Result<u32, BadInfo> {
        self.take(offset).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&self, offset: usize) -> Result<u64, BadInfo> {
        self.take(offset).map(u64::from_ne_bytes)
    }

    pub(super) fn take<const N: usize>(&self, offset: usize) -> Result<[u8; N], BadInfo> {
        offset
            .checked_add(N)
            .and_then(|end| self.0.get(offset..end))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(BadInfo {
                offset,
                problem: "it ends before that",
            })
    }

    /// Follows the chain from `first`, which may be 0 for none.
    pub(super) fn capabilities(&self, first: u32) -> Result<Vec<Capability<'_>>, BadInfo> {
        let mut found: Vec<Capability<'_>> = Vec::new();
        let mut next = first as usize;
        while next != 0 {
            let offset = next;
            let broken = |problem| BadInfo { offset, problem };
            if found.iter().any(|seen| seen.offset == offset) {
                return Err(broken("the chain of capabilities leads back"));
            }
            let [id, id_high, _, _] = self.take(offset)?;
            found.push(Capability {
                id: u32::from(u16::from_ne_bytes([id, id_high])),
                info: self,
                offset,
            });
            next = self.u32(offset + offset_of!(vfio::vfio_info_cap_header, next))? as usize;
        }
        Ok(found)
    }
}

impl Capability<'_> {
    /// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`: the parts of a region of `size` bytes that may be mapped.
    pub(super) fn sparse_areas(self, size: u64) -> Result<Vec<MmapArea>, BadInfo> {
        let pairs = self.pairs()?;
        let mut areas = Vec::with_capacity(pairs.len());
        for (offset, length) in pairs {
            if offset.checked_add(length).is_none_or(|end| end > size) {
                return Err(self.broken("a mappable area ends behind its region"));
            }
            // Drivers leave empty areas for what they do not show.
            if length > 0 {
                areas.push(MmapArea {
                    offset,
                    size: length,
                });
            }
        }
        Ok(areas)
    }

    /// `VFIO_REGION_INFO_CAP_TYPE`: type and subtype of a device-specific region.
    pub(super) fn region_type(self) -> Result<(u32, u32), BadInfo> {
        Ok((
            self.u32(offset_of!(vfio::vfio_region_info_cap_type, type_))?,
            self.u32(offset_of!(vfio::vfio_region_info_cap_type, subtype))?,
        ))
    }

    /// `VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE`: what may be mapped, sorted.
    pub(super) fn iova_ranges(self) -> Result<Vec<RangeInclusive<u64>>, BadInfo> {
        sorted(self.pairs()?)
            .ok_or_else(|| self.broken("an IOVA range is empty or overlaps another"))
    }

    /// `VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL`: mappings that can still be made.
    pub(super) fn dma_avail(self) -> Result<u32, BadInfo> {
        self.u32(offset_of!(vfio::vfio_iommu_type1_info_dma_avail, avail))
    }

    fn u32(self, offset: usize) -> Result<u32, BadInfo> {
        self.info.u32(self.offset + offset)
    }

    /// A count, a reserved word and as many pairs of 64-bit numbers: the form of sparse areas and of IOVA ranges.
    fn pairs(self) -> Result<Vec<(u64, u64)>, BadInfo> {
        let count = self.u32(HEADER)? as usize;
        let start = self.offset + HEADER + 8;
        let left = self.info.0.len().saturating_sub(start);
        if count > left / 16 {
            return Err(self.broken("it counts more entries than it holds"));
        }
        (0..count)
            .map(|i| {
                let at = start + 16 * i;
                Ok((self.info.u64(at)?, self.info.u64(at + 8)?))
            })
            .collect()
    }

    const fn broken(self, problem: &'static str) -> BadInfo {
        BadInfo {
            offset: self.offset,
            problem,
        }
    }
}

/// Pairs of first and last address as ranges in order, or `None` if one is empty or two overlap.
pub(super) fn sorted(mut pairs: Vec<(u64, u64)>) -> Option<Vec<RangeInclusive<u64>>> {
    pairs.sort_unstable();
    let ordered = pairs.iter().all(|(first, last)| first <= last)
        && pairs.windows(2).all(|pair| pair[0].1 < pair[1].0);
    ordered.then(|| {
        pairs
            .into_iter()
            .map(|(first, last)| first..=last)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer of `fixed` bytes with capabilities behind it, each an identifier and a body.
    fn chained(fixed: usize, capabilities: &[(u16, Vec<u8>)]) -> Info {
        let mut bytes = vec![0; fixed];
        for (i, (id, body)) in capabilities.iter().enumerate() {
            let next = if i + 1 == capabilities.len() {
                0
            } else {
                (bytes.len() + HEADER + body.len()) as u32
            };
            bytes.extend(id.to_ne_bytes());
            bytes.extend(1u16.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend(body);
        }
        Info::new(bytes)
    }

    fn pairs(entries: &[(u64, u64)]) -> Vec<u8> {
        let mut body = (entries.len() as u64).to_ne_bytes().to_vec();
        for (a, b) in entries {
            body.extend(a.to_ne_bytes());
            body.extend(b.to_ne_bytes());
        }
        body
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let info = chained(
            24,
            &[
                (1, pairs(&[(0, 0xFEDF_FFFF), (0xFEF0_0000, (1 << 39) - 1)])),
                (3, 65_535u64.to_ne_bytes().to_vec()),
            ],
        );
        let found = info.capabilities(24).unwrap();
        assert_eq!(
            found[0].iova_ranges().unwrap(),
            [0..=0xFEDF_FFFF, 0xFEF0_0000..=(1 << 39) - 1]
        );
        assert_eq!(found[1].id, vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
        assert_eq!(found[1].dma_avail().unwrap(), 65_535);
        assert!(info.capabilities(0).unwrap().is_empty());
    }

    #[test]
    fn a_chain_that_leads_back_or_outside_is_refused() {
        let mut circle = chained(32, &[(1, vec![0; 8]), (2, vec![0; 8])]);
        circle.0[52..56].copy_from_slice(&32u32.to_ne_bytes());
        assert!(circle.capabilities(32).is_err());
        assert!(circle.capabilities(1 << 20).is_err());
        assert!(circle.capabilities(u32::MAX).is_err());
    }

    #[test]
    fn a_count_beyond_the_answer_is_refused() {
        let mut body = pairs(&[(0, 4096)]);
        body[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let info = chained(32, &[(1, body)]);
        assert!(
            info.capabilities(32).unwrap()[0]
                .sparse_areas(8192)
                .is_err()
        );
    }

    #[test]
    fn an_area_behind_its_region_is_refused_and_an_empty_one_left_out() {
        let info = chained(32, &[(1, pairs(&[(0, 4096), (4096, 0)]))]);
        let areas = info.capabilities(32).unwrap()[0]
            .sparse_areas(4096)
            .unwrap();
        assert_eq!(
            areas,
            [MmapArea {
                offset: 0,
                size: 4096
            }]
        );
        for area in [(0, 8192), (4096, 1), (u64::MAX, 1)] {
            let info = chained(32, &[(1, pairs(&[area]))]);
            assert!(
                info.capabilities(32).unwrap()[0]
                    .sparse_areas(4096)
                    .is_err()
            );
        }
    }

    #[test]
    fn ranges_come_sorted_and_never_overlap() {
        assert_eq!(sorted(vec![(8, 9), (1, 2)]), Some(vec![1..=2, 8..=9]));
        assert_eq!(sorted(vec![(1, 5), (5, 9)]), None);
        assert_eq!(sorted(vec![(5, 1)]), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic_or_run_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            // Small offsets too, so that chains are followed for more than one step.
            words in proptest::collection::vec((0usize..75, 0u32..300), 0..40),
            first: u32,
        ) {
            let mut bytes = bytes;
            for (word, value) in words {
                if let Some(slot) = bytes.get_mut(word * 4..word * 4 + 4) {
                    slot.copy_from_slice(&value.to_ne_bytes());
                }
            }
            let info = Info::new(bytes);
            for first in [first, first % 300] {
                for capability in info.capabilities(first).unwrap_or_default() {
                    let _ = capability.sparse_areas(1 << 20);
                    let _ = capability.region_type();
                    let _ = capability.iova_ranges();
                    let _ = capability.dma_avail();
                }
            }
        }
    }
}
