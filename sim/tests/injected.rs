//! Injected faults, each as a driver would see it on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use auk_asic::admin::AdminCommand;
use auk_asic::bar0::{self, Control};
use auk_asic::completion::Tail;
use auk_asic::config::header;
use auk_asic::io::IoCommand;
use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_asic::submission::Operand;
use auk_asic::{Fault, State, Status};
use auk_sim::Chip;
use auk_sim::inject::{Injection, Opcode, Trigger, Verb};
use auk_vfio_user::client::{Client, Options};
use common::{DEADLINE, HOST_BYTES, IOVA, Queue, Rig, eventually, fired, noise, small};

/// What shows that something does not happen.
const WHILE: Duration = Duration::from_millis(30);

fn rig() -> (Rig, Queue) {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    (rig, queue)
}

fn inject(rig: &Rig, verb: Verb) {
    rig.chip.inject(verb).unwrap();
}

fn inject_when(rig: &Rig, verb: Verb, when: Trigger) {
    let injection = Injection::new("", verb).when(when);
    rig.chip.inject_when(&injection).unwrap();
}

fn nops(rig: &mut Rig, queue: &mut Queue, count: usize) {
    for _ in 0..count {
        queue.push(rig, IoCommand::Nop.encode());
    }
    queue.ring(rig);
}

fn tails(rig: &Rig, queue: &mut Queue, count: usize) -> Vec<Tail> {
    (0..count)
        .map(|_| eventually("a completion", || queue.raw(rig)))
        .collect()
}

fn ids(rig: &Rig, queue: &mut Queue, count: usize) -> Vec<u16> {
    let tails = tails(rig, queue, count);
    tails.iter().map(Tail::command_id).collect()
}

fn nothing_more(rig: &Rig, queue: &mut Queue) {
    std::thread::sleep(WHILE);
    assert_eq!(queue.raw(rig), None);
}

#[test]
fn a_dropped_completion_never_comes_and_those_behind_it_do() {
    let (mut rig, mut queue) = rig();
    let when = Trigger {
        skip: 1,
        ..Trigger::default()
    };
    inject_when(&rig, Verb::CompletionDrop, when);
    nops(&mut rig, &mut queue, 4);
    assert_eq!(ids(&rig, &mut queue, 3), [0, 2, 3]);
    nothing_more(&rig, &mut queue);
    assert_eq!(rig.chip.faults()["completion-drop"], 1);
    let abort = AdminCommand::Abort {
        queue: 1,
        command_id: 1,
    };
    assert_ne!(rig.admin(abort), Ok(0), "it has ended long ago");
}

#[test]
fn a_delayed_completion_is_overtaken_and_comes() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::CompletionDelay { ms: 60 });
    let begun = Instant::now();
    nops(&mut rig, &mut queue, 3);
    assert_eq!(ids(&rig, &mut queue, 3), [1, 2, 0]);
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_duplicate_comes_behind_what_it_is_of() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::CompletionDuplicate);
    nops(&mut rig, &mut queue, 2);
    assert_eq!(ids(&rig, &mut queue, 3), [0, 0, 1]);
    // The ring goes on, lap after lap.
    for round in 0..200 {
        nops(&mut rig, &mut queue, 1);
        assert_eq!(ids(&rig, &mut queue, 1), [2 + round]);
    }
}

#[test]
fn a_reordered_completion_comes_behind_the_next_one() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::CompletionReorder);
    nops(&mut rig, &mut queue, 1);
    nothing_more(&rig, &mut queue);
    nops(&mut rig, &mut queue, 1);
    assert_eq!(ids(&rig, &mut queue, 2), [1, 0]);
}

#[test]
fn what_is_wrong_in_a_completion_is_that_alone() {
    for verb in [
        Verb::CompletionCorrupt,
        Verb::CompletionWrongId,
        Verb::CompletionWrongQueue,
    ] {
        let (mut rig, mut queue) = rig();
        inject(&rig, verb.clone());
        nops(&mut rig, &mut queue, 2);
        let [wrong, right] = tails(&rig, &mut queue, 2)[..] else {
            unreachable!()
        };
        let as_it_should_be = right.with_command_id(0);
        assert_eq!(right.command_id(), 1);
        match verb {
            Verb::CompletionCorrupt => {
                wrong.status().unwrap_err();
                let code = as_it_should_be.status_code();
                assert_eq!(wrong.with_status_code(code), as_it_should_be);
            }
            Verb::CompletionWrongId => {
                assert!(wrong.command_id() > 4096);
                assert_eq!(wrong.with_command_id(0), as_it_should_be);
            }
            _ => {
                assert_ne!(wrong.queue(), 1);
                assert_eq!(wrong.with_queue(1), as_it_should_be);
            }
        }
    }
}

