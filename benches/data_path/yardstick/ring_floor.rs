//! The ring floor: the least that a ring of 64-byte descriptors and 16-byte completions with a
//! doorbell line can cost between two threads. No driver, no chip, no checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Padded;
use crate::processors::Processors;

#[derive(Default)]
#[repr(align(64))]
struct Descriptor([AtomicU64; 8]);

#[derive(Default)]
#[repr(align(16))]
struct Completion([AtomicU64; 2]);

struct Rings {
    submissions: Box<[Descriptor]>,
    completions: Box<[Completion]>,
    doorbell: Padded<AtomicU64>,
    stop: Padded<AtomicBool>,
}

/// A ring and the thread that completes what is put into it.
pub(crate) struct RingFloor {
    rings: Arc<Rings>,
    submitted: u64,
    reaped: u64,
    partner: Option<JoinHandle<()>>,
}

impl RingFloor {
    /// Starts a ring of `depth` entries, a power of two.
    pub(crate) fn start(processors: Processors, depth: usize) -> Self {
        assert!(depth.is_power_of_two());
        let rings = Arc::new(Rings {
            submissions: std::iter::repeat_with(Descriptor::default)
                .take(depth)
                .collect(),
            completions: std::iter::repeat_with(Completion::default)
                .take(depth)
                .collect(),
            doorbell: Padded::default(),
            stop: Padded::default(),
        });
        let theirs = Arc::clone(&rings);
        let partner = processors.start(|| std::thread::spawn(move || complete(&theirs)));
        let mut started = Self {
            rings,
            submitted: 0,
            reaped: 0,
            partner: Some(partner),
        };
        super::settle(|| started.run(10, 1));
        started
    }

    /// The time of `commands` commands with up to `in_flight` of them under way.
    pub(crate) fn run(&mut self, commands: u64, in_flight: u64) -> Duration {
        let start = Instant::now();
        let end = self.reaped + commands;
        while self.reaped < end {
            let room = (in_flight - (self.submitted - self.reaped)).min(end - self.submitted);
            if room > 0 {
                for _ in 0..room {
                    self.write();
                }
                self.rings
                    .doorbell
                    .0
                    .store(self.submitted, Ordering::Release);
            }
            while self.reap() {}
        }
        start.elapsed()
    }

    fn write(&mut self) {
        let entry = &self.rings.submissions[slot(self.submitted, self.rings.submissions.len())];
        for word in &entry.0 {
            word.store(self.submitted, Ordering::Relaxed);
        }
        self.submitted += 1;
    }

    fn reap(&mut self) -> bool {
        let depth = self.rings.completions.len();
        let entry = &self.rings.completions[slot(self.reaped, depth)];
        if entry.0[1].load(Ordering::Acquire) != mark(self.reaped, depth) {
            return false;
        }
        std::hint::black_box(entry.0[0].load(Ordering::Relaxed));
        self.reaped += 1;
        true
    }
}

impl Drop for RingFloor {
    fn drop(&mut self) {
        self.rings.stop.0.store(true, Ordering::Release);
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}

fn complete(rings: &Rings) {
    let depth = rings.submissions.len();
    let mut done = 0;
    while !rings.stop.0.load(Ordering::Relaxed) {
        let tail = rings.doorbell.0.load(Ordering::Acquire);
        while done < tail {
            let entry = &rings.submissions[slot(done, depth)];
            let sum = entry
                .0
                .iter()
                .fold(0, |sum, word| sum ^ word.load(Ordering::Relaxed));
            let completion = &rings.completions[slot(done, depth)];
            completion.0[0].store(sum, Ordering::Relaxed);
            completion.0[1].store(mark(done, depth), Ordering::Release);
            done += 1;
        }
    }
}

fn slot(count: u64, depth: usize) -> usize {
    count as usize & (depth - 1)
}

/// The lap that wrote an entry, from 1: the floor's phase.
fn mark(count: u64, depth: usize) -> u64 {
    count / depth as u64 + 1
}
