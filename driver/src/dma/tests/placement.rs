//! Of which pages memory is, and where.

use super::super::{DmaSpace, HugePages, NumaPlacement, SpaceOptions};
use super::*;

fn free_huge_pages() -> u64 {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.map_or(0, |text| text.trim().parse().unwrap())
}

#[test]
fn huge_pages_are_used_when_there_are_some_and_missed_with_words_when_there_are_none() {
    let free = free_huge_pages();
    let length = ARENA as usize;

    let never = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
    let _ordinary = never.alloc(length).unwrap();
    assert_eq!(never.usage().huge, 0);

    let prefer = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Prefer));
    let buffer = prefer.alloc(length).unwrap();
    buffer.write(0, b"tensor").unwrap();
    assert_eq!(prefer.usage().mapped, ARENA);

    let require = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Require));
    let required = require.alloc(length);
    if free >= 2 {
        assert_eq!(prefer.usage().huge, ARENA);
        required.unwrap();
        assert_eq!(require.usage().huge, ARENA);
    } else if free == 0 {
        assert_eq!(prefer.usage().huge, 0);
        let error = required.unwrap_err();
        assert!(matches!(error, DmaError::NoHugePages { .. }), "{error}");
        assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
    }
}

#[test]
fn ordinary_pages_are_told_once_a_space_with_what_they_cost_and_how_to_have_others() {
    if free_huge_pages() > 0 {
        eprintln!("SKIPPED: this host has free huge pages, and nothing falls back to others");
        return;
    }
    let log = warnings(|| {
        let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
        let before = space.alloc(4096).unwrap();
        space.attach(target, u64::MAX).unwrap();
        let buffers: Vec<_> = (0..4).map(|_| space.alloc(4 << 20).unwrap()).collect();
        drop((before, buffers));
    });
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in [
        "ordinary pages",
        "512 entries of the IOMMU instead of 1",
        "0 of ",
        "vm.nr_hugepages",
    ] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
}

#[test]
fn ordinary_pages_are_not_worth_a_word_where_they_cost_nothing_or_were_asked_for() {
    let log = warnings(|| {
        let remote = Arc::new(Target {
            ranges: vec![ALL],
            remote: true,
            ..Target::default()
        });
        let space = DmaSpace::new();
        space.attach(remote, u64::MAX).unwrap();
        space.alloc(4096).unwrap();

        let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
        space.attach(Target::new(&[ALL]), u64::MAX).unwrap();
        space.alloc(4096).unwrap();
    });
    assert_eq!(log, "");
}

/// What `/proc/self/numa_maps` says of the mapping that a buffer begins.
fn policy(buffer: &super::super::DmaBuffer) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/numa_maps").ok()?;
    let start = format!("{:x} ", buffer.words().as_ptr() as usize);
    let line = maps.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// Whether this process may place memory.
fn can_place() -> bool {
    let space = DmaSpace::with(&SpaceOptions::default().numa(NumaPlacement::Node(0)));
    let can = policy(&space.alloc(4096).unwrap()).is_some_and(|policy| policy != "default");
    if !can {
        eprintln!("SKIPPED: this kernel or container has no mbind");
    }
    can
}

#[test]
fn memory_is_taken_from_the_node_of_the_chips_that_are_attached() {
    if !can_place() {
        return;
    }
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    let before = space.alloc(ARENA as usize).unwrap();
    assert_eq!(policy(&before).unwrap(), "default");
    let target: Arc<dyn DmaTarget> = target;
    space.attach(Arc::clone(&target), u64::MAX).unwrap();
    space.attached_at(&target, 0);
    let near = space.alloc(ARENA as usize).unwrap();
    assert_eq!(policy(&near).unwrap(), "prefer:0");
    space.detach(&target);
    let after = space.alloc(ARENA as usize).unwrap();
    assert_eq!(policy(&after).unwrap(), "default");

    let anywhere = DmaSpace::with(&SpaceOptions::default().numa(NumaPlacement::Anywhere));
    anywhere.attach(Arc::clone(&target), u64::MAX).unwrap();
    anywhere.attached_at(&target, 0);
    let buffer = anywhere.alloc(ARENA as usize).unwrap();
    assert_eq!(policy(&buffer).unwrap(), "default");
}

#[test]
fn a_node_that_this_machine_does_not_have_is_no_reason_for_a_word() {
    let log = warnings(|| {
        let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
        let target = Target::new(&[ALL]);
        let target: Arc<dyn DmaTarget> = target;
        space.attach(Arc::clone(&target), u64::MAX).unwrap();
        space.attached_at(&target, 1023);
        space.alloc(4096).unwrap();
    });
    assert_eq!(log, "");
}

#[test]
fn a_node_that_was_asked_for_and_does_not_exist_is_told_once() {
    let log = warnings(|| {
        let space = DmaSpace::with(&SpaceOptions::default().numa(NumaPlacement::Node(1023)));
        let _buffers = [4096, ARENA as usize].map(|length| space.alloc(length).unwrap());
    });
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("node=1023"), "{log}");
}
