//! What a process has after it opened and closed chips; alone in its process, so that it can count.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod driver_support;

use std::sync::{Mutex, PoisonError};

use auk_driver::{Command, DmaSpace, OpenOptions, QueueOptions};
use driver_support::*;

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:")).count()
}

/// Pages in memory of all mappings for DMA, in kB.
fn resident() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut ours = false;
    let mut sum = 0;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["Rss:", kilobytes, "kB"] if ours => sum += kilobytes.parse::<u64>().unwrap(),
            [range, _, _, _, ..] if range.contains('-') => ours = line.contains("memfd:auk-dma"),
            _ => {}
        }
    }
    sum
}

#[test]
fn chips_that_are_lost_leave_no_descriptor_no_memory_and_no_mapping_behind_in_a_space_that_stays() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let space = DmaSpace::default();
    let cycle = || {
        let chip = chip();
        let options = OpenOptions::default().space(&space);
        let Opened { device, serving } = try_open(&chip, &options).unwrap();
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        queue.run(&Command::nop(), SOON).unwrap();
        drop(serving);
        queue.run(&Command::nop(), SOON).unwrap_err();
    };
    let _other = space.alloc(4096).unwrap();
    cycle();
    let before = (descriptors(), mappings(), resident());
    assert!(before.2 > 0);
    for _ in 0..5 {
        cycle();
    }
    assert_eq!((descriptors(), mappings(), resident()), before);
    assert_eq!(space.usage().used, 4096);
    assert!(space.usage().leaked > 0);
}

#[test]
fn opening_and_closing_leaves_no_descriptor_and_no_mapping_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let chip = chip();
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