#[test]
fn a_completion_of_a_former_life_comes_where_the_right_one_follows() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::CompletionStaleTag { ms: 30 });
    nops(&mut rig, &mut queue, 1);
    let stale = tails(&rig, &mut queue, 1)[0];
    assert_ne!(stale.tag(), queue.tag);
    queue.consumed -= 1;
    let done = queue.wait(&rig);
    assert_eq!((done.id, done.outcome), (0, Ok(0)));
    nothing_more(&rig, &mut queue);
}

#[test]
fn a_lost_interrupt_is_not_fired_and_the_next_one_is() {
    let (mut rig, mut queue) = rig();
    let eventfd = rig.eventfd(1);
    inject(&rig, Verb::InterruptLost);
    for expected in [0, 1] {
        queue.arm(&rig);
        nops(&mut rig, &mut queue, 1);
        ids(&rig, &mut queue, 1);
        std::thread::sleep(WHILE);
        assert_eq!(fired(&eventfd), expected);
    }
}

#[test]
fn spurious_interrupts_come_once_or_in_a_storm() {
    let (mut rig, mut queue) = rig();
    let eventfd = rig.eventfd(1);
    inject(&rig, Verb::InterruptSpurious { vector: 1 });
    assert_eq!(fired(&eventfd), 1);
    let storm = Verb::InterruptStorm {
        vector: 1,
        for_ms: 50,
    };
    inject(&rig, storm);
    let mut count = 0;
    eventually("a storm", || {
        count += fired(&eventfd);
        (count > 100).then_some(())
    });
    nops(&mut rig, &mut queue, 1);
    assert_eq!(ids(&rig, &mut queue, 1), [0], "work goes on");
    std::thread::sleep(Duration::from_millis(60));
    fired(&eventfd);
    std::thread::sleep(WHILE);
    assert_eq!(fired(&eventfd), 0, "it is over");
}

#[test]
fn a_doorbell_that_is_ignored_is_seen_when_it_moves_again() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::DoorbellIgnored);
    nops(&mut rig, &mut queue, 2);
    nothing_more(&rig, &mut queue);
    nops(&mut rig, &mut queue, 1);
    assert_eq!(ids(&rig, &mut queue, 3), [0, 1, 2]);
}

#[test]
fn a_stuck_queue_stands_still_beside_one_that_works() {
    let (mut rig, mut queue) = rig();
    let mut other = rig.queue(2);
    inject(
        &rig,
        Verb::QueueStuck {
            number: 1,
            for_ms: 0,
        },
    );
    nops(&mut rig, &mut queue, 2);
    nops(&mut rig, &mut other, 1);
    assert_eq!(ids(&rig, &mut other, 1), [0]);
    nothing_more(&rig, &mut queue);
    let abort = AdminCommand::Abort {
        queue: 1,
        command_id: 1,
    };
    assert_eq!(rig.admin(abort), Ok(0), "what was not begun can be aborted");
    assert_eq!(ids(&rig, &mut queue, 1), [1]);
    inject(&rig, Verb::Heal);
    assert_eq!(ids(&rig, &mut queue, 1), [0]);
    let error = rig.chip.inject(Verb::QueueStuck {
        number: 7,
        for_ms: 0,
    });
    assert!(error.unwrap_err().to_string().contains("queue 7"));
}

fn copy(rig: &mut Rig, length: u64) -> (IoCommand, Operand, Vec<u8>) {
    let data = noise(length, length as usize);
    let src = rig.host_data(&data);
    let dst = Operand::host(IOVA + rig.host_memory(length));
    (IoCommand::Copy { dst, src, length }, dst, data)
}

#[test]
fn a_copy_that_leaves_the_mapped_ranges_ends_in_a_dma_fault_and_is_no_driver_s_error() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::DmaUnmapped);
    assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
    let (copy, ..) = copy(&mut rig, 4096);
    assert_eq!(queue.run(&mut rig, copy), Err(Status::DmaFault));
    assert_eq!(queue.run(&mut rig, copy), Ok(0));
    assert_eq!(rig.chip.strict_violations(), []);
}

