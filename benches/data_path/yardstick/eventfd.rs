//! Two eventfds between two threads that both sleep: the least that a request and its answer through the kernel cost.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::processors::Processors;

/// The value that ends the partner.
const STOP: u64 = 2;

/// A partner thread that answers each signal.
pub(crate) struct EventfdRoundTrip {
    there: Arc<EventFd>,
    back: Arc<EventFd>,
    partner: Option<JoinHandle<()>>,
}

impl EventfdRoundTrip {
    /// Starts the partner.
    pub(crate) fn start(processors: Processors) -> Self {
        let eventfd = || Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).expect("an eventfd"));
        let (there, back) = (eventfd(), eventfd());
        let (theirs, answer) = (Arc::clone(&there), Arc::clone(&back));
        let partner = processors.start(|| {
            std::thread::spawn(move || {
                while theirs.read().expect("reading an eventfd") != STOP {
                    answer.write(1).expect("writing an eventfd");
                }
            })
        });
        Self {
            there,
            back,
            partner: Some(partner),
        }
    }

    /// The time of `rounds` round trips.
    pub(crate) fn run(&mut self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            self.there.write(1).expect("writing an eventfd");
            self.back.read().expect("reading an eventfd");
        }
        start.elapsed()
    }
}

impl Drop for EventfdRoundTrip {
    fn drop(&mut self) {
        let _ = self.there.write(STOP);
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}
