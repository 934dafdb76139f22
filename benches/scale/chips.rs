//! Many chips in one process that share one space.

use std::time::{Duration, Instant};

use auk_driver::dma::{DmaSpace, HugePages, SpaceOptions};
use auk_driver::{Command, Device, OpenOptions, QueueOptions};
use auk_sim::{Chip, ChipProfile, Serving};

use crate::Size;
use crate::results::{Results, median};

/// Larger than memory is ever made beyond what was asked for, so that each is one mapping.
const LARGE: usize = 1 << 30;
/// Mappings that are there before a chip opens.
const MAPPED: usize = 16;
const ROUNDS: usize = 20;
const SOON: Duration = Duration::from_secs(60);

/// A chip without work is asleep after this time.
const ASLEEP: Duration = Duration::from_millis(1);

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64 / 1e3
}

/// A simulated chip and the device on it.
struct Opened {
    device: Device,
    _serving: Serving,
    _chip: Chip,
}

fn open(serial: u32, space: &DmaSpace) -> Opened {
    let chip = Chip::new(ChipProfile {
        memory: 16 << 20,
        ..ChipProfile::silicon(u64::from(serial))
    })
    .expect("a chip");
    let (serving, socket) = chip.connect().expect("a server");
    let options = OpenOptions::default().space(space);
    let device = Device::from_socket("bench", socket, &options).expect("a device");
    Opened {
        device,
        _serving: serving,
        _chip: chip,
    }
}

pub(crate) fn measure(results: &mut Results, size: Size) {
    results.table("chips that share a space, in one process");
    for &count in size.chips {
        let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
        let mapped: Vec<_> = (0..MAPPED)
            .map(|_| space.alloc(LARGE).expect("memory"))
            .collect();
        let start = Instant::now();
        let chips: Vec<Opened> = (0..count).map(|serial| open(serial, &space)).collect();
        let opened = microseconds(start) / f64::from(count);

        let mut tries = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let buffer = space.alloc(LARGE).expect("memory");
            drop(buffer);
            space.trim();
            tries.push(microseconds(start) / f64::from(count));
        }
        let mapping = median(tries);

        let shared = space.alloc(4096).expect("memory");
        let mut queues: Vec<_> = chips
            .iter()
            .map(|chip| chip.device.create_queue(&QueueOptions::default()))
            .collect::<Result<_, _>>()
            .expect("queues");
        let command = Command::fill(&shared, 1, 4096);
        let mut tries = Vec::new();
        for _ in 0..ROUNDS {
            for queue in &mut queues {
                // Alone it would be awake from the command before, and one of many would not.
                std::thread::sleep(ASLEEP);
                let start = Instant::now();
                queue.run(&command, SOON).expect("a fill by each chip");
                tries.push(microseconds(start));
            }
        }
        let filling = median(tries);

        let (open, map, fill) = (
            "open a chip, 16 mappings to make",
            "map and unmap 1 GiB, for each chip",
            "one command of each chip, asleep, one after the other",
        );
        for (what, value) in [(open, opened), (map, mapping), (fill, filling)] {
            let name = |count: u32| format!("{what}; {count} chips");
            match count {
                1 => results.count(name(1), value, "us a chip"),
                _ => results.compared(name(count), value, "us a chip", &name(1)),
            }
        }
        let usage = space.usage();
        results.count(
            format!("mappings; {count} chips"),
            usage.mappings as f64,
            "",
        );
        drop((queues, shared, mapped));
    }
}
