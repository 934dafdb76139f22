//! Which device memory belongs to whom.

use std::collections::BTreeMap;

use auk_asic::Status;
use auk_asic::admin::MEMORY_GRANULE;

/// A piece of device memory that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// Bytes, a multiple of the granule.
    pub(crate) length: u64,
    /// Whose it is.
    pub(crate) context: u32,
}

/// First-fit allocator. The first granule is never given away: the self-test has it, and so no
/// allocation has address 0.
#[derive(Debug)]
pub(crate) struct Allocator {
    memory: u64,
    taken: BTreeMap<u64, Allocation>,
    used: u64,
}

impl Allocator {
    pub(crate) fn new(memory: u64) -> Self {
        Self {
            memory,
            taken: BTreeMap::new(),
            used: 0,
        }
    }

    /// Bytes that can be allocated when nothing is.
    pub(crate) fn capacity(&self) -> u64 {
        self.memory - MEMORY_GRANULE
    }

    /// Bytes that are allocated.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that `length` takes.
    pub(crate) fn rounded(length: u64) -> Option<u64> {
        length.checked_next_multiple_of(MEMORY_GRANULE)
    }

    /// The address of `length` bytes, rounded up to the granule.
    ///
    /// # Errors
    /// [`Status::InvalidField`] for no bytes or a wrong alignment, [`Status::OutOfMemory`].
    pub(crate) fn allocate(
        &mut self,
        length: u64,
        align: u64,
        context: u32,
    ) -> Result<u64, Status> {
        if length == 0 || !align.is_power_of_two() || align < MEMORY_GRANULE {
            return Err(Status::InvalidField);
        }
        let length = Self::rounded(length).ok_or(Status::OutOfMemory)?;
        let mut start = MEMORY_GRANULE;
        let taken = self.taken.iter().map(|(&at, piece)| (at, piece.length));
        for (next, next_length) in taken.chain([(self.memory, 0)]) {
            let aligned = start
                .checked_next_multiple_of(align)
                .ok_or(Status::OutOfMemory)?;
            if aligned.checked_add(length).is_some_and(|end| end <= next) {
                self.taken.insert(aligned, Allocation { length, context });
                self.used += length;
                return Ok(aligned);
            }
            start = next + next_length;
        }
        Err(Status::OutOfMemory)
    }

    /// The allocation that starts at `address`.
    pub(crate) fn at(&self, address: u64) -> Option<Allocation> {
        self.taken.get(&address).copied()
    }

    /// Frees what starts at `address`.
    pub(crate) fn free(&mut self, address: u64) -> Option<Allocation> {
        let freed = self.taken.remove(&address)?;
        self.used -= freed.length;
        Some(freed)
    }

    /// Frees all of a context.
    pub(crate) fn free_context(&mut self, context: u32) {
        self.taken.retain(|_, piece| piece.context != context);
        self.used = self.taken.values().map(|piece| piece.length).sum();
    }

    /// Address and bytes of all that a context has.
    pub(crate) fn of_context(&self, context: u32) -> impl Iterator<Item = (u64, u64)> {
        self.taken
            .iter()
            .filter(move |(_, piece)| piece.context == context)
            .map(|(&address, piece)| (address, piece.length))
    }

    /// Bytes that a context has.
    pub(crate) fn used_by(&self, context: u32) -> u64 {
        self.of_context(context).map(|(_, length)| length).sum()
    }

    /// Whether `length` bytes at `address` lie in one allocation of the context.
    pub(crate) fn owns(&self, context: u32, address: u64, length: u64) -> bool {
        let Some(end) = address.checked_add(length) else {
            return false;
        };
        self.taken
            .range(..=address)
            .next_back()
            .is_some_and(|(&start, piece)| piece.context == context && end <= start + piece.length)
    }

    pub(crate) fn clear(&mut self) {
        self.taken.clear();
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_granule_is_never_given_away() {
        let mut allocator = Allocator::new(1 << 20);
        assert_eq!(allocator.allocate(1, 4096, 0), Ok(4096));
    }

    #[test]
    fn everything_but_the_first_granule_can_be_allocated() {
        let mut allocator = Allocator::new(1 << 20);
        let all = allocator.capacity();
        assert_eq!(allocator.allocate(all, 4096, 0), Ok(4096));
        assert_eq!(allocator.allocate(1, 4096, 0), Err(Status::OutOfMemory));
    }

    #[test]
    fn lengths_near_the_end_of_the_numbers_are_refused() {
        let mut allocator = Allocator::new(1 << 20);
        for length in [u64::MAX, u64::MAX - 4096, 1 << 63] {
            assert_eq!(
                allocator.allocate(length, 4096, 0),
                Err(Status::OutOfMemory)
            );
        }
        assert_eq!(
            allocator.allocate(4096, 1 << 63, 0),
            Err(Status::OutOfMemory)
        );
    }

    #[test]
    fn a_range_over_two_neighbouring_allocations_is_owned_by_nobody() {
        let mut allocator = Allocator::new(1 << 20);
        let first = allocator.allocate(4096, 4096, 7).unwrap();
        allocator.allocate(4096, 4096, 7).unwrap();
        assert!(allocator.owns(7, first, 4096));
        assert!(!allocator.owns(7, first, 4097));
        assert!(!allocator.owns(8, first, 1));
        assert!(!allocator.owns(7, u64::MAX, 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Allocate { length: u64, align_log2: u32 },
        Free { which: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1u64..200_000, 12u32..18)
                .prop_map(|(length, align_log2)| Step::Allocate { length, align_log2 }),
            any::<usize>().prop_map(|which| Step::Free { which }),
        ];
        prop::collection::vec(step, 1..100)
    }

    proptest! {
        #[test]
        fn allocations_are_aligned_inside_the_memory_and_never_overlap(steps in steps()) {
            let memory = 1 << 20;
            let mut allocator = Allocator::new(memory);
            let mut model: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate { length, align_log2 } => {
                        let align = 1 << align_log2;
                        if let Ok(address) = allocator.allocate(length, align, 1) {
                            let end = address + length.next_multiple_of(4096);
                            prop_assert_eq!(address % align, 0);
                            prop_assert!(address >= 4096 && end <= memory);
                            for &(from, to) in &model {
                                prop_assert!(end <= from || address >= to);
                            }
                            model.push((address, end));
                        }
                    }
                    Step::Free { which } if !model.is_empty() => {
                        let (address, _) = model.swap_remove(which % model.len());
                        prop_assert!(allocator.free(address).is_some());
                        prop_assert!(allocator.free(address).is_none());
                    }
                    Step::Free { .. } => {}
                }
                let used: u64 = model.iter().map(|(from, to)| to - from).sum();
                prop_assert_eq!(allocator.used(), used);
            }
        }
    }
}
