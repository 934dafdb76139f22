//! Being asked to stop: SIGINT, SIGTERM, and SIGHUP when the terminal goes away.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

/// The signals that end a command that runs in the foreground, held back so that it can end in order.
#[derive(Debug)]
pub(crate) struct Stop(SigSet);

impl Stop {
    /// Holds the signals back from here on. Call it before any thread is started, as threads inherit this, and before
    /// anything is made that must be cleared away.
    pub(crate) fn hold() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().context("holding signals back")?;
        Ok(Self(set))
    }

    /// Waits for one of them, for as long as the user likes.
    pub(crate) fn wait(&self) -> anyhow::Result<Signal> {
        self.0.wait().context("waiting for a signal")
    }
}
