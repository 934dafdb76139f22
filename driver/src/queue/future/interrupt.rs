//! A queue's interrupt, as tokio watches it.

#![allow(
    unsafe_code,
    reason = "tokio watches a descriptor by its number, and cannot see that it stays open"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::device::drain;
use crate::error::Error;

/// An eventfd of one's own on the queue's interrupt.
#[derive(Debug)]
pub(super) struct Interrupt(AsyncFd<OwnedFd>);

impl Interrupt {
    /// # Errors
    /// Outside of a tokio runtime; what the kernel says.
    pub(super) fn watch(eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        let own = eventfd.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped, which the `AsyncFd` does.
        let watched = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Whether it has fired since it was asked last; if not, it will wake the task.
    pub(super) fn has_fired(&self, context: &mut Context<'_>) -> Result<bool, Error> {
        let Poll::Ready(ready) = self.0.poll_read_ready(context) else {
            return Ok(false);
        };
        let mut guard = ready.map_err(|source| Error::System {
            what: "waiting for an interrupt",
            source,
        })?;
        drain(self.0.get_ref().as_fd())?;
        guard.clear_ready();
        Ok(true)
    }
}
