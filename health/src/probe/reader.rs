//! Threads that read, so that a read which never ends stops nobody else.
//!
//! Each component has its own. One that is late is left to itself: the agent goes on without it
//! and hears from it again when its read ends. A thread that the kernel holds in an
//! uninterruptible sleep still delays the exit of the process; reader processes come later.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

/// A look needs a few frames and a page of buffer.
const STACK: usize = 128 << 10;

/// A thread that does one job each time it is asked.
#[derive(Debug)]
pub(crate) struct Reader {
    ask: SyncSender<u64>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// Starts a thread that answers each ask with `work`.
    ///
    /// # Errors
    /// When the host has no more threads to give.
    pub(crate) fn start(
        name: &str,
        mut work: impl FnMut(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let thread = Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
                while let Ok(round) = asked.recv() {
                    work(round);
                }
            })?;
        Ok(Self { ask, thread })
    }

    /// Asks for round `round`; false when it still works on an earlier one.
    pub(crate) fn ask(&self, round: u64) -> bool {
        !matches!(
            self.ask.try_send(round),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
        )
    }

    /// Lets the thread end, and gives its handle to whoever waits for that.
    pub(crate) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}
