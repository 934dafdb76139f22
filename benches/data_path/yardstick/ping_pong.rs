//! One cache line to and fro between two threads: the bracket around each sample. Virtual CPUs
//! move between "near" and "far", and a ratio is honest only if both halves saw the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Padded;

/// The value of `ping` that ends the partner.
const STOP: u64 = u64::MAX;

#[derive(Default)]
struct Lines {
    ping: Padded<AtomicU64>,
    pong: Padded<AtomicU64>,
}

/// A partner thread that answers each ping.
pub(crate) struct PingPong {
    lines: Arc<Lines>,
    count: u64,
    partner: Option<JoinHandle<()>>,
}

impl PingPong {
    /// Starts the partner.
    pub(crate) fn start() -> Self {
        let lines = Arc::new(Lines::default());
        let theirs = Arc::clone(&lines);
        let partner = std::thread::spawn(move || {
            let mut seen = 0;
            while seen != STOP {
                let ping = theirs.ping.0.load(Ordering::Acquire);
                if ping != seen {
                    seen = ping;
                    theirs.pong.0.store(ping, Ordering::Release);
                }
                std::hint::spin_loop();
            }
        });
        let mut started = Self {
            lines,
            count: 0,
            partner: Some(partner),
        };
        super::settle(|| started.run(10));
        started
    }

    /// The time of `rounds` round trips.
    pub(crate) fn run(&mut self, rounds: u64) -> Duration {
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

impl Drop for PingPong {
    fn drop(&mut self) {
        self.lines.ping.0.store(STOP, Ordering::Release);
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}
