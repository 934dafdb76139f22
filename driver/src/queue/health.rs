//! How a queue is, from this process's memory alone.

use std::time::{Duration, Instant};

use super::IoQueue;
use crate::error::Error;

/// How a queue is; see [`IoQueue::health`].
#[derive(Debug)]
#[non_exhaustive]
pub struct QueueHealth {
    /// Why it is of no more use, as far as this queue has been told.
    pub ended: Option<Error>,
    /// Commands in flight.
    pub in_flight: u32,
    /// Commands that have ended, and whose outcome nobody has collected.
    pub uncollected: u32,
    /// Commands submitted since the queue was made or reset, modulo 2^32.
    pub submitted: u32,
    /// Completions taken off the ring since then, modulo 2^32.
    pub completed: u32,
    /// The chip has posted a completion that nobody has looked at yet: it works, and its caller does not poll.
    pub posted: bool,
    /// Completions that were of no command in flight, as [`IoQueue::strays`] has it.
    pub strays: u64,
    /// For how long at least nothing has ended while something was in flight, as seen by calls of [`IoQueue::health`]; zero at the
    /// first that finds it so.
    pub stalled: Duration,
}

/// What the last look at a queue has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    completed: u32,
    /// Nothing has ended since.
    since: Instant,
}

impl IoQueue {
    /// How the queue is, from memory alone: no system call, no register, and nothing that a command pays for. So it cannot know what
    /// has become of a chip that says nothing; [`Device::check`](crate::Device::check) asks that.
    ///
    /// When commands were submitted is not noted down, so that a stall is timed from one call to the next: a monitor that calls this now
    /// and then knows how long nothing has ended.
    pub fn health(&mut self) -> QueueHealth {
        let now = Instant::now();
        let (submitted, completed) = self.pair.counts();
        let (in_flight, posted) = (self.pair.in_flight(), self.pair.has_next());
        let stalls = in_flight > 0 && !posted;
        let seen = self
            .seen
            .filter(|seen| stalls && seen.completed == completed)
            .unwrap_or(Seen {
                completed,
                since: now,
            });
        self.seen = stalls.then_some(seen);
        QueueHealth {
            ended: self.check_alive().err(),
            in_flight,
            uncollected: self.pair.uncollected(),
            submitted,
            completed,
            posted,
            strays: self.pair.strays(),
            stalled: now - seen.since,
        }
    }
}
