//! Faults, resets, power states, firmware, and what survives them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use auk_asic::admin::AdminCommand;
use auk_asic::bar0::{self, Control};
use auk_asic::config::{header, pcie};
use auk_asic::event::{EventCode, EventRecord};
use auk_asic::firmware::FirmwareVersion;
use auk_asic::io::IoCommand;
use auk_asic::log::{CrashLog, LogPage};
use auk_asic::submission::Operand;
use auk_asic::{Fault, State, Status};
use auk_sim::inject::{InjectError, Verb};
use auk_sim::{Chip, ChipProfile, Link, Timing};
use common::{IOVA, Rig, eventually, fired, small, vitals_in};
use zerocopy::FromBytes;

const fn hot(celsius: i32) -> Verb {
    Verb::Temperature { celsius, for_ms: 0 }
}

fn restart(rig: &mut Rig) {
    let generation = rig.read(bar0::GENERATION);
    let control = Control::new().with_restart(true);
    rig.write(bar0::CONTROL, control.into_bits());
    eventually("the next generation", || {
        (rig.read(bar0::GENERATION) != generation).then_some(())
    });
}

fn copy_out(rig: &mut Rig, queue: &mut common::Queue, local: u64, length: usize) -> Vec<u8> {
    let dst = Operand::host(IOVA + rig.host_memory(length as u64));
    let copy = IoCommand::Copy {
        dst,
        src: Operand::local(local),
        length: length as u64,
    };
    queue.run(rig, copy).unwrap();
    rig.host_bytes(dst, length)
}

fn fill_local(rig: &mut Rig, queue: &mut common::Queue, local: u64) {
    let fill = IoCommand::Fill {
        dst: Operand::local(local),
        pattern: u64::MAX,
        length: 64,
    };
    queue.run(rig, fill).unwrap();
}

fn log(rig: &mut Rig, page: LogPage) -> Vec<u8> {
    let at = rig.host_memory(8192);
    let length = rig.admin(AdminCommand::GetLog {
        dst: Operand::host(IOVA + at),
        page,
        offset: 0,
        length: 8192,
    });
    rig.host.read(at, length.unwrap() as usize)
}

fn events(rig: &mut Rig) -> Vec<(EventCode, u32)> {
    log(rig, LogPage::Events)
        .chunks_exact(EventRecord::SIZE)
        .map(|bytes| EventRecord::read_from_bytes(bytes).unwrap())
        .map(|event| (EventCode::parse(event.code).unwrap(), event.argument))
        .collect()
}

#[test]
fn a_restart_keeps_device_memory_and_forgets_queues_and_allocations() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let address = rig.allocate(4096, 0).unwrap();
    fill_local(&mut rig, &mut queue, address);
    rig.write(bar0::SCRATCH, 77);
    restart(&mut rig);
    assert!(!rig.status().ready(), "CONTROL.enable was cleared");
    assert_eq!(rig.read(bar0::CONTROL), 0);
    assert_eq!(rig.read(bar0::SCRATCH), 77);
    rig.bring_up();
    let mut queue = rig.queue(1);
    assert_eq!(copy_out(&mut rig, &mut queue, address, 64), [0xFF; 64]);
    assert_eq!(rig.allocate(4096, 0), Ok(address), "it is free again");
    assert_eq!(rig.vitals().generation, 2);
}

#[test]
fn a_function_reset_zeroes_device_memory_and_keeps_the_firmware() {
    let by_message = |rig: &mut Rig| rig.device.reset();
    let by_register = |rig: &mut Rig| {
        let offset = pcie::OFFSET + pcie::DEVCTL;
        let control = rig.config_read16(offset) | pcie::DEVCTL_FLR;
        rig.config_write(offset, &control.to_le_bytes());
    };
    for reset in [by_message as fn(&mut Rig), by_register] {
        let mut rig = Rig::new(small());
        let mut queue = rig.queue(1);
        fill_local(&mut rig, &mut queue, 0x2000);
        rig.write(bar0::SCRATCH, 77);
        reset(&mut rig);
        assert_eq!(rig.config_read16(header::COMMAND), 0);
        rig.bring_up();
        assert_eq!(rig.read(bar0::SCRATCH), 0);
        assert_eq!(rig.vitals().generation, 1);
        let mut queue = rig.queue(1);
        assert_eq!(copy_out(&mut rig, &mut queue, 0x2000, 64), [0; 64]);
        assert!(events(&mut rig).contains(&(EventCode::Reset, 0)));
        assert!(rig.chip.strict_violations().is_empty());
    }
}

