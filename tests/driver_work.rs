//! The driver's ordinary life on a simulated chip: open, memory, copies, launches, waiting.

mod driver_support;

use std::time::Duration;

use auk_asic::ident::Model;
use auk_asic::program::{Activation, Gemm, Precision, Program, Scale};
use auk_asic::{SelfTest, Status};
use auk_driver::{Command, ContextOptions, Error, QueueOptions};
use auk_sim::{Chip, ChipProfile};
use driver_support::*;

#[test]
fn a_chip_opens_and_says_what_it_is() {
    let chip = chip();
    let device = open(&chip);
    let capabilities = device.capabilities();
    assert_eq!(capabilities.model(), Model::Silicon);
    assert_eq!(capabilities.serial(), chip.serial());
    assert_eq!(capabilities.io_queues(), 32);
    assert_eq!(device.identity().unwrap().serial, chip.serial());
    assert!(device.firmware_version().unwrap().is_some());
    device.check().unwrap();
    drop(device);
    assert_strict(&chip);
}

#[test]
fn a_chip_opens_again_after_it_was_closed() {
    let chip = chip();
    for _ in 0..3 {
        let device = open(&chip);
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        queue.run(&Command::nop(), SOON).unwrap();
    }
    assert_strict(&chip);
}

#[test]
fn bytes_go_to_the_chip_and_through_it_and_back() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let length = 300_001;
    let data = pattern(1, length);
    let host = device.buffer(length).unwrap();
    let back = device.buffer(length).unwrap();
    let first = device.alloc(length as u64).unwrap();
    let second = device.alloc(length as u64).unwrap();
    host.write(0, &data).unwrap();
    let commands = [
        Command::copy(&first, &host, length as u64),
        Command::copy(&second, &first, length as u64).fenced(),
        Command::copy(&back, &second, length as u64).fenced(),
    ];
    let mut tickets = Vec::new();
    queue.submit_batch(&commands, &mut tickets).unwrap();
    for ticket in tickets {
        queue.wait(ticket, SOON).unwrap();
    }
    assert_eq!(back.to_vec(0, length).unwrap(), data);
    drop(queue);
    assert_strict(&chip);
}

#[test]
fn plain_bytes_are_uploaded_and_downloaded_in_pieces() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let data = pattern(2, (2 << 20) + 77);
    let memory = device.alloc(data.len() as u64 + 5).unwrap();
    queue.upload(&memory, 5, &data, SOON).unwrap();
    let mut back = vec![0; data.len()];
    queue.download(&memory, 5, &mut back, SOON).unwrap();
    assert!(back == data);
}

#[test]
fn a_fill_repeats_its_pattern_and_is_cut_at_the_end() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let host = device.buffer(64).unwrap();
    host.write(0, &[0xEE; 64]).unwrap();
    queue
        .run(&Command::fill((&host, 3), 0x0807_0605_0403_0201, 13), SOON)
        .unwrap();
    let found = host.to_vec(0, 20).unwrap();
    assert_eq!(found[..3], [0xEE; 3]);
    assert_eq!(found[3..16], [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5]);
    assert_eq!(found[16..], [0xEE; 4]);
}

/// The plain answer that the chip's must equal, bit for bit.
fn gemm_reference(gemm: &Gemm, a: &[i8], b: &[i8], bias: &[i32], scales: &[Scale]) -> Vec<i8> {
    let (inner, columns) = (gemm.inner as usize, gemm.columns as usize);
    let mut out = Vec::new();
    for row in a.chunks(inner) {
        for n in 0..columns {
            let sum: i32 = (0..inner)
                .map(|k| i32::from(row[k]) * i32::from(b[k * columns + n]))
                .sum();
            out.push(scales[n].apply((sum + bias[n]).max(0)));
        }
    }
    out
}

#[test]
fn an_int8_product_equals_the_plain_one() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let gemm = Gemm {
        precision: Precision::Int8 { requantise: true },
        inner: 67,
        columns: 33,
        bias: true,
        activation: Activation::Relu,
    };
    let rows = 19;
    let signed =
        |seed, length| -> Vec<i8> { pattern(seed, length).iter().map(|b| *b as i8).collect() };
    let a = signed(3, rows * 67);
    let b = signed(4, 67 * 33);
    let bias: Vec<i32> = (0..33).map(|n| n * 1000 - 16_000).collect();
    let scales: Vec<Scale> = (0..33)
        .map(|n| Scale {
            multiplier: 1 << 20 | n,
            shift: 30,
        })
        .collect();

    let program = device.load(&Program::Gemm(gemm)).unwrap();
    let layout = gemm.params();
    let params = device.buffer(layout.length as usize).unwrap();
    params.write_value(0, b.as_slice()).unwrap();
    params
        .write_value(layout.bias.unwrap() as usize, bias.as_slice())
        .unwrap();
    params
        .write_value(layout.scales.unwrap() as usize, scales.as_slice())
        .unwrap();
    let weights = device.alloc(layout.length).unwrap();
    let input = device.buffer(a.len()).unwrap();
    input.write_value(0, a.as_slice()).unwrap();
    let output = device.buffer(rows * 33).unwrap();

    queue
        .run(&Command::copy(&weights, &params, layout.length), SOON)
        .unwrap();
    queue
        .run(
            &Command::gemm(&program, rows as u32, &output, &input, &weights),
            SOON,
        )
        .unwrap();
    let found: Vec<i8> = output
        .to_vec(0, rows * 33)
        .unwrap()
        .iter()
        .map(|byte| *byte as i8)
        .collect();
    let expected = gemm_reference(&gemm, &a, &b, &bias, &scales);
    assert_eq!(found, expected);
    assert!(expected.iter().any(|value| *value != 0 && *value != 127));
}

