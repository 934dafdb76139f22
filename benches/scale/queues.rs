//! Deep queues, and many queues of many threads.

use std::sync::Barrier;
use std::time::Instant;

use auk_driver::{Command, Device, IoQueue, OpenOptions, QueueOptions};
use auk_sim::{Chip, ChipProfile, Serving};

use crate::Size;
use crate::results::{Results, median};

const UNIT: &str = "ns a command";
/// Tries, of which the median counts.
const TRIES: usize = 5;

fn open() -> (Chip, Serving, Device) {
    let chip = Chip::new(ChipProfile {
        memory: 16 << 20,
        ..ChipProfile::silicon(1)
    })
    .expect("a chip");
    let (serving, socket) = chip.connect().expect("a server");
    let device = Device::from_socket("bench", socket, &OpenOptions::default()).expect("a device");
    (chip, serving, device)
}

/// `count` commands with as many in flight as the queue has room for. Lets other threads run while there is nothing to do.
fn run(queue: &mut IoQueue, depth: u32, count: u64) {
    let (mut submitted, mut done) = (0, 0);
    while done < count {
        while submitted < count && submitted - done < u64::from(depth) {
            queue.push(&Command::nop()).expect("room in the queue");
            submitted += 1;
        }
        queue.ring().expect("a doorbell");
        let before = done;
        while let Some(completion) = queue.poll() {
            completion.result.expect("success");
            done += 1;
        }
        if done == before {
            std::thread::yield_now();
        }
    }
}

pub(crate) fn depths(results: &mut Results, size: Size) {
    results.table("depth of a queue, kept full of nops");
    let (_chip, _serving, device) = open();
    let first = format!("depth {}", size.depths[0]);
    for &depth in size.depths {
        let mut queue = device
            .create_queue(&QueueOptions::default().depth(depth))
            .expect("a queue");
        let tries = (0..TRIES).map(|_| {
            let start = Instant::now();
            run(&mut queue, depth, size.commands);
            start.elapsed().as_nanos() as f64 / size.commands as f64
        });
        let each = median(tries.collect());
        let what = format!("depth {depth}");
        if what == first {
            results.count(what, each, UNIT);
        } else {
            results.compared(what, each, UNIT, &first);
        }
    }
}

pub(crate) fn threads(results: &mut Results, size: Size) {
    results.table("queues, each of a thread, 64 nops in flight in each");
    let (chip, _serving, device) = open();
    let first = "queues: 1";
    for &count in size.queues {
        let tries = (0..TRIES).map(|_| at_once(&device, count, size.commands));
        let value = median(tries.collect());
        match count {
            1 => results.count(first, value, UNIT),
            _ => results.compared(format!("queues: {count}"), value, UNIT, first),
        }
    }
    assert_eq!(chip.strict_violations(), [], "the chip saw nothing strange");
}

/// Nanoseconds a command of `commands` that as many threads share.
fn at_once(device: &Device, threads: u64, commands: u64) -> f64 {
    const DEPTH: u32 = 64;
    let each = commands / threads;
    let barrier = Barrier::new(threads as usize + 1);
    let elapsed = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let options = QueueOptions::default().depth(DEPTH);
                let mut queue = device.create_queue(&options).expect("a queue");
                barrier.wait();
                run(&mut queue, DEPTH, each);
                barrier.wait();
                assert_eq!((queue.strays(), queue.in_flight()), (0, 0));
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    });
    elapsed.as_nanos() as f64 / (each * threads) as f64
}
