//! Injected faults of commands, completions, interrupts and data, each as a driver would see it on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use auk_asic::admin::AdminCommand;
use auk_asic::bar0::{self};
use auk_asic::io::IoCommand;
use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_asic::submission::Operand;
use auk_asic::{State, Status};
use auk_sim::inject::{Opcode, Trigger, Verb};
use common::faults::*;
use common::{IOVA, Rig, eventually, fired, noise};

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
