//! The space against targets that refuse, forget and lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target that panics fails its test"
)]

mod abandoned;
mod budget;
mod placement;
mod register;
mod small;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::{DmaError, DmaSpace};
use crate::bus::{BusError, DmaRange, DmaTarget};

/// Two mebibytes: what one arena of small buffers takes.
const ARENA: u64 = 2 << 20;

/// A translation that remembers what is mapped, and fails on request.
#[derive(Default)]
struct Target {
    ranges: Vec<RangeInclusive<u64>>,
    /// Sizes of what is mapped, by IOVA.
    mapped: Mutex<BTreeMap<u64, u64>>,
    /// Mappings that it allows, 0 for any number.
    budget: u64,
    /// Bytes that it claims to have unmapped are so many fewer.
    forgets: AtomicU64,
    refuses: Mutex<bool>,
    /// Most bytes of a mapping, as of one that is to be pinned; 0 for any number.
    largest: u64,
    /// Maps by descriptor, as a peer behind a socket does.
    remote: bool,
    /// Nobody is there to ask any more.
    gone: AtomicBool,
    /// Refuses the next mapping as type1 does when it has no more.
    full: AtomicBool,
}

impl Target {
    fn new(ranges: &[RangeInclusive<u64>]) -> Arc<Self> {
        Arc::new(Self {
            ranges: ranges.to_vec(),
            ..Self::default()
        })
    }

    fn count(&self) -> usize {
        self.mapped.lock().unwrap().len()
    }
}

fn refused() -> BusError {
    BusError::Refused {
        what: "mapping".to_owned(),
        errno: std::io::Error::from_raw_os_error(libc::ENOSPC),
    }
}

impl DmaTarget for Target {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        Ok(self.ranges.clone())
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        Ok((self.budget != 0).then(|| self.budget.saturating_sub(self.count() as u64)))
    }

    fn pins(&self) -> bool {
        !self.remote
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        if *self.refuses.lock().unwrap() {
            return Err(refused());
        }
        if self.full.swap(false, Ordering::Relaxed) {
            return Err(BusError::MappingLimit);
        }
        if self.remote && range.fd().is_none() {
            return Err(BusError::NoDescriptor);
        }
        if self.largest != 0 && range.size() > self.largest {
            return Err(BusError::MemlockTooLow {
                length: range.size(),
                needed: range.size(),
                limit: self.largest,
            });
        }
        let mut mapped = self.mapped.lock().unwrap();
        let (start, end) = (range.iova(), range.iova() + range.size());
        let before = mapped.range(..end).next_back();
        assert!(before.is_none_or(|(iova, size)| iova + size <= start));
        assert!(
            self.ranges
                .iter()
                .any(|allowed| *allowed.start() <= start && end - 1 <= *allowed.end())
        );
        assert_ne!(range.address(), 0);
        mapped.insert(range.iova(), range.size());
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(BusError::Disconnected {
                reason: String::new(),
            });
        }
        let mut mapped = self.mapped.lock().unwrap();
        assert_eq!(mapped.remove(&iova), Some(size), "as it was mapped");
        Ok(size - self.forgets.load(Ordering::Relaxed).min(size))
    }
}

/// What is said in the log, from warnings on, while `work` runs.
fn warnings(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = log.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

const ALL: RangeInclusive<u64> = 0..=u64::MAX;

#[test]
fn many_small_buffers_are_one_mapping() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let buffers: Vec<_> = (0..512).map(|_| space.alloc(4096).unwrap()).collect();
    assert_eq!(target.count(), 1);
    assert_eq!(space.usage().used, ARENA);
    let one_more = space.alloc(1).unwrap();
    assert_eq!(target.count(), 2);
    drop((buffers, one_more));
    space.trim();
    assert_eq!((target.count(), space.usage().mapped), (0, 0));
}

