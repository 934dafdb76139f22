//! Resets, and what becomes of what they end.

use std::time::Duration;

use auk_asic::program::Program;
use auk_driver::{Command, Device, Error, QueueOptions, ResetKind, WaitMode};

use crate::{SOON, pattern, telemetry};

pub fn a_function_level_reset_scrubs_memory_and_ends_what_was_made(device: &Device) {
    let memory = device.alloc(4096).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.upload(&memory, 0, &[0xAA; 4096], SOON).unwrap();
    let address = memory.address();
    let generation = device.vitals().unwrap().generation;

    device.reset(ResetKind::Flr).unwrap();
    assert_eq!(device.vitals().unwrap().generation, generation);
    drop((queue, memory, program));
    let memory = device.alloc(4096).unwrap();
    assert_eq!(memory.address(), address);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let mut found = vec![1; 4096];
    queue.download(&memory, 0, &mut found, SOON).unwrap();
    assert_eq!(found, vec![0; 4096]);
}

pub fn device_memory_survives_a_restart_of_the_firmware(device: &Device) {
    let data = pattern(5, 4096);
    let memory = device.alloc(4096).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.upload(&memory, 0, &data, SOON).unwrap();
    device.reset(ResetKind::FirmwareRestart).unwrap();
    drop((queue, memory));
    let memory = device.alloc(4096).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let mut found = vec![0; 4096];
    queue.download(&memory, 0, &mut found, SOON).unwrap();
    assert_eq!(found, data);
}

pub fn a_queue_of_another_thread_learns_of_a_reset(device: &Device) {
    let options = QueueOptions::default().wait_mode(WaitMode::Interrupt);
    let mut queue = device.create_queue(&options).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let waiter = std::thread::spawn(move || queue.wait(ticket, SOON).unwrap_err());
    std::thread::sleep(Duration::from_millis(20));
    device.reset(ResetKind::FirmwareRestart).unwrap();
    let error = waiter.join().unwrap();
    assert!(
        matches!(error, Error::Stale { .. } | Error::NotReady { .. }),
        "{error}"
    );
    device.check().unwrap();
}

pub fn a_buffer_dropped_in_flight_lives_until_its_command_ends(device: &Device) {
    let space = device.space();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let idle = space.usage().used;
    let semaphore = space.alloc(1 << 16).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    drop(semaphore);
    assert_eq!(space.usage().used, idle + (1 << 16));
    queue.abort(ticket, SOON).unwrap();
    assert_eq!(space.usage().used, idle);
}

pub fn device_memory_dropped_in_flight_is_freed_after_its_command(device: &Device) {
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let memory = device.alloc(4096).unwrap();
    queue.run(&Command::fill(&memory, 0, 4096), SOON).unwrap();
    let ticket = queue.submit(&Command::wait(&memory, 1, 9_000)).unwrap();
    drop(memory);
    assert_eq!(telemetry(device).memory_used, 4096);
    queue.abort(ticket, SOON).unwrap();
    // What the hot path leaves behind is freed at the next occasion.
    drop(device.alloc(4096).unwrap());
    assert_eq!(telemetry(device).memory_used, 0);
}

pub fn a_queue_dropped_in_flight_frees_its_memory_once_the_chip_deleted_it(device: &Device) {
    let space = device.space();
    let idle = space.usage().used;
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = space.alloc(4096).unwrap();
    queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    drop(semaphore);
    drop(queue);
    assert_eq!(space.usage().used, idle);
    assert_eq!(telemetry(device).queues, 0);
}

pub fn a_reset_under_load_ends_every_command_once_and_the_next_life_works(device: &Device) {
    let buffer = device.buffer(1 << 20).unwrap();
    for kind in [ResetKind::Flr, ResetKind::FirmwareRestart] {
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        let memory = device.alloc(1 << 20).unwrap();
        let copies = vec![Command::copy(&memory, &buffer, 1 << 20); 32];
        let mut tickets = Vec::new();
        queue.submit_batch(&copies, &mut tickets).unwrap();
        device.reset(kind).unwrap();
        for ticket in &tickets {
            match queue.wait(*ticket, SOON) {
                Ok(_) | Err(Error::Stale { .. }) => {}
                Err(error) => panic!("a command ended as {error}"),
            }
            assert!(queue.wait(*ticket, SOON).is_err(), "it ended twice");
        }
        let refused = queue.submit(&Command::nop());
        assert!(matches!(refused, Err(Error::Stale { .. })), "{refused:?}");
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        queue.run(&Command::nop(), SOON).unwrap();
    }
    device.check().unwrap();
}
