//! Which IOVA leads to which memory: a table that is never changed, only replaced.

use std::sync::Arc;

use super::{Access, DmaFault, Window};
use crate::memory::SharedMemory;
use crate::model::Protection;

/// Entries to a chunk at most. A change copies one chunk and the list of chunks, so its cost grows with the
/// square root of the number of mappings, up to the 65,535 of the protocol.
const CHUNK: usize = 256;

/// Client memory at an IOVA.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) iova: u64,
    /// Last address.
    pub(super) last: u64,
    pub(super) protection: Protection,
    /// `None` for memory that the client has not shared.
    pub(super) memory: Option<Arc<Shared>>,
}

/// Memory, and what tells that it has been unmapped.
#[derive(Debug)]
pub(super) struct Shared {
    /// Dropped, and so unmapped, before the notice is given.
    pub(super) memory: SharedMemory,
    pub(super) notice: super::space::Notice,
}

impl Entry {
    fn contains(&self, iova: u64) -> bool {
        self.iova <= iova && iova <= self.last
    }

    /// The part of `len` bytes, at least one, at `iova`, an address of this entry, that lies in it.
    fn window(&self, iova: u64, len: u64, access: Access) -> Result<Window<'_>, DmaFault> {
        let allowed = match access {
            Access::Read => self.protection.read,
            Access::Write => self.protection.write,
        };
        if !allowed {
            return Err(DmaFault::Forbidden { iova, access });
        }
        let memory = self.memory.as_ref().ok_or(DmaFault::NotShared { iova })?;
        let rest = self.last - iova;
        let len = if len - 1 <= rest { len } else { rest + 1 };
        Ok(Window::new(memory, iova - self.iova, len))
    }
}

/// Entries by IOVA; they do not overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// None is empty.
    chunks: Vec<Arc<Vec<Entry>>>,
}

/// Where an entry is.
pub(super) type Place = (usize, usize);

impl Table {
    /// Where the last entry is that begins at `iova` or before.
    fn place(&self, iova: u64) -> Option<Place> {
        let begins_before =
            |chunk: &Arc<Vec<Entry>>| chunk.first().is_some_and(|entry| entry.iova <= iova);
        let chunk = self.chunks.partition_point(begins_before).checked_sub(1)?;
        let entry = self
            .chunks
            .get(chunk)?
            .partition_point(|entry| entry.iova <= iova)
            .checked_sub(1)?;
        Some((chunk, entry))
    }

    fn get(&self, (chunk, entry): Place) -> Option<&Entry> {
        self.chunks.get(chunk)?.get(entry)
    }

    /// The memory at `iova`, as much of `len` bytes as one entry has. `hint` is where to look first, and
    /// becomes where it was found.
    pub(super) fn window(
        &self,
        iova: u64,
        len: u64,
        access: Access,
        hint: &mut Place,
    ) -> Result<Window<'_>, DmaFault> {
        if let Some(entry) = self.get(*hint).filter(|entry| entry.contains(iova)) {
            return entry.window(iova, len, access);
        }
        let unmapped = DmaFault::Unmapped { iova };
        let place = self.place(iova).ok_or(unmapped)?;
        let entry = self
            .get(place)
            .filter(|entry| entry.contains(iova))
            .ok_or(unmapped)?;
        *hint = place;
        entry.window(iova, len, access)
    }

    /// Whether any entry has an address from `iova` to `last`.
    pub(super) fn overlaps(&self, iova: u64, last: u64) -> bool {
        self.place(last)
            .and_then(|place| self.get(place))
            .is_some_and(|entry| entry.last >= iova)
    }

    /// This table with one more entry, which overlaps none.
    pub(super) fn with(&self, entry: Entry) -> Self {
        let mut chunks = self.chunks.clone();
        let place = self.place(entry.iova);
        let (chunk, at) = place.map_or((0, 0), |(chunk, before)| (chunk, before + 1));
        let mut entries = chunks
            .get(chunk)
            .map_or_else(Vec::new, |chunk| chunk.to_vec());
        entries.insert(at, entry);
        let right = (entries.len() > CHUNK).then(|| entries.split_off(entries.len() / 2));
        let parts = std::iter::once(entries).chain(right).map(Arc::new);
        chunks.splice(chunk..(chunk + 1).min(self.chunks.len()), parts);
        Self { chunks }
    }

    /// This table without the entry that has exactly this place and size, and that entry's memory.
    pub(super) fn without(&self, iova: u64, last: u64) -> Option<(Self, Option<Arc<Shared>>)> {
        let (chunk, at) = self.place(iova)?;
        let mut entries = self.chunks.get(chunk)?.to_vec();
        if entries
            .get(at)
            .is_none_or(|entry| (entry.iova, entry.last) != (iova, last))
        {
            return None;
        }
        let memory = entries.remove(at).memory;
        let mut chunks = self.chunks.clone();
        let rest = (!entries.is_empty()).then(|| Arc::new(entries));
        chunks.splice(chunk..=chunk, rest);
        Some((Self { chunks }, memory))
    }

    /// Every entry's memory.
    pub(super) fn memories(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .filter_map(|entry| entry.memory.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn entry(iova: u64, last: u64) -> Entry {
        Entry {
            iova,
            last,
            protection: Protection::READ,
            memory: None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn a_table_finds_what_a_plain_map_finds(
            changes in prop::collection::vec((any::<bool>(), 0_u64..2000, 1_u64..4), 0..3000),
            probes in prop::collection::vec(0_u64..2100, 0..100),
        ) {
            let mut table = Table::default();
            let mut plain = BTreeMap::new();
            for (add, iova, size) in changes {
                let last = iova + size - 1;
                let before = plain.range(..=last).next_back();
                let overlaps = before.is_some_and(|(_, &end): (&u64, &u64)| end >= iova);
                prop_assert_eq!(table.overlaps(iova, last), overlaps);
                if add && !overlaps {
                    table = table.with(entry(iova, last));
                    plain.insert(iova, last);
                } else if !add {
                    let exact = plain.get(&iova) == Some(&last);
                    let without = table.without(iova, last);
                    prop_assert_eq!(without.is_some(), exact);
                    if let Some((rest, _)) = without {
                        table = rest;
                        plain.remove(&iova);
                    }
                }
            }
            prop_assert!(table.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
            let mut hint = (0, 0);
            for iova in probes {
                let mapped = plain.iter().any(|(&first, &last)| first <= iova && iova <= last);
                let fault = table.window(iova, 1, Access::Read, &mut hint).unwrap_err();
                let expected = if mapped { DmaFault::NotShared { iova } } else { DmaFault::Unmapped { iova } };
                prop_assert_eq!(fault, expected);
            }
        }
    }

    #[test]
    fn a_full_address_space_of_mappings_is_kept_in_order() {
        let mut table = Table::default();
        for page in (0..65_535_u64).map(|page| page * 7919 % 65_537) {
            table = table.with(entry(page << 12, (page << 12) + 0xfff));
        }
        assert!(
            table
                .chunks
                .iter()
                .flat_map(|chunk| chunk.iter())
                .is_sorted_by_key(|entry| entry.iova)
        );
        assert!(table.overlaps(5 << 12, 5 << 12));
    }
}