#[test]
fn a_checksum_is_the_result_of_its_command() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let host = device.buffer(9).unwrap();
    host.write(0, b"123456789").unwrap();
    let found = queue
        .run(&Command::checksum(&program, &host, 9), SOON)
        .unwrap();
    // The check value of CRC-32C (RFC 3720, appendix B.4, and every catalogue of CRCs).
    assert_eq!(found, 0xE306_9283);
}

#[test]
fn an_embedding_sum_adds_the_rows_it_names() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let program = device
        .load(&Program::EmbeddingSum {
            rows: 4,
            columns: 2,
        })
        .unwrap();
    let table = device.buffer(32).unwrap();
    table
        .write_value(0, &[1f32, 2., 3., 4., 5., 6., 7., 8.])
        .unwrap();
    let src = device.buffer(64).unwrap();
    // Two bags: rows 0 and 3, and row 1.
    src.write_value(0, &[0u32, 2, 3, 0, 3, 1]).unwrap();
    let dst = device.buffer(16).unwrap();
    queue
        .run(
            &Command::embedding_sum(&program, 2, 3, &dst, &src, &table),
            SOON,
        )
        .unwrap();
    assert_eq!(dst.read_value::<[f32; 4]>(0).unwrap(), [8., 10., 3., 4.]);
}

#[test]
fn a_full_queue_says_so_and_goes_on_after_its_outcomes_are_collected() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device
        .create_queue(&QueueOptions::default().depth(4))
        .unwrap();
    for round in 0..50 {
        let mut tickets = Vec::new();
        queue
            .submit_batch(&[Command::nop(); 4], &mut tickets)
            .unwrap();
        assert!(matches!(
            queue.submit(&Command::nop()),
            Err(Error::QueueFull { .. })
        ));
        if round % 2 == 0 {
            for ticket in tickets.iter().rev() {
                queue.wait(*ticket, SOON).unwrap();
            }
            assert!(matches!(
                queue.wait(tickets[0], SOON),
                Err(Error::UnknownTicket)
            ));
        } else {
            let mut left = tickets;
            while !left.is_empty() {
                if let Some(done) = queue.poll() {
                    done.result.unwrap();
                    left.retain(|ticket| *ticket != done.ticket);
                }
            }
        }
        assert!(queue.poll().is_none());
    }
    assert_eq!(queue.strays(), 0);
    assert_strict(&chip);
}

#[test]
fn a_wait_by_interrupt_ends_with_its_command() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    for round in 0..20 {
        let ticket = queue
            .submit(&Command::wait(&semaphore, round + 1, 5_000))
            .unwrap();
        let waker = semaphore.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round % 4));
            waker.store(0, round + 1).unwrap();
        });
        assert_eq!(queue.wait_interrupt(ticket, SOON).unwrap(), round + 1);
        thread.join().unwrap();
    }
}

#[test]
fn two_queues_meet_at_a_semaphore() {
    let chip = chip();
    let device = open(&chip);
    let memory = device.alloc(8).unwrap();
    let mut first = device.create_queue(&QueueOptions::default()).unwrap();
    first.run(&Command::fill(&memory, 0, 8), SOON).unwrap();
    let waiter = std::thread::spawn({
        let (device, memory) = (device.device.clone(), memory.clone());
        move || {
            let mut second = device.create_queue(&QueueOptions::default()).unwrap();
            second.run(&Command::wait(&memory, 7, 8_000), SOON)
        }
    });
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(first.run(&Command::signal(&memory, 7), SOON).unwrap(), 7);
    assert_eq!(waiter.join().unwrap().unwrap(), 7);
}

#[test]
fn a_command_that_does_not_end_can_be_waited_for_again_and_aborted() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    for _ in 0..2 {
        let waited = queue.wait(ticket, Duration::from_millis(30));
        assert!(matches!(waited, Err(Error::TimedOut { .. })), "{waited:?}");
    }
    assert_eq!(queue.in_flight(), 1);
    queue.abort(ticket, SOON).unwrap();
    let ended = queue.wait(ticket, SOON);
    assert!(
        matches!(
            ended,
            Err(Error::Command {
                status: Status::Aborted,
                ..
            })
        ),
        "{ended:?}"
    );
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_mixed_batch_gives_each_command_its_own_end() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let host = device.buffer(4096).unwrap();
    let memory = device.alloc(4096).unwrap();
    let commands = [
        Command::nop(),
        Command::fill(&host, 0x55, 4096),
        Command::copy(&memory, &host, 4096).fenced(),
        Command::copy(&host, (&host, 8), 64),
        Command::checksum(&program, &memory, 4096).fenced(),
        Command::signal((&memory, 4), 1),
    ];
    let mut tickets = Vec::new();
    queue.submit_batch(&commands, &mut tickets).unwrap();
    let ends: Vec<_> = tickets
        .iter()
        .map(|ticket| queue.wait(*ticket, SOON))
        .collect();
    assert!(ends[0].is_ok() && ends[1].is_ok() && ends[2].is_ok() && ends[4].is_ok());
    let status = |end: &Result<u64, Error>| match end {
        Err(Error::Command { status, .. }) => Some(*status),
        _ => None,
    };
    assert_eq!(status(&ends[3]), Some(Status::InvalidField));
    assert_eq!(status(&ends[5]), Some(Status::Misaligned));
}

