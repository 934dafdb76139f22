//! Queues: how commands are submitted, waited for and ended.

use std::time::Duration;

use auk_asic::Status;
use auk_asic::program::Program;
use auk_driver::{Command, ContextOptions, Device, Error, QueueOptions, WaitMode};

use crate::{SOON, telemetry};

pub fn a_full_queue_says_so_and_goes_on_after_its_outcomes_are_collected(device: &Device) {
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
}

pub fn a_wait_of_any_mode_ends_with_its_command(device: &Device) {
    let spin = Duration::from_millis(1);
    let modes = [
        WaitMode::Interrupt,
        WaitMode::Polled,
        WaitMode::Mixed { spin },
    ];
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    for (round, mode) in (0..30).zip(modes.into_iter().cycle()) {
        queue.set_wait_mode(mode);
        let ticket = queue
            .submit(&Command::wait(&semaphore, round + 1, 5_000))
            .unwrap();
        let waker = semaphore.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(round % 4));
            waker.store(0, round + 1).unwrap();
        });
        assert_eq!(queue.wait(ticket, SOON).unwrap(), round + 1);
        thread.join().unwrap();
    }
}

pub fn two_queues_meet_at_a_semaphore(device: &Device) {
    let memory = device.alloc(8).unwrap();
    let mut first = device.create_queue(&QueueOptions::default()).unwrap();
    first.run(&Command::fill(&memory, 0, 8), SOON).unwrap();
    let waiter = std::thread::spawn({
        let (device, memory) = (device.clone(), memory.clone());
        move || {
            let mut second = device.create_queue(&QueueOptions::default()).unwrap();
            second.run(&Command::wait(&memory, 7, 8_000), SOON)
        }
    });
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(first.run(&Command::signal(&memory, 7), SOON).unwrap(), 7);
    assert_eq!(waiter.join().unwrap().unwrap(), 7);
}

pub fn a_command_that_does_not_end_can_be_waited_for_again_and_aborted(device: &Device) {
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

pub fn a_mixed_batch_gives_each_command_its_own_end(device: &Device) {
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

pub fn a_context_keeps_its_queues_inside_its_bounds(device: &Device) {
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
    assert_eq!(telemetry(device).contexts, 1);
}
