//! Ending a server from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends a server from another thread, or from a signal handler's. Copies end the same server.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stopped: AtomicBool,
    wake: EventFd,
}

impl StopHandle {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Shared {
            stopped: AtomicBool::new(false),
            wake,
        })))
    }

    /// Has the server disconnect its client and return; for good, it serves nobody any more.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        // The only way to fail is a full counter, and then the server is awake already.
        let _ = self.0.wake.write(1);
    }

    /// Whether [`StopHandle::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Readable once stopped.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}