#[test]
fn what_does_not_fit_its_buffer_is_refused_before_the_chip_sees_it() {
    let chip = chip();
    let device = open(&chip);
    let other = open(
        &Chip::new(ChipProfile {
            serial: 2,
            ..profile()
        })
        .unwrap(),
    );
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let host = device.buffer(100).unwrap();
    let memory = device.alloc(100).unwrap();
    let strange = other.buffer(100).unwrap();
    let strange_memory = other.alloc(100).unwrap();
    let wrong = [
        Command::copy(&memory, &host, 101),
        Command::copy(&memory, &host, 0),
        Command::copy((&memory, 60), &host, 41),
        Command::copy((&memory, u64::MAX), &host, 2),
        Command::copy(&memory, &strange, 8),
        Command::copy(&strange_memory, &host, 8),
        Command::signal((&host, 96), 1),
    ];
    for command in wrong {
        let refused = queue.submit(&command);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{command:?}");
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_context_keeps_its_queues_inside_its_bounds() {
    let chip = chip();
    let device = open(&chip);
    let inside = device.buffer(4096).unwrap();
    let outside = device.buffer(4096).unwrap();
    let owners = device.alloc(4096).unwrap();
    let context = device
        .create_context(&ContextOptions::default().window(&inside).memory(8192))
        .unwrap();
    let own = context.alloc(8192).unwrap();
    assert!(context.alloc(1).is_err());
    let mut queue = device
        .create_queue(&QueueOptions::default().context(&context))
        .unwrap();
    queue
        .run(&Command::copy(&own, &inside, 4096), SOON)
        .unwrap();
    for wrong in [
        Command::copy(&own, &outside, 8),
        Command::copy(&owners, &inside, 8),
    ] {
        let refused = queue.run(&wrong, SOON);
        assert!(
            matches!(
                refused,
                Err(Error::Command {
                    status: Status::AccessDenied,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    drop((queue, own));
    drop(context);
    assert_eq!(device.telemetry().unwrap().contexts, 1);
}

#[test]
fn what_is_dropped_is_freed_on_the_chip() {
    let chip = chip();
    let device = open(&chip);
    let used = || device.telemetry().unwrap().memory_used;
    let before = used();
    let memory = device.alloc(1 << 20).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let queue = device.create_queue(&QueueOptions::default()).unwrap();
    assert_eq!(used(), before + (1 << 20));
    let telemetry = device.telemetry().unwrap();
    assert_eq!((telemetry.programs, telemetry.queues), (1, 1));
    drop((memory, program, queue));
    assert_eq!(used(), before);
    let telemetry = device.telemetry().unwrap();
    assert_eq!((telemetry.programs, telemetry.queues), (0, 0));
}

#[test]
fn the_self_test_passes_and_the_vital_signs_say_so() {
    let chip = chip();
    let device = open(&chip);
    assert_eq!(device.self_test(SOON).unwrap(), SelfTest::Passed);
    std::thread::sleep(Duration::from_millis(200));
    let vitals = device.vitals().unwrap();
    assert!(vitals.self_test_passed(), "{vitals:?}");
}

#[test]
fn an_fpga_prototype_has_less_and_works_the_same() {
    let chip = Chip::new(ChipProfile {
        memory: 1 << 20,
        ..ChipProfile::fpga(9)
    })
    .unwrap();
    let device = open(&chip);
    assert_eq!(device.capabilities().model(), Model::Fpga);
    let mut first = device.create_queue(&QueueOptions::default()).unwrap();
    let second = device.create_queue(&QueueOptions::default()).unwrap();
    let third = device.create_queue(&QueueOptions::default());
    assert!(matches!(third, Err(Error::NoQueue { queues: 2, .. })));
    let buffers: Vec<_> = (0..64).map(|_| device.buffer(1 << 20).unwrap()).collect();
    for buffer in &buffers {
        assert!(buffer.iova() + (buffer.len() as u64) < 1 << 40);
        first.run(&Command::fill(buffer, 1, 4096), SOON).unwrap();
    }
    drop(second);
    device.create_queue(&QueueOptions::default()).unwrap();
    assert!(matches!(
        device.load(&Program::EmbeddingSum {
            rows: 1,
            columns: 1
        }),
        Err(Error::Invalid { .. })
    ));
    assert_strict(&chip);
}
