//! Deep queues, and many queues of many threads.

use std::sync::Barrier;
use std::time::{Duration, Instant};

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

/// How many commands are completed in a time, with as many in flight as the queue has room for. Lets other threads run while there is
/// nothing to do.
fn run(queue: &mut IoQueue, depth: u32, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let (mut submitted, mut done) = (0, 0);
    loop {
        let over = Instant::now() >= end;
        if over && done == submitted {
            return done;
        }
        while !over && submitted - done < u64::from(depth) {
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
            let done = run(&mut queue, depth, size.time);
            start.elapsed().as_nanos() as f64 / done as f64
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
        let tries = (0..TRIES).map(|_| at_once(&device, count, size.time));
        let value = median(tries.collect());
        match count {
            1 => results.count(first, value, UNIT),
            _ => results.compared(format!("queues: {count}"), value, UNIT, first),
        }
    }
    assert_eq!(chip.strict_violations(), [], "the chip saw nothing strange");
}

/// Nanoseconds a command, of as many threads together.
fn at_once(device: &Device, threads: u64, time: Duration) -> f64 {
    const DEPTH: u32 = 64;
    let barrier = Barrier::new(threads as usize);
    let run_one = || {
        let options = QueueOptions::default().depth(DEPTH);
        let mut queue = device.create_queue(&options).expect("a queue");
        barrier.wait();
        let start = Instant::now();
        let done = run(&mut queue, DEPTH, time);
        assert_eq!((queue.strays(), queue.in_flight()), (0, 0));
        done as f64 / start.elapsed().as_nanos() as f64
    };
    let rate: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run_one)).collect();
        let rates = threads.into_iter().map(|thread| thread.join());
        rates
            .map(|rate| rate.expect("a thread that did its work"))
            .sum()
    });
    1.0 / rate
}
