//! How waits wait.

use std::time::Duration;

use super::IoQueue;

/// How [`IoQueue::wait`] waits for a completion that is not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitMode {
    /// It polls, and keeps a processor busy: the shortest latency. After 200 us it lets other threads run in between.
    #[default]
    Polled,
    /// It sleeps on the queue's interrupt at once, and leaves the processor to others.
    Interrupt,
    /// It polls for a while, then sleeps: for commands that are mostly short. To poll for as long as a sleep and its
    /// interrupt cost is never more than twice as slow as the better of the other two.
    Mixed {
        /// How long it polls.
        spin: Duration,
    },
}

impl WaitMode {
    /// After how long a wait is to sleep, if ever.
    pub(super) const fn sleeps_after(self) -> Option<Duration> {
        match self {
            Self::Polled => None,
            Self::Interrupt => Some(Duration::ZERO),
            Self::Mixed { spin } => Some(spin),
        }
    }
}

impl IoQueue {
    /// How waits wait.
    #[must_use]
    pub const fn wait_mode(&self) -> WaitMode {
        self.wait_mode
    }

    /// Has waits from now on wait in this way. Nothing on the chip changes: an interrupt fires only where a wait has armed it.
    pub const fn set_wait_mode(&mut self, mode: WaitMode) {
        self.wait_mode = mode;
    }
}