#[test]
fn a_short_copy_says_success_and_leaves_the_second_half() {
    let (mut rig, mut queue) = rig();
    inject(&rig, Verb::DmaShort);
    let (copy, dst, data) = copy(&mut rig, 4096);
    assert_eq!(queue.run(&mut rig, copy), Ok(0));
    let found = rig.host_bytes(dst, 4096);
    assert_eq!(found[..2048], data[..2048]);
    assert_eq!(found[2048..], [0; 2048]);
}

fn wrong_bits(found: &[u8], expected: &[u8]) -> u32 {
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[test]
fn one_bit_of_a_copy_flips_short_or_long() {
    for length in [1, 4096, 5 << 20] {
        let (mut rig, mut queue) = rig();
        inject(&rig, Verb::CopyFlip);
        let (copy, dst, data) = copy(&mut rig, length);
        assert_eq!(queue.run(&mut rig, copy), Ok(0));
        assert_eq!(wrong_bits(&rig.host_bytes(dst, data.len()), &data), 1);
        assert_eq!(queue.run(&mut rig, copy), Ok(0));
        assert_eq!(rig.host_bytes(dst, data.len()), data);
    }
}

#[test]
fn results_flip_at_the_rate_that_was_asked_for() {
    const RUNS: u32 = 400;
    let (mut rig, mut queue) = rig();
    let gemm = Gemm {
        precision: Precision::Int8 { requantise: false },
        inner: 4,
        columns: 4,
        bias: false,
        activation: Activation::None,
    };
    let program = rig.load(Program::Gemm(gemm), 0).unwrap();
    let src = rig.host_data(&[1; 4]);
    let params = rig.host_data(&vec![2; gemm.params().length as usize]);
    let dst = Operand::host(IOVA + rig.host_memory(64));
    let launch = IoCommand::Launch {
        program,
        rows: 1,
        dst,
        src,
        params,
        length: gemm.input_bytes(1),
    };
    let when = Trigger {
        one_in: 10,
        times: 0,
        seed: 1,
        opcode: Some(Opcode::Launch),
        ..Trigger::default()
    };
    inject_when(&rig, Verb::ResultFlip, when);
    let bytes = gemm.output_bytes(1) as usize;
    let mut wrong = 0;
    for _ in 0..RUNS {
        assert_eq!(queue.run(&mut rig, launch), Ok(0));
        let found = rig.host_bytes(dst, bytes);
        wrong += wrong_bits(&found, &8i32.to_le_bytes().repeat(4));
    }
    assert_eq!(u64::from(wrong), rig.chip.faults()["result-flip"]);
    assert!((RUNS / 20..RUNS / 5).contains(&wrong), "{wrong} of {RUNS}");
}

#[test]
fn a_fault_of_the_chip_can_wait_for_the_hundredth_command() {
    let (mut rig, mut queue) = rig();
    let when = Trigger {
        queue: Some(1),
        skip: 99,
        ..Trigger::default()
    };
    inject_when(&rig, Verb::FirmwareHang, when);
    for _ in 0..4 {
        nops(&mut rig, &mut queue, 25);
        ids(&rig, &mut queue, 25);
    }
    nops(&mut rig, &mut queue, 1);
    nothing_more(&rig, &mut queue);
    assert_eq!(rig.vitals().state, State::Running);
}

#[test]
fn a_fault_can_wait_for_the_clock_or_for_a_register() {
    let (mut rig, _queue) = rig();
    let by_the_clock = Trigger {
        after_ms: 20,
        every_ms: 10,
        times: 3,
        ..Trigger::default()
    };
    inject_when(&rig, Verb::EccCe { count: 2 }, by_the_clock);
    eventually("three times", || (rig.vitals().ecc_ce == 6).then_some(()));
    let at_scratch = Trigger {
        register: Some(bar0::SCRATCH.offset),
        ..Trigger::default()
    };
    inject_when(&rig, Verb::FirmwareCrash, at_scratch);
    assert!(!rig.status().faulted());
    rig.read(bar0::SCRATCH);
    assert!(rig.status().faulted());
}

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
