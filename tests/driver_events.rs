//! What a device says unasked.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod driver_support;

use std::time::Duration;

use auk_asic::SelfTest;
use auk_asic::event::EventCode;
use auk_driver::{ChipEvent, DeviceEvent, Error};
use auk_sim::inject::Verb;
use driver_support::*;
use nix::poll::{PollFd, PollFlags, poll};

fn chip_event(event: Option<DeviceEvent>) -> ChipEvent {
    match event.expect("an event in time") {
        DeviceEvent::Chip(event) => event,
        other => panic!("a simulator's bus says nothing, but there came {other:?}"),
    }
}

#[test]
fn an_event_makes_the_device_readable_until_it_was_taken() {
    let chip = chip();
    let device = open(&chip);
    while device
        .next_event(Duration::from_millis(20))
        .unwrap()
        .is_some()
    {}
    let readable = |milliseconds: u16| {
        let mut waited = [PollFd::new(device.event_fd(), PollFlags::POLLIN)];
        poll(&mut waited, milliseconds).unwrap() == 1
    };
    // An interrupt of the chip may come after its event was taken: it says that there may be one.
    let calms_down = || {
        while readable(20) {
            assert_eq!(device.next_event(Duration::ZERO).unwrap(), None);
        }
    };
    calms_down();
    chip.inject(Verb::EccCe { count: 1 }).unwrap();
    assert!(readable(10_000));
    let event = chip_event(device.next_event(Duration::ZERO).unwrap());
    assert_eq!(event.event.code, EventCode::EccCorrectable);
    assert_eq!(device.next_event(Duration::ZERO).unwrap(), None);
    calms_down();
}

#[test]
fn events_are_told_in_order_and_kept_in_the_log() {
    let chip = chip();
    let device = open(&chip);
    while device
        .next_event(Duration::from_millis(20))
        .unwrap()
        .is_some()
    {}
    chip.inject(Verb::EccCe { count: 3 }).unwrap();
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Passed);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = chip_event(device.next_event(SOON).unwrap());
        // Before the first there was nobody to tell of the boot.
        assert!(event.lost == 0 || seen.is_empty());
        seen.push((event.event.code, event.event.argument));
    }
    assert_eq!(seen[0], (EventCode::EccCorrectable, 3));
    assert_eq!(seen[1].0, EventCode::SelfTestEnded);
    assert_eq!(device.next_event(Duration::from_millis(20)).unwrap(), None);
    let log = device.event_log().unwrap();
    assert!(
        log.windows(2)
            .all(|pair| pair[0].sequence < pair[1].sequence)
    );
    assert!(
        log.iter()
            .any(|record| record.code == EventCode::EccCorrectable.code())
    );
}

#[test]
fn events_that_came_before_a_fault_are_told_before_the_error() {
    let chip = chip();
    let device = open(&chip);
    while device
        .next_event(Duration::from_millis(20))
        .unwrap()
        .is_some()
    {}
    chip.inject(Verb::EccUe).unwrap();
    let mut codes = Vec::new();
    let error = loop {
        match device.next_event(SOON) {
            Ok(event) => codes.push(chip_event(event).event.code),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Faulted { .. }), "{error}");
    assert!(codes.contains(&EventCode::EccUncorrectable), "{codes:?}");
}
