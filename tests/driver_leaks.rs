//! What a process has after it opened and closed chips; alone in its process, so that it can count.

mod driver_support;

use auk_driver::{Command, QueueOptions};
use driver_support::*;

#[test]
fn opening_and_closing_leaves_no_descriptor_and_no_mapping_behind() {
    let chip = chip();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("memfd:")).count()
    };
    let cycle = || {
        let device = open(&chip);
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        let memory = device.alloc(4096).unwrap();
        queue.run(&Command::fill(&memory, 1, 4096), SOON).unwrap();
    };
    cycle();
    let before = (descriptors(), mappings());
    for _ in 0..20 {
        cycle();
    }
    assert_eq!((descriptors(), mappings()), before);
    assert_strict(&chip);
}