#[test]
fn a_shared_target_is_mapped_until_its_last_function_goes() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    let _buffer = space.alloc(4096).unwrap();
    let shared: Arc<dyn DmaTarget> = target.clone();
    space.attach(target.clone(), u64::MAX).unwrap();
    space.attach(target.clone(), u64::MAX).unwrap();
    assert_eq!((target.count(), space.usage().mappings), (1, 1));
    space.detach(&shared);
    assert_eq!((target.count(), space.usage().mappings), (1, 1));
    space.detach(&shared);
    assert_eq!((target.count(), space.usage().mappings), (0, 0));
}

#[test]
fn buffers_are_at_one_iova_for_all_and_avoid_every_hole() {
    let space = DmaSpace::new();
    let msi = 0xFEE0_0000..=0xFEEF_FFFFu64;
    let first = Target::new(&[0..=msi.start() - 1, msi.end() + 1..=u64::MAX]);
    let second = Target::new(&[0x8000_0000..=0xFFFF_FFFF_FFFF]);
    space.attach(first.clone(), u64::MAX).unwrap();
    space.attach(second.clone(), (1 << 40) - 1).unwrap();
    let buffers: Vec<_> = (0..40).map(|_| space.alloc(64 << 20).unwrap()).collect();
    assert_eq!(
        *first.mapped.lock().unwrap(),
        *second.mapped.lock().unwrap()
    );
    for buffer in &buffers {
        let (start, end) = (buffer.iova(), buffer.iova() + (64 << 20));
        assert!(start >= 0x8000_0000 && end <= 1 << 40);
        assert!(end <= *msi.start() || start > *msi.end());
    }
}

#[test]
fn memory_that_a_new_function_cannot_reach_is_an_error_before_it_is_a_fault() {
    let (space, wide) = (DmaSpace::new(), Target::new(&[1 << 41..=u64::MAX]));
    space.attach(wide, u64::MAX).unwrap();
    let _buffer = space.alloc(4096).unwrap();
    let narrow = Target::new(&[ALL]);
    let refused = space.attach(narrow.clone(), (1 << 40) - 1);
    assert!(
        matches!(refused, Err(DmaError::OutOfReach { .. })),
        "{refused:?}"
    );
    assert_eq!(narrow.count(), 0);
}

#[test]
fn a_function_that_comes_later_gets_what_is_there_and_loses_it_when_it_goes() {
    let (space, first) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(first.clone(), u64::MAX).unwrap();
    let _buffer = space.alloc(4096).unwrap();
    let second = Target::new(&[ALL]);
    space.attach(second.clone(), u64::MAX).unwrap();
    assert_eq!(second.count(), 1);
    let gone: Arc<dyn DmaTarget> = second.clone();
    space.detach(&gone);
    space.detach(&gone);
    assert_eq!((first.count(), second.count()), (1, 0));
}

#[test]
fn two_functions_behind_one_container_are_mapped_once() {
    let (space, container) = (DmaSpace::new(), Target::new(&[ALL]));
    let _buffer = space.alloc(4096).unwrap();
    space.attach(container.clone(), u64::MAX).unwrap();
    space.attach(container.clone(), (1 << 40) - 1).unwrap();
    assert_eq!(container.count(), 1);
}

#[test]
fn a_mapping_that_one_target_refuses_is_taken_back_from_the_others() {
    let space = DmaSpace::new();
    let (good, bad) = (Target::new(&[ALL]), Target::new(&[ALL]));
    space.attach(good.clone(), u64::MAX).unwrap();
    space.attach(bad.clone(), u64::MAX).unwrap();
    *bad.refuses.lock().unwrap() = true;
    assert!(matches!(space.alloc(4096), Err(DmaError::Bus { .. })));
    assert_eq!((good.count(), space.usage().mapped), (0, 0));
    *bad.refuses.lock().unwrap() = false;
    space.alloc(4096).unwrap();
}

#[test]
fn an_unmap_that_did_less_than_it_was_asked_costs_the_memory_and_its_iova() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let iova = space.alloc(4096).unwrap().iova();
    target.forgets.store(4096, Ordering::Relaxed);
    space.trim();
    assert_eq!(space.usage().leaked, ARENA);
    target.forgets.store(0, Ordering::Relaxed);
    assert_ne!(space.alloc(4096).unwrap().iova(), iova);
}

