//! The limit of a process's mappings ends memory for DMA: an error with its name, which passes.
//!
//! The only test of its file, so that no other's thread gives mappings back as it ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that panics fails its test"
)]

use auk_driver::DmaSpace;
use auk_driver::dma::{DmaError, HugePages, SpaceOptions};
use memmap2::MmapRaw;

const MIB: usize = 1 << 20;

#[test]
fn as_many_mappings_as_a_process_may_have_is_an_error_with_the_limits_name() {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 1 << 20 {
        eprintln!("SKIPPED: vm.max_map_count is {limit}, which takes too long to reach");
        return;
    }
    let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
    let before = space.alloc(MIB).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let mut pages = Vec::with_capacity(limit);
    // The same page of a file each time: the kernel makes one mapping of neighbours only where their pages follow
    // each other.
    while let Ok(page) = MmapRaw::map_raw(&file) {
        pages.push(page);
    }
    let refused = space.alloc(8 * MIB);
    let usage = space.usage();
    let made = pages.len();
    drop(pages);

    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, DmaError::TooManyMaps { .. }),
        "{refused}, after {made} of {limit}"
    );
    let text = refused.to_string();
    assert!(
        text.contains("vm.max_map_count") && text.contains(&limit.to_string()),
        "{text}"
    );
    assert_eq!(usage.mapped, 2 * MIB as u64, "what was there stays");
    before.write(0, b"still there").unwrap();
    space.alloc(8 * MIB).unwrap();
}
