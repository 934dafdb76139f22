//! Memory of the host and of the chip, and what moves between them.

use auk_asic::program::Program;
use auk_driver::{Command, Device, QueueOptions};

use crate::{SOON, pattern, telemetry};

pub fn bytes_go_to_the_chip_and_through_it_and_back(device: &Device) {
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
}

pub fn plain_bytes_are_uploaded_and_downloaded_in_pieces(device: &Device) {
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let data = pattern(2, (2 << 20) + 77);
    let memory = device.alloc(data.len() as u64 + 5).unwrap();
    queue.upload(&memory, 5, &data, SOON).unwrap();
    let mut back = vec![0; data.len()];
    queue.download(&memory, 5, &mut back, SOON).unwrap();
    assert!(back == data);
}

pub fn a_fill_repeats_its_pattern_and_is_cut_at_the_end(device: &Device) {
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

pub fn what_is_dropped_is_freed_on_the_chip(device: &Device) {
    let used = || telemetry(device).memory_used;
    let before = used();
    let memory = device.alloc(1 << 20).unwrap();
    let program = device.load(&Program::Checksum).unwrap();
    let queue = device.create_queue(&QueueOptions::default()).unwrap();
    assert_eq!(used(), before + (1 << 20));
    let now = telemetry(device);
    assert_eq!((now.programs, now.queues), (1, 1));
    drop((memory, program, queue));
    assert_eq!(used(), before);
    let now = telemetry(device);
    assert_eq!((now.programs, now.queues), (0, 0));
}
