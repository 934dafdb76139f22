//! Being asked to stop: SIGINT, SIGTERM, and SIGHUP when the terminal goes away, which for the agent is to reload.

use std::cell::Cell;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that end a command that runs in the foreground, held back so that it can end in order.
#[derive(Debug)]
pub(crate) struct Stop {
    set: SigSet,
    /// For a look without waiting.
    arrived: SignalFd,
    raised: Cell<bool>,
}

impl Stop {
    /// Holds the signals back from here on. Call it before any thread is started, as threads inherit this, and before
    /// anything is made that must be cleared away.
    pub(crate) fn hold() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().context("holding signals back")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let arrived = SignalFd::with_flags(&set, flags).context("watching for signals")?;
        Ok(Self {
            set,
            arrived,
            raised: Cell::new(false),
        })
    }

    /// Waits for one of them, for as long as the user likes.
    pub(crate) fn wait(&self) -> anyhow::Result<Signal> {
        self.set.wait().context("waiting for a signal")
    }

    /// Whether one of them has come.
    pub(crate) fn is_raised(&self) -> bool {
        if !self.raised.get() && matches!(self.arrived.read_signal(), Ok(Some(_))) {
            self.raised.set(true);
        }
        self.raised.get()
    }
}
