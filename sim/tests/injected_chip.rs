//! Injected faults of the whole chip, each as a driver would see it: on the bus, in its firmware and its resets, pulled out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use auk_asic::bar0::{self, Control};
use auk_asic::config::header;
use auk_asic::io::IoCommand;
use auk_asic::{Fault, State};
use auk_sim::Chip;
use auk_sim::inject::{Trigger, Verb};
use auk_vfio_user::client::{Client, Options};
use common::faults::*;
use common::{DEADLINE, HOST_BYTES, IOVA, Rig, eventually, small};

#[test]
fn bars_read_ones_for_a_while_and_config_space_does_not() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::BarOnes { for_ms: 0 });
    assert_eq!(rig.read(bar0::IDENT), u32::MAX);
    rig.write(bar0::SCRATCH, 5);
    assert_eq!(rig.config_read16(header::VENDOR), 0x1AE5);
    inject(&rig, Verb::Heal);
    assert_eq!(rig.read(bar0::SCRATCH), 0, "the write was lost");
    inject(&rig, Verb::BarOnes { for_ms: 20 });
    eventually("the end", || {
        (rig.read(bar0::IDENT) != u32::MAX).then_some(())
    });
}

#[test]
fn a_chip_off_the_bus_reads_ones_everywhere_and_does_nothing() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::ConfigOnes { for_ms: 0 });
    assert_eq!(rig.read(bar0::STATUS), u32::MAX);
    assert_eq!(rig.config_read16(header::VENDOR), u16::MAX);
    assert!(rig.chip.config().iter().all(|byte| *byte == 0xFF));
    nops(&mut rig, &mut queue, 1);
    nothing_more(&rig, &mut queue);
    inject(&rig, Verb::Heal);
    assert_eq!(ids(&rig, &mut queue, 1), [0]);
}

#[test]
fn a_chip_off_the_bus_takes_no_reset_and_its_memory_can_be_taken_away() {
    let (rig, _queue) = rig();
    inject(&rig, Verb::ConfigOnes { for_ms: 0 });
    rig.device.try_reset().unwrap_err();
    rig.device.unmap(IOVA, HOST_BYTES);
    inject(&rig, Verb::Heal);
    std::thread::sleep(WHILE);
    assert_eq!(rig.chip.strict_violations(), []);
}

#[test]
fn memory_can_be_taken_from_a_chip_that_took_no_reset_and_is_back_on_the_bus() {
    let (mut rig, queue) = rig();
    inject(&rig, Verb::ConfigOnes { for_ms: 0 });
    rig.device.try_reset().unwrap_err();
    inject(&rig, Verb::Heal);
    rig.device.unmap(IOVA, HOST_BYTES);
    queue.ring_at(&mut rig, 1);
    std::thread::sleep(WHILE);
    assert_eq!(rig.chip.strict_violations(), []);
}

#[test]
fn that_a_chip_took_no_reset_excuses_nothing_of_its_next_life() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::ConfigOnes { for_ms: 0 });
    rig.device.try_reset().unwrap_err();
    inject(&rig, Verb::Heal);
    restart(&mut rig);
    rig.bring_up();
    let queue = rig.queue(1);
    rig.device.unmap(IOVA, HOST_BYTES);
    queue.ring_at(&mut rig, 1);
    eventually("the violation", || {
        (!rig.chip.strict_violations().is_empty()).then_some(())
    });
}

#[test]
fn a_link_that_flaps_comes_back_each_time() {
    let (mut rig, _queue) = rig();
    inject(
        &rig,
        Verb::LinkFlap {
            count: 3,
            down_ms: 15,
        },
    );
    let mut downs = 0;
    let mut was_down = false;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        let down = rig.config_read16(header::VENDOR) == u16::MAX;
        downs += u32::from(down && !was_down);
        was_down = down;
    }
    assert!((1..=3).contains(&downs), "{downs}");
    assert!(!was_down);
}

#[test]
fn slow_registers_slow_what_is_trapped_and_no_doorbell() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::SlowRegisters { ms: 20, for_ms: 0 });
    let begun = Instant::now();
    rig.read(bar0::STATUS);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    nops(&mut rig, &mut queue, 1);
    ids(&rig, &mut queue, 1);
    inject(&rig, Verb::Heal);
}

fn restart(rig: &mut Rig) {
    let control = Control::new().with_restart(true);
    rig.write(bar0::CONTROL, control.into_bits());
}

#[test]
fn a_boot_loop_crashes_each_start_until_it_is_healed() {
    let (mut rig, _queue) = rig();
    let when = Trigger {
        times: 0,
        ..Trigger::default()
    };
    inject_when(&rig, Verb::BootLoop, when);
    for _ in 0..3 {
        restart(&mut rig);
        eventually("the crash", || rig.status().faulted().then_some(()));
        let fault = rig.read(bar0::FAULT);
        assert_eq!(fault, u32::from(Fault::FirmwareCrash.code()));
    }
    inject(&rig, Verb::Heal);
    restart(&mut rig);
    rig.bring_up();
}

