//! The number of mappings that the bus allows.

use super::super::{HugePages, SpaceOptions};
use super::*;

/// More than memory is ever made larger than what was asked for, so that each is a mapping.
const LARGE: usize = 1 << 30;

fn with_budget(budget: u64) -> (DmaSpace, Arc<Target>) {
    let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
    let target = Arc::new(Target {
        ranges: vec![ALL],
        budget,
        ..Target::default()
    });
    space.attach(target.clone(), u64::MAX).unwrap();
    (space, target)
}

#[test]
fn what_is_left_is_shown_and_its_nearing_end_is_told_once() {
    let (space, _target) = with_budget(64);
    assert_eq!(space.usage().mappings_left, Some(64));
    let mut buffers = Vec::new();
    let log = warnings(|| buffers.extend((0..60).map(|_| space.alloc(LARGE).unwrap())));
    assert_eq!((log.as_str(), space.usage().mappings_left), ("", Some(4)));

    let log = warnings(|| buffers.extend((0..4).map(|_| space.alloc(LARGE).unwrap())));
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in ["left=4", "made=60", "dma_entry_limit", "larger buffers"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    let spent = space.alloc(LARGE).unwrap_err();
    assert!(
        matches!(spent, DmaError::NoMappings { made: 64 }),
        "{spent}"
    );

    // When there was room in between, it is worth another word.
    buffers.truncate(8);
    space.trim();
    let log = warnings(|| buffers.extend((0..56).map(|_| space.alloc(LARGE).unwrap())));
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn the_bus_that_allows_the_fewest_counts() {
    let (space, _target) = with_budget(64);
    let second = Arc::new(Target {
        ranges: vec![ALL],
        budget: 2,
        ..Target::default()
    });
    space.attach(second, u64::MAX).unwrap();
    let _first = space.alloc(LARGE).unwrap();
    assert_eq!(space.usage().mappings_left, Some(1));
    assert_eq!(space.usage().mappings, 2);
}

#[test]
fn a_kernel_that_does_not_count_and_says_full_is_understood_too() {
    let (space, target) = with_budget(0);
    assert_eq!(space.usage().mappings_left, None);
    let first = space.alloc(LARGE).unwrap();
    target.full.store(true, Ordering::Relaxed);
    let full = space.alloc(LARGE).unwrap_err();
    assert!(matches!(full, DmaError::NoMappings { made: 1 }), "{full}");
    drop(first);
}
