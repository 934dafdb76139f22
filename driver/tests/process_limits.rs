//! Limits of the process that end memory for DMA: each is an error with its name, and passes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that panics fails its test"
)]

use std::sync::{Mutex, PoisonError};

use auk_driver::DmaSpace;
use auk_driver::dma::{DmaError, HugePages, SpaceOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// One test at a time: the limits are the whole process's.
static ALONE: Mutex<()> = Mutex::new(());

fn space() -> DmaSpace {
    DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never))
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
