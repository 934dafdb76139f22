//! Interrupts as a test sees them: an eventfd that counts.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auk_driver::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// How long an interrupt may take that must come: software emulation on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to look for an interrupt that must not come. One that comes later is missed, so that a slow machine never fails a
/// test by this.
const LOOK: Duration = Duration::from_millis(100);

/// The eventfd of one vector.
pub(crate) struct Vector {
    name: &'static str,
    eventfd: EventFd,
}

impl Vector {
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd = EventFd::from_value_and_flags(0, flags).context("making an eventfd")?;
        Ok(Self { name, eventfd })
    }

    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Waits until it has fired.
    pub(crate) fn wait(&self) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        if !self.fires_within(deadline)? {
            bail!("no {} after {} s", self.name, PATIENCE.as_secs());
        }
        self.take()?;
        Ok(())
    }

    /// Waits until it has fired, which it must have done once.
    pub(crate) fn fires_once(&self) -> Result<()> {
        if !self.fires_within(Deadline::after(PATIENCE))? {
            bail!("no {} after {} s", self.name, PATIENCE.as_secs());
        }
        match self.take()? {
            1 => Ok(()),
            times => bail!("{} fired {times} times", self.name),
        }
    }

    /// That it has not fired, and does not for a while.
    pub(crate) fn is_quiet(&self) -> Result<()> {
        if self.fires_within(Deadline::after(LOOK))? {
            bail!("{} fired {} times", self.name, self.take()?);
        }
        Ok(())
    }

    /// How many times it has fired since it was last asked.
    pub(crate) fn take(&self) -> Result<u64> {
        match self.eventfd.read() {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN) => Ok(0),
            Err(errno) => Err(errno).context("reading an eventfd"),
        }
    }

    fn fires_within(&self, deadline: Deadline) -> Result<bool> {
        loop {
            let left = PollTimeout::try_from(deadline.remaining()).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(self.eventfd.as_fd(), PollFlags::POLLIN)],
                left,
            ) {
                Ok(ready) if ready > 0 => return Ok(true),
                Ok(_) if deadline.is_over() => return Ok(false),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("polling an eventfd"),
            }
        }
    }
}

impl AsFd for Vector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
