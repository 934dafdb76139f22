//! The I/O commands do what docs/hardware.md, section 7, says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use auk_asic::Status;
use auk_asic::io::IoCommand;
use auk_asic::submission::{Operand, Space, Submission};
use auk_sim::Violation;
use common::{IOVA, Queue, Rig, noise, small};

fn rig() -> (Rig, Queue) {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    (rig, queue)
}

#[test]
fn a_nop_completes() {
    let (mut rig, mut queue) = rig();
    assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
}

#[test]
fn completions_keep_their_order_and_phase_over_many_laps() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue_in(1, 2, 0);
    for _ in 0..1000 {
        let first = queue.push(&rig, IoCommand::Nop.encode());
        queue.push(&rig, IoCommand::Nop.encode());
        queue.push(&rig, IoCommand::Nop.encode().fenced());
        queue.ring(&mut rig);
        for offset in 0..3 {
            assert_eq!(queue.wait(&rig).id, first.wrapping_add(offset));
        }
    }
    assert!(rig.chip.strict_violations().is_empty());
}

#[test]
fn a_copy_moves_bytes_between_all_spaces_at_any_alignment() {
    let (mut rig, mut queue) = rig();
    for length in [1, 7, 64, 4096, 100_001, (3 << 20) + 5] {
        let data = noise(length, length as usize);
        let src = rig.host_data(&data);
        let back = IOVA + rig.host_memory(length + 8) + 3;
        let (near, far) = (Operand::local(0x1001), Operand::local(0x80_0007));
        for (dst, src) in [(near, src), (far, near), (Operand::host(back), far)] {
            let copy = IoCommand::Copy { dst, src, length };
            assert_eq!(queue.run(&mut rig, copy), Ok(0));
        }
        let seen = rig.host_bytes(Operand::host(back), data.len());
        assert!(seen == data, "{length} bytes came back changed");
    }
}

#[test]
fn copies_that_make_no_sense_are_refused() {
    let (mut rig, mut queue) = rig();
    let host = rig.host_data(&[1; 4096]);
    let memory = rig.chip.profile().memory;
    let most = 1u64 << rig.chip.profile().max_transfer_log2;
    let peer = Operand {
        space: Space::Peer,
        address: 0,
    };
    let local = Operand::local;
    for (dst, src, length, status) in [
        (local(0), host, 0, Status::InvalidField),
        (local(0), host, most + 1, Status::InvalidField),
        (local(0), local(100), 101, Status::InvalidField),
        (local(memory - 8), host, 9, Status::OutOfRange),
        (local(u64::MAX), host, 9, Status::OutOfRange),
        (local(0), Operand::host(0), 1, Status::DmaFault),
        (local(0), Operand::host(u64::MAX), 1, Status::DmaFault),
        (
            local(0),
            Operand::host(IOVA + common::HOST_BYTES - 1),
            2,
            Status::DmaFault,
        ),
        (local(0), peer, 1, Status::Unsupported),
    ] {
        let copy = IoCommand::Copy { dst, src, length };
        assert_eq!(queue.run(&mut rig, copy), Err(status), "{copy:?}");
    }
}

#[test]
fn dma_outside_the_mapped_ranges_is_a_violation() {
    let (mut rig, mut queue) = rig();
    let copy = IoCommand::Copy {
        dst: Operand::local(0),
        src: Operand::host(0x5000),
        length: 64,
    };
    assert_eq!(queue.run(&mut rig, copy), Err(Status::DmaFault));
    let violation = Violation::DmaNotMapped {
        queue: 1,
        command_id: 0,
    };
    assert_eq!(rig.chip.strict_violations(), [violation]);
}

#[test]
fn a_fill_repeats_its_pattern_and_cuts_it_at_the_end() {
    let (mut rig, mut queue) = rig();
    for length in [1, 8, 13, 4096, (2 << 20) + 3] {
        let dst = Operand::host(IOVA + rig.host_memory(length + 16) + 1);
        let pattern = 0x0807_0605_0403_0201;
        let fill = IoCommand::Fill {
            dst,
            pattern,
            length,
        };
        assert_eq!(queue.run(&mut rig, fill), Ok(0));
        let seen = rig.host_bytes(dst, length as usize + 4);
        let (filled, rest) = seen.split_at(length as usize);
        let right = filled
            .iter()
            .enumerate()
            .all(|(index, &byte)| byte == (index % 8) as u8 + 1);
        assert!(right, "{length} bytes");
        assert_eq!(rest, [0; 4], "nothing beyond the end");
    }
}

#[test]
fn opcodes_and_fields_that_do_not_exist_are_refused_and_the_queue_goes_on() {
    let (mut rig, mut queue) = rig();
    let nop = IoCommand::Nop.encode();
    for (entry, status) in [
        (Submission { opcode: 6, ..nop }, Status::InvalidOpcode),
        (Submission { flags: 2, ..nop }, Status::InvalidField),
        (Submission { reserved: 1, ..nop }, Status::InvalidField),
        (
            Submission {
                args: [0, 0, 0, 1],
                ..nop
            },
            Status::InvalidField,
        ),
        (
            Submission {
                dst_space: 3,
                opcode: 1,
                ..nop
            },
            Status::InvalidField,
        ),
    ] {
        queue.submit(&mut rig, entry);
        assert_eq!(queue.wait(&rig).outcome, Err(status));
    }
    assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
}

#[test]
fn a_semaphore_orders_two_queues() {
    let mut rig = Rig::new(small());
    let (mut first, mut second) = (rig.queue(1), rig.queue(2));
    let semaphore = rig.host_data(&5u64.to_le_bytes());
    let wait = IoCommand::Wait {
        src: semaphore,
        value: 8,
        timeout_ms: 0,
    };
    let id = first.submit(&mut rig, wait.encode());
    let signal = IoCommand::Signal {
        dst: semaphore,
        value: 2,
    };
    assert_eq!(second.run(&mut rig, signal), Ok(7));
    assert_eq!(first.poll(&rig), None, "7 is not 8 yet");
    assert_eq!(second.run(&mut rig, signal), Ok(9));
    let done = first.wait(&rig);
    assert_eq!((done.id, done.outcome), (id, Ok(9)));
}

#[test]
fn a_wait_sees_what_the_host_itself_stores() {
    let (mut rig, mut queue) = rig();
    let semaphore = rig.host_data(&[0; 8]);
    let wait = IoCommand::Wait {
        src: semaphore,
        value: 1,
        timeout_ms: 0,
    };
    queue.submit(&mut rig, wait.encode());
    std::thread::sleep(std::time::Duration::from_millis(20));
    rig.host.store64(semaphore.address - IOVA, 3);
    assert_eq!(queue.wait(&rig).outcome, Ok(3));
}

#[test]
fn a_wait_ends_in_its_time() {
    let (mut rig, mut queue) = rig();
    let wait = IoCommand::Wait {
        src: Operand::local(0x1000),
        value: 1,
        timeout_ms: 10,
    };
    assert_eq!(queue.run(&mut rig, wait), Err(Status::TimedOut));
}

#[test]
fn semaphores_are_aligned_and_add_modulo_two_to_the_64() {
    let (mut rig, mut queue) = rig();
    let signal = |dst, value| IoCommand::Signal { dst, value };
    let dst = Operand::local(0x1004);
    assert_eq!(queue.run(&mut rig, signal(dst, 1)), Err(Status::Misaligned));
    let dst = Operand::local(0x1008);
    assert_eq!(queue.run(&mut rig, signal(dst, u64::MAX)), Ok(u64::MAX));
    assert_eq!(queue.run(&mut rig, signal(dst, 3)), Ok(2));
}