#[test]
fn an_uncorrectable_error_poisons_the_next_command_and_faults_the_chip() {
    let mut rig = Rig::new(small());
    let eventfd = rig.eventfd(0);
    let mut queue = rig.queue(1);
    let copy = IoCommand::Copy {
        dst: Operand::local(0x1000),
        src: Operand::local(0x2000),
        length: 64,
    };
    assert_eq!(queue.run(&mut rig, copy), Ok(0));
    fired(&eventfd);
    rig.chip.inject(Verb::EccUe).unwrap();
    assert!(fired(&eventfd) > 0, "vector 0 tells of a fault");
    assert!(rig.status().faulted());
    assert!(!rig.status().ready());
    assert_eq!(
        rig.read(bar0::FAULT),
        u32::from(Fault::EccUncorrectable.code())
    );
    assert_eq!(
        queue.run(&mut rig, copy),
        Err(Status::EccUncorrectable),
        "the next that is fetched"
    );
    assert_eq!(queue.run(&mut rig, copy), Err(Status::DeviceFaulted));
    let vitals = rig.vitals();
    assert_eq!(vitals.state, State::Faulted);
    assert_eq!(vitals.last_fault, Some((Fault::EccUncorrectable, 1)));
    assert_eq!((vitals.ecc_ue, vitals.retired_pages), (1, 0));
}

#[test]
fn an_uncorrectable_error_ends_the_command_that_runs() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let copy = IoCommand::Copy {
        dst: Operand::local(0),
        src: Operand::host(IOVA),
        length: common::HOST_BYTES,
    };
    for _ in 0..8 {
        queue.push(&rig, copy.encode());
    }
    queue.ring(&mut rig);
    rig.chip.inject(Verb::EccUe).unwrap();
    let outcomes: Vec<_> = (0..8).map(|_| queue.wait(&rig).outcome).collect();
    let ended = |status| {
        let is = |outcome: &&Result<u64, Status>| **outcome == Err(status);
        outcomes.iter().filter(is).count()
    };
    assert_eq!(ended(Status::EccUncorrectable), 1, "{outcomes:?}");
    assert!(ended(Status::DeviceFaulted) > 0, "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&Err(Status::DeviceFaulted)));
}

#[test]
fn a_fault_survives_resets_and_is_cleared_by_a_restart_alone() {
    let mut rig = Rig::new(small());
    rig.chip.inject(Verb::EccUe).unwrap();
    rig.device.reset();
    rig.connect();
    assert!(rig.status().faulted(), "an FLR does not help");
    restart(&mut rig);
    rig.bring_up();
    assert!(!rig.status().faulted());
    assert_eq!(rig.read(bar0::FAULT), 0);
    let vitals = rig.vitals();
    assert_eq!(vitals.last_fault, Some((Fault::EccUncorrectable, 1)));
    assert_eq!((vitals.ecc_ue, vitals.retired_pages), (1, 1));
    let (crash, fault) = CrashLog::parse(&log(&mut rig, LogPage::Crash))
        .unwrap()
        .unwrap();
    assert_eq!((fault, crash.generation), (Fault::EccUncorrectable, 1));
    let events = events(&mut rig);
    for event in [
        (EventCode::FirmwareStarted, 1),
        (EventCode::EccUncorrectable, 1),
        (EventCode::DeviceFaulted, 1),
        (EventCode::Reset, 0),
        (EventCode::FirmwareStarted, 2),
        (EventCode::PageRetired, 1),
    ] {
        assert!(events.contains(&event), "{event:?} in {events:?}");
    }
}

#[test]
fn correctable_errors_count_and_stay_at_the_maximum() {
    let mut rig = Rig::new(small());
    rig.chip.inject(Verb::EccCe { count: 3 }).unwrap();
    rig.chip.inject(Verb::EccCe { count: u32::MAX }).unwrap();
    assert!(events(&mut rig).contains(&(EventCode::EccCorrectable, 3)));
    eventually("the vital signs", || {
        (rig.vitals().ecc_ce == u32::MAX).then_some(())
    });
    assert!(!rig.status().faulted());
}

