//! Buffers smaller than a page, and how memory grows under many of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn small_buffers_share_pages_and_no_cache_line() {
    let space = DmaSpace::new();
    for (length, size) in [(1, 64), (64, 64), (65, 128), (600, 1024), (2048, 2048)] {
        let buffers: Vec<_> = (0..1000).map(|_| space.alloc(length).unwrap()).collect();
        assert_eq!(space.usage().used, 1000 * size, "{length}");
        let starts: BTreeSet<u64> = buffers.iter().map(super::super::DmaBuffer::iova).collect();
        assert_eq!(starts.len(), 1000);
        assert!(starts.iter().all(|iova| iova.is_multiple_of(size)));
        let pages: BTreeSet<u64> = starts.iter().map(|iova| iova / 4096).collect();
        assert_eq!(pages.len() as u64, (1000 * size).div_ceil(4096));
        assert!(buffers.iter().all(|buffer| !buffer.has_own_pages()));
    }
    let page = space.alloc(2049).unwrap();
    assert!(page.has_own_pages());
    assert_eq!((page.iova() % 4096, space.usage().used), (0, 4096));
}

#[test]
fn what_a_former_owner_wrote_is_never_seen() {
    let space = DmaSpace::new();
    for length in [1, 100, 2048, 4096, 9000] {
        let buffers: Vec<_> = (0..80).map(|_| space.alloc(length).unwrap()).collect();
        for buffer in &buffers {
            assert!(
                buffer
                    .to_vec(0, length)
                    .unwrap()
                    .iter()
                    .all(|byte| *byte == 0)
            );
            buffer.write(0, &vec![0xFF; length]).unwrap();
        }
    }
}

#[test]
fn small_buffers_that_are_gone_leave_their_pages_to_larger_ones_and_their_memory_to_the_host() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let buffers: Vec<_> = (0..20_000).map(|_| space.alloc(100).unwrap()).collect();
    let mapped = space.usage().mapped;
    drop(buffers);
    assert_eq!(space.usage().used, 0);
    // Of each size one page stays cut.
    let whole = space.alloc(ARENA as usize - 4096).unwrap();
    assert_eq!(space.usage().mapped, mapped);
    drop(whole);
    space.trim();
    assert_eq!((target.count(), space.usage().mapped), (0, 0));
}

#[test]
fn many_mebibytes_of_buffers_are_few_mappings() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let buffers: Vec<_> = (0..65_536).map(|_| space.alloc(4096).unwrap()).collect();
    let usage = space.usage();
    assert_eq!(usage.used, 256 << 20);
    assert!(usage.mapped <= usage.used / 8 * 9 + ARENA, "{usage:?}");
    assert!(target.count() < 40, "{} mappings", target.count());
    drop(buffers);
    space.trim();
    assert_eq!(space.usage().mapped, 0);
}

#[test]
fn memory_grows_by_no_more_than_is_needed_where_more_is_refused() {
    let target = Arc::new(Target {
        ranges: vec![ALL],
        largest: ARENA,
        ..Target::default()
    });
    let space = DmaSpace::new();
    space.attach(target.clone(), u64::MAX).unwrap();
    let buffers: Vec<_> = (0..64)
        .map(|_| space.alloc(ARENA as usize).unwrap())
        .collect();
    assert_eq!(target.count(), buffers.len());
    let refused = space.alloc(2 * ARENA as usize).unwrap_err();
    let too_low = |source: &BusError| matches!(source, BusError::MemlockTooLow { .. });
    assert!(
        matches!(&refused, DmaError::Bus { source, .. } if too_low(source)),
        "{refused}"
    );
    assert_eq!(space.usage().mapped, 64 * ARENA);
}

#[test]
fn weeks_of_use_leave_memory_and_addresses_in_one_piece() {
    let (space, target) = (DmaSpace::new(), Target::new(&[0..=(1 << 39) - 1]));
    space.attach(target, u64::MAX).unwrap();
    let pieces = space.usage().free_iova_pieces;
    let mut living = BTreeMap::new();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..30_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let length = 1 + (random >> 20) as usize % (1 << (6 + random % 11));
        living.insert(random % 512, space.alloc(length).unwrap());
    }
    drop(living);
    space.trim();
    let usage = space.usage();
    assert_eq!((usage.used, usage.mapped, usage.free_pieces), (0, 0, 0));
    assert_eq!(usage.free_iova_pieces, pieces);
}

#[test]
fn threads_that_allocate_and_drop_at_once_get_memory_of_their_own() {
    let space = DmaSpace::new();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let space = &space;
            scope.spawn(move || {
                for round in 0..100_usize {
                    let buffers: Vec<_> = (0..4)
                        .map(|nth| space.alloc(1 + (round * 37 + nth * 911) % 9000).unwrap())
                        .collect();
                    for buffer in &buffers {
                        buffer.write(0, &vec![thread; buffer.len()]).unwrap();
                    }
                    for buffer in &buffers {
                        let bytes = buffer.to_vec(0, buffer.len()).unwrap();
                        assert!(bytes.iter().all(|byte| *byte == thread));
                    }
                }
            });
        }
    });
    assert_eq!(space.usage().used, 0);
}