#[test]
fn a_spent_mapping_budget_is_told_and_unused_memory_is_given_up_for_it() {
    let space = DmaSpace::new();
    let target = Arc::new(Target {
        ranges: vec![ALL],
        budget: 2,
        ..Target::default()
    });
    space.attach(target.clone(), u64::MAX).unwrap();
    let first = space.alloc(ARENA as usize).unwrap();
    let _second = space.alloc(ARENA as usize).unwrap();
    let spent = space.alloc(1).unwrap_err();
    assert!(matches!(spent, DmaError::NoMappings { made: 2 }), "{spent}");
    assert!(spent.to_string().contains("dma_entry_limit"), "{spent}");
    drop(first);
    // Larger than what is free: the free arena is unmapped to make room for another mapping.
    space.alloc(2 * ARENA as usize).unwrap();
}

#[test]
fn an_exhausted_iova_space_says_how_much_is_left() {
    let (space, target) = (DmaSpace::new(), Target::new(&[0x20_0000..=0x5F_FFFF]));
    space.attach(target, u64::MAX).unwrap();
    let _first = space.alloc(ARENA as usize).unwrap();
    let refused = space.alloc(2 * ARENA as usize);
    assert!(
        matches!(
            refused,
            Err(DmaError::NoIova {
                free: ARENA,
                largest: ARENA,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_new_buffer_is_zero_whatever_its_memory_held() {
    let space = DmaSpace::new();
    let first = space.alloc(8192).unwrap();
    first.write(0, &[0xFF; 8192]).unwrap();
    let iova = first.iova();
    drop(first);
    let second = space.alloc(5000).unwrap();
    assert_eq!(second.iova(), iova);
    assert_eq!(second.to_vec(0, 5000).unwrap(), vec![0; 5000]);
}

#[test]
fn accesses_outside_a_buffer_are_refused() {
    let buffer = DmaSpace::new().alloc(100).unwrap();
    assert!(buffer.write(100, &[]).is_ok());
    for (offset, length) in [(0, 101), (100, 1), (usize::MAX, 2)] {
        let mut data = vec![0; length];
        assert!(matches!(
            buffer.read(offset, &mut data),
            Err(DmaError::OutOfBounds { .. })
        ));
        assert!(matches!(
            buffer.write(offset, &data),
            Err(DmaError::OutOfBounds { .. })
        ));
        assert!(buffer.to_vec(offset, length).is_err());
    }
    assert!(matches!(buffer.load(96), Err(DmaError::OutOfBounds { .. })));
    assert!(matches!(buffer.load(4), Err(DmaError::Misaligned { .. })));
    assert!(matches!(
        DmaSpace::new().alloc(0),
        Err(DmaError::Length { .. })
    ));
    assert!(matches!(
        DmaSpace::new().alloc(usize::MAX),
        Err(DmaError::Length { .. })
    ));
}

#[test]
fn a_buffer_outlives_the_handle_of_its_space() {
    let target = Target::new(&[ALL]);
    let buffer = {
        let space = DmaSpace::new();
        space.attach(target.clone(), u64::MAX).unwrap();
        space.alloc(4096).unwrap()
    };
    buffer.write(0, b"still there").unwrap();
    assert_eq!(target.count(), 1);
    drop(buffer);
    assert_eq!(target.count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn buffers_that_live_together_never_overlap(
        sizes in proptest::collection::vec((prop_oneof![1usize..3_000, 1usize..200_000], any::<bool>()), 1..60),
    ) {
        let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
        space.attach(target, u64::MAX).unwrap();
        let mut living: Vec<(u8, super::DmaBuffer)> = Vec::new();
        for (number, (size, keep)) in sizes.into_iter().enumerate() {
            let buffer = space.alloc(size).unwrap();
            let mark = number as u8 | 0x80;
            buffer.write(0, &vec![mark; size]).unwrap();
            living.push((mark, buffer));
            if !keep {
                living.swap_remove(number % living.len());
            }
        }
        for (mark, buffer) in &living {
            prop_assert!(buffer.to_vec(0, buffer.len()).unwrap().iter().all(|byte| byte == mark));
        }
    }
}