#[test]
fn a_hung_firmware_stands_still_until_the_watchdog_sees_it() {
    let mut rig = Rig::new(ChipProfile {
        timing: Timing {
            watchdog: Duration::from_millis(300),
            ..Timing::default()
        },
        ..small()
    });
    let mut queue = rig.queue(1);
    rig.chip.inject(Verb::FirmwareHang).unwrap();
    let heartbeat = rig.vitals().heartbeat;
    assert_eq!(rig.vitals().state, State::Running, "it cannot say so");
    queue.submit(&mut rig, IoCommand::Nop.encode());
    eventually("the watchdog", || rig.status().faulted().then_some(()));
    assert_eq!(rig.vitals().heartbeat, heartbeat);
    assert_eq!(queue.poll(&rig), None);
    assert_eq!(rig.read(bar0::FAULT), u32::from(Fault::FirmwareHang.code()));
    restart(&mut rig);
    rig.bring_up();
    eventually("the heartbeat", || {
        (rig.vitals().heartbeat != heartbeat).then_some(())
    });
}

#[test]
fn a_crash_or_heat_beyond_the_shutdown_point_stops_the_chip() {
    let crash: fn(&Chip) = |chip| chip.inject(Verb::FirmwareCrash).unwrap();
    let heat: fn(&Chip) = |chip| chip.inject(hot(110)).unwrap();
    for (inject, fault) in [
        (crash, Fault::FirmwareCrash),
        (heat, Fault::OverTemperature),
    ] {
        let mut rig = Rig::new(small());
        inject(&rig.chip);
        eventually("the fault", || rig.status().faulted().then_some(()));
        assert_eq!(rig.read(bar0::FAULT), u32::from(fault.code()));
    }
}

#[test]
fn heat_at_the_throttle_point_throttles_and_is_told() {
    let mut rig = Rig::new(small());
    rig.chip.inject(hot(96)).unwrap();
    eventually("throttling", || {
        rig.vitals().throttle.thermal().then_some(())
    });
    assert!(events(&mut rig).contains(&(EventCode::ThrottleChanged, 1)));
    rig.chip.inject(Verb::Heal).unwrap();
    eventually("the end of throttling", || {
        (!rig.vitals().throttle.thermal()).then_some(())
    });
}

#[test]
fn in_d3hot_nothing_is_served_and_afterwards_everything_is_as_it_was() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    rig.set_power(3);
    assert!(rig.chip.in_d3hot());
    let heartbeat = rig.vitals().heartbeat;
    assert_eq!(rig.read(bar0::STATUS), u32::MAX);
    queue.submit(&mut rig, IoCommand::Nop.encode());
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(queue.poll(&rig), None);
    assert_eq!(rig.vitals().heartbeat, heartbeat);
    rig.set_power(0);
    assert!(rig.status().ready());
    queue.ring(&mut rig);
    assert_eq!(queue.wait(&rig).outcome, Ok(0));
}

#[test]
fn without_bus_master_nothing_is_fetched() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let command = header::COMMAND_MEMORY.to_le_bytes();
    rig.config_write(header::COMMAND, &command);
    queue.submit(&mut rig, IoCommand::Nop.encode());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(queue.poll(&rig), None);
    rig.connect();
    assert_eq!(queue.wait(&rig).outcome, Ok(0));
}

#[test]
fn the_heartbeat_counts_ten_a_second() {
    let rig = Rig::new(small());
    let first = rig.vitals().heartbeat;
    std::thread::sleep(Duration::from_millis(1000));
    let beats = rig.vitals().heartbeat - first;
    assert!(beats >= 9, "{beats} beats in a second");
}

#[test]
fn the_vital_signs_in_config_space_are_those_of_the_chip() {
    let rig = Rig::new(small());
    eventually("Running in config space", || {
        let vitals = vitals_in(&rig.chip.config());
        (vitals.state == State::Running.code() && vitals.sequence.is_multiple_of(2)).then_some(())
    });
}

