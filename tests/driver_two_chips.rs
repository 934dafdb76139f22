//! Two chips in one process: what befalls one is not the other's business.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failing test")]

mod driver_support;

use std::thread;
use std::time::{Duration, Instant};

use auk_driver::{
    Command, Device, DmaSpace, Error, IoQueue, OpenOptions, QueueOptions, ResetKind, Step,
};
use auk_sim::inject::Verb;
use auk_sim::{Chip, ChipProfile, Timing};
use driver_support::*;

/// What the faulty chip may take for a command, and what the healthy one must never be kept waiting for.
const FAULTY_TIMEOUT: Duration = Duration::from_secs(2);
/// What it may take for anything else.
const FAULTY_STEP_MS: u32 = 300;
/// How long the healthy chip is watched alone, for comparison.
const ALONE: Duration = Duration::from_secs(1);

fn faulty_chip() -> Chip {
    let timing = Timing {
        watchdog: Duration::from_secs(60),
        command_ms: FAULTY_TIMEOUT.as_millis() as u32,
        abort_ms: FAULTY_STEP_MS,
        queue_ms: FAULTY_STEP_MS,
        ..Timing::default()
    };
    Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap()
}

/// Loses a completion of a chip, hangs it, crashes it, resets it and kills it, each time bringing it back.
fn suffer(space: &DmaSpace) {
    let options = OpenOptions::default().space(space);
    let chip = faulty_chip();
    let Opened { device, serving } = try_open(&chip, &options).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let buffer = device.buffer(4096).unwrap();

    chip.inject(Verb::CompletionDrop).unwrap();
    let lost = queue.execute(&Command::fill(&buffer, 1, 4096)).unwrap_err();
    assert!(matches!(lost, Error::CompletionLost { .. }), "{lost}");
    queue.reset(SOON).unwrap();

    chip.inject(Verb::FirmwareHang).unwrap();
    queue.execute(&Command::nop()).unwrap_err();
    queue.recover(Step::Flr).unwrap();

    device.reset(ResetKind::Flr).unwrap();
    chip.inject(Verb::FirmwareCrash).unwrap();
    queue.reset(SOON).unwrap_err();
    device.recover(Step::FirmwareRestart).unwrap();
    queue.reset(SOON).unwrap();

    queue.submit(&Command::wait(&buffer, 1, 9_000)).unwrap();
    drop(serving);
    assert!(device.check().is_err());
}

/// Has a chip do small things, with memory that is taken and given back as jobs do, until it is over. Gives how long each took,
/// sorted.
fn work(device: &Device, queue: &mut IoQueue, over: impl Fn() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over() {
        let began = Instant::now();
        let buffer = device.buffer(4096).unwrap();
        queue.run(&Command::fill(&buffer, 7, 4096), SOON).unwrap();
        assert_eq!(buffer.load(4088).unwrap(), 7);
        times.push(began.elapsed());
        thread::sleep(Duration::from_micros(200));
    }
    times.sort();
    times
}

fn told(times: &[Duration]) -> String {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!(
        "{} commands, p50 {:?}, p99 {:?}, longest {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    )
}

#[test]
fn a_chip_that_fails_over_and_over_never_keeps_another_one_waiting() {
    for shared in [true, false] {
        let space = DmaSpace::new();
        let chip = chip();
        let healthy = try_open(&chip, &OpenOptions::default().space(&space)).unwrap();
        let mut queue = healthy.create_queue(&QueueOptions::default()).unwrap();
        let began = Instant::now();
        let alone = work(&healthy, &mut queue, || began.elapsed() > ALONE);
        let theirs = match shared {
            true => space.clone(),
            false => DmaSpace::new(),
        };
        let beside = thread::scope(|scope| {
            let sufferer = scope.spawn(|| suffer(&theirs));
            work(&healthy, &mut queue, || sufferer.is_finished())
        });
        println!("a space of both: {shared}");
        println!("    alone: {}", told(&alone));
        println!("    beside the faulty chip: {}", told(&beside));
        let longest = beside[beside.len() - 1];
        assert!(longest < FAULTY_TIMEOUT, "{longest:?}");
        assert_eq!((queue.strays(), queue.in_flight()), (0, 0));
        assert_strict(&chip);
    }
}

#[test]
fn a_space_grows_for_the_chips_that_are_left_when_one_is_gone() {
    let space = DmaSpace::new();
    let options = OpenOptions::default().space(&space);
    let (gone, left) = (chip(), chip());
    let Opened { device, serving } = try_open(&gone, &options).unwrap();
    let survivor = try_open(&left, &options).unwrap();
    let mut queue = survivor.create_queue(&QueueOptions::default()).unwrap();
    drop(serving);
    // More than what is mapped already.
    let large = space.alloc(32 << 20).unwrap();
    queue.run(&Command::fill(&large, 9, 8 << 20), SOON).unwrap();
    assert_eq!(large.load(4096).unwrap(), 9);
    assert!(matches!(device.check(), Err(Error::Disconnected { .. })));
    drop(device);
    drop(large);
    space.trim();
    let rings_of_the_lost = space.usage().leaked;
    assert!(rings_of_the_lost < 1 << 16, "{rings_of_the_lost}");
    drop((queue, survivor));
    space.trim();
    assert_eq!(space.usage().leaked, 0);
}
