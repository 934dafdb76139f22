//! One cache line to and fro between two threads: the bracket around each sample. Virtual CPUs
//! move between "near" and "far", and a ratio is honest only if both halves saw the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Padded;
use crate::processors::Processors;

/// Rounds of a bracket: long enough to tell near from far, short enough not to matter.
const ROUNDS: u64 = 5_000;

/// The value of `ping` that ends the partner.
const STOP: u64 = u64::MAX;

#[derive(Default)]
struct Lines {
    ping: Padded<AtomicU64>,
    pong: Padded<AtomicU64>,
}

/// Nanoseconds of a cache line's round trip.
pub(crate) fn line(processors: Processors) -> f64 {
    PingPong::start(processors).run(ROUNDS).as_nanos() as f64 / ROUNDS as f64
}

/// A partner thread that answers each ping.
struct PingPong {
    lines: Arc<Lines>,
    count: u64,
    partner: Option<JoinHandle<()>>,
}

impl PingPong {
    /// Starts the partner.
    fn start(processors: Processors) -> Self {
        let lines = Arc::new(Lines::default());
        let theirs = Arc::clone(&lines);
        let partner = processors.start(|| std::thread::spawn(move || answer(&theirs)));
        let mut started = Self {
            lines,
            count: 0,
            partner: Some(partner),
        };
        super::settle(|| started.run(10));
        started
    }

    /// The time of `rounds` round trips.
    fn run(&mut self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            self.count += 1;
            self.lines.ping.0.store(self.count, Ordering::Release);
            while self.lines.pong.0.load(Ordering::Acquire) != self.count {
                std::hint::spin_loop();
            }
        }
        start.elapsed()
    }
}

fn answer(lines: &Lines) {
    let mut seen = 0;
    while seen != STOP {
        let ping = lines.ping.0.load(Ordering::Acquire);
        if ping != seen {
            seen = ping;
            lines.pong.0.store(ping, Ordering::Release);
        }
        std::hint::spin_loop();
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        self.lines.ping.0.store(STOP, Ordering::Release);
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}