#[test]
fn an_image_that_is_refused_once_leaves_the_loader() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::ImageRefused);
    restart(&mut rig);
    eventually("the loader", || {
        (rig.status().state() == Ok(State::Loader)).then_some(())
    });
    assert_eq!(
        rig.read(bar0::FAULT),
        u32::from(Fault::ImageRejected.code())
    );
    restart(&mut rig);
    rig.bring_up();
    assert_eq!(rig.status().state(), Ok(State::Running));
}

#[test]
fn a_slow_boot_takes_that_much_longer() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::SlowBoot { ms: 80 });
    let begun = Instant::now();
    restart(&mut rig);
    rig.bring_up();
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_reset_that_fails_works_the_second_time() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::ResetFails);
    rig.device.reset();
    rig.connect();
    assert_eq!(rig.status().state(), Ok(State::Resetting));
    rig.device.reset();
    rig.bring_up();
    assert_eq!(rig.status().state(), Ok(State::Running));
}

#[test]
fn a_reset_that_ends_dead_leaves_ones() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::ResetDead);
    rig.device.reset();
    assert_eq!(rig.read(bar0::IDENT), u32::MAX);
    assert_eq!(rig.config_read16(header::VENDOR), u16::MAX);
}

#[test]
fn a_reset_that_hangs_answers_when_it_is_over() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::ResetHang { for_ms: 60 });
    let begun = Instant::now();
    rig.device.reset();
    assert!(begun.elapsed() >= Duration::from_millis(60));
    rig.bring_up();
}

#[test]
fn a_reset_that_hangs_for_ever_keeps_no_server_from_ending() {
    let chip = Chip::new(small()).unwrap();
    chip.inject(Verb::ResetHang { for_ms: 0 }).unwrap();
    let (serving, socket) = chip.connect().unwrap();
    let soon = Instant::now() + DEADLINE;
    let client = Client::from_fd(socket, Options::default(), soon).unwrap();
    let client = std::thread::spawn(move || client.reset(soon));
    eventually("the reset to begin", || {
        (chip.config()[0] == 0xFF).then_some(())
    });
    drop(serving);
    client.join().unwrap().unwrap_err();
    assert!(Instant::now() < soon);
}

#[test]
fn memory_errors_where_nobody_works_stop_nothing() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::EccUeUnused);
    assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
    eventually("the counter", || (rig.vitals().ecc_ue == 1).then_some(()));
    restart(&mut rig);
    rig.bring_up();
    eventually("the page", || {
        (rig.vitals().retired_pages == 1).then_some(())
    });
    inject(&rig, Verb::PageRetired { count: 3 });
    eventually("the pages", || {
        (rig.vitals().retired_pages == 4).then_some(())
    });
    inject(&rig, Verb::Replays { count: 9 });
    eventually("replays", || (rig.vitals().pcie_replays == 9).then_some(()));
}

#[test]
fn sensors_throttle_stick_and_talk_nonsense() {
    let (rig, _queue) = rig();
    inject(&rig, Verb::Throttle { for_ms: 0 });
    inject(&rig, Verb::PowerCap { for_ms: 0 });
    eventually("two reasons", || {
        let throttle = rig.vitals().throttle;
        (throttle.thermal() && throttle.supply()).then_some(())
    });
    inject(&rig, Verb::Heal);
    inject(&rig, Verb::SensorStuck { for_ms: 0 });
    let heat = Verb::Temperature {
        celsius: 60,
        for_ms: 0,
    };
    inject(&rig, heat);
    std::thread::sleep(Duration::from_millis(250));
    assert!(rig.chip.vital_signs().die_temperature < 600, "stuck");
    inject(&rig, Verb::SensorNonsense { for_ms: 0 });
    eventually("nonsense", || {
        (rig.chip.vital_signs().die_temperature == i16::MIN).then_some(())
    });
    assert!(!rig.chip.vital_signs().throttle.thermal());
    inject(&rig, Verb::Heal);
    eventually("its end", || {
        (rig.chip.vital_signs().die_temperature > 0).then_some(())
    });
}

#[test]
fn a_chip_that_was_pulled_out_comes_back_as_after_power_on() {
    let (mut rig, _queue) = rig();
    inject(&rig, Verb::EccCe { count: 5 });
    restart(&mut rig);
    rig.bring_up();
    assert_eq!(rig.read(bar0::GENERATION), 2);
    inject(&rig, Verb::Remove);
    assert_eq!(rig.read(bar0::IDENT), u32::MAX);
    inject(&rig, Verb::Heal);
    assert_eq!(rig.read(bar0::IDENT), u32::MAX, "a hand put it there");
    inject(&rig, Verb::Return);
    rig.vanish();
    rig.bring_up();
    assert_eq!(rig.read(bar0::GENERATION), 1);
    eventually("what is kept", || (rig.vitals().ecc_ce == 5).then_some(()));
}
