//! The driver when things go wrong on a simulated chip: faults, hangs, resets, bad firmware, dropped handles.

mod driver_support;

use std::time::{Duration, Instant};

use auk_asic::firmware::{FirmwareVersion, ImageHeader};
use auk_asic::ident::Model;
use auk_asic::{Fault, SelfTest, State, Status};
use auk_chip_checks::pattern;
use auk_driver::{Command, DmaSpace, Error, Heartbeat, OpenOptions, QueueOptions, WaitMode};
use auk_sim::firmware::build_image;
use auk_sim::inject::Verb;
use auk_sim::{Chip, ChipProfile, Timing};
use driver_support::*;

/// Waits for the heartbeat's verdict, which needs half a second without a beat.
const LONG_ENOUGH: Duration = Duration::from_millis(900);

fn is_device_error(error: &Error) -> bool {
    matches!(
        error,
        Error::Faulted { .. }
            | Error::Command {
                status: Status::EccUncorrectable | Status::DeviceFaulted,
                ..
            }
    )
}

#[test]
fn an_uncorrectable_error_ends_every_command_once_and_a_restart_brings_the_chip_back() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let memory = device.alloc(4096).unwrap();
    let data = pattern(1, 4096);
    queue.upload(&memory, 0, &data, SOON).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let mut tickets = vec![queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap()];
    for _ in 0..5 {
        tickets.push(
            queue
                .submit(&Command::fill(&memory, 1, 64).fenced())
                .unwrap(),
        );
    }

    chip.inject(Verb::EccUe).unwrap();
    for ticket in &tickets {
        let error = queue.wait(*ticket, SOON).unwrap_err();
        assert!(is_device_error(&error) && error.is_fatal(), "{error}");
    }
    for ticket in &tickets {
        assert!(matches!(
            queue.wait(*ticket, SOON),
            Err(Error::UnknownTicket)
        ));
    }
    assert!(queue.poll().is_none());
    assert!(matches!(
        device.check(),
        Err(Error::Faulted {
            fault: Some(Fault::EccUncorrectable),
            ..
        })
    ));

    device.restart_firmware().unwrap();
    assert!(matches!(
        queue.submit(&Command::nop()),
        Err(Error::Faulted { .. } | Error::Stale { .. })
    ));
    assert!(!memory.is_alive());
    drop(queue);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let stale = queue.submit(&Command::fill(&memory, 1, 64));
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Passed);
    let memory = device.alloc(4096).unwrap();
    queue.upload(&memory, 0, &data, SOON).unwrap();
    let mut back = vec![0; 4096];
    queue.download(&memory, 0, &mut back, SOON).unwrap();
    assert_eq!(back, data);
    let (crash, fault) = device.crash_log().unwrap().unwrap();
    assert_eq!((fault, crash.generation), (Fault::EccUncorrectable, 1));
    assert_strict(&chip);
}

#[test]
fn a_slow_chip_and_a_hung_one_time_out_differently() {
    // The watchdog's fault, were it in time, would end the wait in another way.
    let timing = Timing {
        watchdog: Duration::from_secs(60),
        ..Timing::default()
    };
    let chip = Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap();
    let device = open(&chip);
    let options = QueueOptions::default().wait_mode(WaitMode::Interrupt);
    let mut queue = device.create_queue(&options).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let slow = queue.wait(ticket, LONG_ENOUGH).unwrap_err();
    assert!(
        matches!(
            slow,
            Error::TimedOut {
                heartbeat: Heartbeat::Beats,
                ..
            }
        ),
        "{slow}"
    );
    chip.inject(Verb::FirmwareHang).unwrap();
    let hung = queue.wait(ticket, LONG_ENOUGH).unwrap_err();
    assert!(
        matches!(
            hung,
            Error::TimedOut {
                heartbeat: Heartbeat::Stopped,
                ..
            }
        ),
        "{hung}"
    );
    assert!(!hung.is_fatal());
    device.restart_firmware().unwrap();
    let lost = queue.wait(ticket, SOON).unwrap_err();
    assert!(matches!(lost, Error::Stale { .. }), "{lost}");
}

