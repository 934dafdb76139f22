//! Memory that a chip may write for ever.

use super::*;

#[test]
fn abandoned_memory_is_nobodys_while_its_arena_is_mapped() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let keeps_the_arena = space.alloc(8192).unwrap();
    let abandoned = [5, 100, 4096, 20_000].map(|length| space.alloc(length).unwrap());
    let places = abandoned
        .each_ref()
        .map(|buffer| (buffer.iova(), buffer.len() as u64));
    for buffer in &abandoned {
        buffer.abandon();
        buffer.write(0, b"owned").unwrap();
        assert_eq!(
            buffer.to_vec(0, 5).unwrap(),
            b"owned",
            "by who has a handle"
        );
    }
    drop(abandoned);
    assert_eq!(space.usage().leaked, 64 + 128 + 4096 + 20_480);
    assert_eq!(space.usage().used, 8192);
    let others: Vec<_> = (0..400)
        .map(|turn| space.alloc([60, 120, 4096][turn % 3]).unwrap())
        .collect();
    for other in &others {
        let (start, end) = (other.iova(), other.iova() + other.len() as u64);
        for (iova, length) in places {
            assert!(
                end <= iova || iova + length <= start,
                "{start:#x} was {iova:#x}"
            );
        }
    }
    drop((others, keeps_the_arena));
    drop(space);
    assert_eq!(target.count(), 0, "the space's end unmaps all");
}

#[test]
fn abandoned_pages_are_used_again_once_no_chip_can_reach_them() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    for _ in 0..3 {
        let (buffer, rings) = (space.alloc(8192).unwrap(), space.alloc(12_288).unwrap());
        let iova = rings.iova();
        rings.abandon();
        drop(rings);
        space.trim();
        assert_eq!((target.count(), space.usage().leaked), (1, 12_288));
        drop(buffer);
        space.trim();
        assert_eq!((target.count(), space.usage().leaked), (0, 0));
        assert_eq!(space.usage().mapped, 0);
        let all: Vec<_> = (0..ARENA / 4096)
            .map(|_| space.alloc(4096).unwrap())
            .collect();
        assert!(all.iter().any(|buffer| buffer.iova() == iova));
        assert_eq!(target.count(), 1, "all of the arena is there for use");
    }
}

#[test]
fn an_abandoned_arena_that_cannot_be_unmapped_is_given_up() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let rings = space.alloc(12_288).unwrap();
    rings.abandon();
    drop(rings);
    target.forgets.store(4096, Ordering::Relaxed);
    space.trim();
    assert_eq!(space.usage().leaked, ARENA);
    target.forgets.store(0, Ordering::Relaxed);
    let next = space.alloc(12_288).unwrap();
    assert!(next.iova() >= ARENA * 2, "{:#x}", next.iova());
}

#[test]
fn a_space_does_not_grow_with_each_chip_that_is_lost() {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    let _of_a_chip_that_lives = space.alloc(8192).unwrap();
    for _ in 0..500 {
        let rings = space.alloc(100_000).unwrap();
        rings.abandon();
    }
    assert!(target.count() <= 2, "{:?}", space.usage());
}