#[test]
fn the_link_can_train_down_and_is_told() {
    let mut rig = Rig::new(small());
    let down = Link { speed: 4, width: 4 };
    rig.chip.inject(Verb::LinkSpeed { generation: 4 }).unwrap();
    rig.chip.inject(Verb::LinkWidth { lanes: 4 }).unwrap();
    assert_eq!(rig.chip.link(), down);
    assert_eq!(rig.config_read16(pcie::OFFSET + pcie::LNKSTA), 0x44);
    assert!(events(&mut rig).contains(&(EventCode::LinkChanged, 0x44)));
    rig.device.reset();
    assert_eq!(rig.chip.link(), down, "an FLR trains no link");
    for impossible in [
        Verb::LinkWidth { lanes: 16 },
        Verb::LinkWidth { lanes: 3 },
        Verb::LinkSpeed { generation: 6 },
        Verb::LinkSpeed { generation: 0 },
    ] {
        let error = rig.chip.inject(impossible).unwrap_err();
        assert!(matches!(error, InjectError::OutOfRange { .. }), "{error}");
    }
}

fn commit(rig: &mut Rig, image: &[u8], slot: u8) -> Result<u64, Status> {
    for (index, piece) in image.chunks(4096).enumerate() {
        let src = rig.host_data(piece);
        rig.admin(AdminCommand::FirmwareDownload {
            src,
            length: piece.len() as u32,
            offset: index as u32 * 4096,
        })?;
    }
    rig.admin(AdminCommand::FirmwareCommit {
        slot,
        activate: true,
        length: image.len() as u32,
    })
}

#[test]
fn new_firmware_runs_after_a_restart() {
    let mut rig = Rig::new(small());
    let version = FirmwareVersion::of(1, 2, 3);
    let model = rig.chip.profile().model;
    let image = auk_sim::firmware::build_image(model, version, 1, &[5; 10_000]).unwrap();
    let mut spoilt = image.clone();
    spoilt[0x41] ^= 1;
    assert_eq!(commit(&mut rig, &spoilt, 1), Err(Status::ImageSignature));
    assert_eq!(commit(&mut rig, &image, 2), Err(Status::InvalidField));
    assert_eq!(commit(&mut rig, &image, 1), Ok(0));
    assert_ne!(rig.vitals().firmware, Some(version), "not yet");
    restart(&mut rig);
    rig.bring_up();
    assert_eq!(rig.vitals().firmware, Some(version));
}

#[test]
fn a_rotten_slot_leaves_the_loader_which_takes_a_new_image() {
    let mut rig = Rig::new(small());
    rig.chip.inject(Verb::ImageRot { slot: 0 }).unwrap();
    let empty = rig.chip.inject(Verb::ImageRot { slot: 1 }).unwrap_err();
    assert!(empty.to_string().contains("slot 1"), "{empty}");
    let control = Control::new().with_restart(true);
    rig.write(bar0::CONTROL, control.into_bits());
    rig.bring_up();
    let status = rig.status();
    assert_eq!(status.state(), Ok(State::Loader));
    assert!(!status.faulted(), "the loader is no fault");
    assert_eq!(
        rig.read(bar0::FAULT),
        u32::from(Fault::ImageRejected.code())
    );
    assert_eq!(rig.admin(AdminCommand::SelfTest), Err(Status::NotReady));
    let model = rig.chip.profile().model;
    let version = FirmwareVersion::of(3, 0, 0);
    let image = auk_sim::firmware::build_image(model, version, 1, b"runtime").unwrap();
    assert_eq!(commit(&mut rig, &image, 0), Ok(0));
    restart(&mut rig);
    rig.bring_up();
    assert_eq!(rig.status().state(), Ok(State::Running));
    assert_eq!(rig.read(bar0::FAULT), 0);
}

#[test]
fn a_client_that_vanishes_leaves_the_chip_to_the_next() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    let wait = IoCommand::Wait {
        src: Operand::host(IOVA),
        value: u64::MAX,
        timeout_ms: 0,
    };
    queue.submit(&mut rig, wait.encode());
    rig.chip.inject(Verb::EccCe { count: 1 }).unwrap();
    rig.vanish();
    assert!(!rig.status().faulted(), "that is no fault of the chip");
    queue.ring_at(&mut rig, 2);
    rig.device.reset();
    rig.bring_up();
    let mut queue = rig.queue(1);
    assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
    assert_eq!(rig.vitals().generation, 1);
}