#[test]
fn the_watchdog_s_fault_reaches_who_waits() {
    let timing = Timing {
        watchdog: Duration::from_millis(50),
        ..Timing::default()
    };
    let chip = Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    chip.inject(Verb::FirmwareHang).unwrap();
    let error = queue.wait(ticket, SOON).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Faulted {
                fault: Some(Fault::FirmwareHang),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_faulted_chip_is_told_at_open_and_restarted_on_request() {
    let chip = chip();
    drop(open(&chip));
    chip.inject(Verb::FirmwareCrash).unwrap();
    let refused = try_open(&chip, &OpenOptions::default()).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Faulted {
                fault: Some(Fault::FirmwareCrash),
                ..
            }
        ),
        "{refused}"
    );
    let device = try_open(&chip, &OpenOptions::default().restart_faulted(true)).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn an_admin_command_on_a_faulted_chip_says_so_at_once() {
    let chip = chip();
    let device = open(&chip);
    chip.inject(Verb::FirmwareCrash).unwrap();
    let started = Instant::now();
    let error = device.alloc(4096).unwrap_err();
    assert!(matches!(error, Error::Faulted { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_queue_dropped_on_a_hung_chip_keeps_its_memory_until_the_reset() {
    let timing = Timing {
        queue_ms: 50,
        command_ms: 50,
        ..Timing::default()
    };
    let chip = Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap();
    let space = DmaSpace::new();
    let device = try_open(&chip, &OpenOptions::default().space(&space)).unwrap();
    let idle = space.usage().used;
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let number = queue.number();
    let semaphore = space.alloc(4096).unwrap();
    queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let running = space.usage().used;
    chip.inject(Verb::FirmwareHang).unwrap();
    drop(semaphore);
    drop(queue);
    assert_eq!(space.usage().used, running);
    device.restart_firmware().unwrap();
    assert_eq!(space.usage().used, idle);
    assert_eq!(
        device
            .create_queue(&QueueOptions::default())
            .unwrap()
            .number(),
        number
    );
}

#[test]
fn a_leaked_queue_and_a_leaked_buffer_are_only_a_leak() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(4096).unwrap();
    queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    std::mem::forget(queue);
    drop(semaphore);
    let fresh = device.buffer(4096).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::fill(&fresh, 1, 4096), SOON).unwrap();
}

#[test]
fn new_firmware_is_installed_and_runs_after_a_restart() {
    let chip = chip();
    let device = open(&chip);
    let version = FirmwareVersion::of(2, 3, 4);
    let image = build_image(Model::Silicon, version, 1, &pattern(7, 600_000)).unwrap();
    assert_eq!(
        device.install_firmware(&image, 1, true, SOON).unwrap(),
        version
    );
    let slots = device.firmware_slots().unwrap();
    assert_eq!(slots[1].version, version.into_bits());
    device.restart_firmware().unwrap();
    assert_eq!(device.firmware_version().unwrap(), Some(version));
}

#[test]
fn firmware_that_is_not_right_is_refused_and_changes_nothing() {
    let chip = chip();
    let device = open(&chip);
    let before = device.firmware_slots().unwrap();
    let version = FirmwareVersion::of(2, 0, 0);
    let good = build_image(Model::Silicon, version, 1, &pattern(8, 5000)).unwrap();
    let install = |image: &[u8]| device.install_firmware(image, 1, true, SOON).unwrap_err();
    let changed = |at: usize| {
        let mut image = good.clone();
        image[at] ^= 1;
        image
    };

    for cut in [
        0,
        1,
        ImageHeader::SIZE - 1,
        ImageHeader::SIZE,
        good.len() - 1,
    ] {
        assert!(
            matches!(install(&good[..cut]), Error::Image(_)),
            "cut at {cut}"
        );
    }
    assert!(matches!(install(&changed(0)), Error::Image(_)));
    let status = |error: Error| match error {
        Error::Command { status, .. } => status,
        other => panic!("{other}"),
    };
    let signature = std::mem::offset_of!(ImageHeader, signature);
    assert_eq!(status(install(&changed(signature))), Status::ImageSignature);
    assert_eq!(
        status(install(&changed(good.len() - 1))),
        Status::ImageMalformed
    );
    let old = build_image(Model::Silicon, version, 0, b"old").unwrap();
    assert_eq!(status(install(&old)), Status::ImageTooOld);
    let foreign = build_image(Model::Fpga, version, 1, b"fpga").unwrap();
    assert!(matches!(install(&foreign), Error::Invalid { .. }));
    assert!(matches!(
        device.install_firmware(&good, 2, true, SOON),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(device.firmware_slots().unwrap(), before);
}

#[test]
fn a_chip_whose_image_rotted_stays_in_the_loader_and_takes_a_new_one() {
    let chip = chip();
    let device = open(&chip);
    chip.inject(Verb::ImageRot { slot: 0 }).unwrap();
    let refused = device.restart_firmware().unwrap_err();
    assert!(
        matches!(
            refused,
            Error::NotReady {
                state: State::Loader,
                ..
            }
        ),
        "{refused}"
    );
    let version = FirmwareVersion::of(1, 0, 1);
    let image = build_image(Model::Silicon, version, 1, b"a new runtime").unwrap();
    device.install_firmware(&image, 0, true, SOON).unwrap();
    device.restart_firmware().unwrap();
    assert_eq!(device.firmware_version().unwrap(), Some(version));
}

#[test]
fn telemetry_counts_what_was_done() {
    let chip = chip();
    let device = open(&chip);
    let before = device.telemetry().unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let host = device.buffer(4096).unwrap();
    let memory = device.alloc(4096).unwrap();
    queue
        .run(&Command::copy(&memory, &host, 4096), SOON)
        .unwrap();
    queue
        .run(&Command::copy(&host, &memory, 1000), SOON)
        .unwrap();
    let after = device.telemetry().unwrap();
    assert_eq!(after.commands_ok, before.commands_ok + 2);
    assert_eq!(after.host_read_bytes, before.host_read_bytes + 4096);
    assert_eq!(after.host_written_bytes, before.host_written_bytes + 1000);
    assert_eq!(after.memory_total, device.capabilities().memory());
}
