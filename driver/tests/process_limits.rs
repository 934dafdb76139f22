//! Limits of the process that end memory for DMA: each is an error with its name, and passes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that panics fails its test"
)]

use std::sync::{Mutex, PoisonError};

use auk_driver::DmaSpace;
use auk_driver::dma::{DmaError, HugePages, SpaceOptions};
use memmap2::MmapMut;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// One test at a time: the limits are the whole process's.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

fn space() -> DmaSpace {
    DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never))
}

#[test]
fn as_many_mappings_as_a_process_may_have_is_an_error_with_the_limits_name() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 1 << 20 {
        eprintln!("SKIPPED: vm.max_map_count is {limit}, which takes too long to reach");
        return;
    }
    let space = space();
    let before = space.alloc(MIB).unwrap();
    let (mut writable, mut constant) = (Vec::with_capacity(limit), Vec::with_capacity(limit));
    // In turns, or the kernel would make one mapping of all.
    while let Ok(one) = MmapMut::map_anon(4096) {
        match one.make_read_only() {
            Ok(one) => constant.push(one),
            Err(_) => break,
        }
        match MmapMut::map_anon(4096) {
            Ok(one) => writable.push(one),
            Err(_) => break,
        }
    }
    let refused = space.alloc(8 * MIB);
    let usage = space.usage();
    let made = writable.len() + constant.len();
    drop((writable, constant));

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

#[test]
fn as_many_files_as_a_process_may_have_is_an_error_with_the_limits_name() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let space = space();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    // Larger than memory is ever made beyond what was asked for, so that each is a mapping and a file.
    let mut buffers = Vec::new();
    let refused = loop {
        match space.alloc(1 << 30) {
            Ok(buffer) => buffers.push(buffer),
            Err(refused) => break refused,
        }
    };
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(
        matches!(refused, DmaError::NoDescriptors { limit: 64, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("LimitNOFILE"), "{refused}");
    assert!(buffers.len() > 32);
    space.alloc(1 << 30).unwrap();
}

#[test]
fn two_gibibytes_of_small_buffers_take_a_few_files() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let space = space();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 96, hard).unwrap();
    let buffers: Result<Vec<_>, _> = (0..32_768).map(|_| space.alloc(64 << 10)).collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let buffers = buffers.unwrap();
    assert_eq!(space.usage().used, 2 << 30);
    drop(buffers);
}
