//! Asynchronous events.

use std::os::fd::{AsFd, BorrowedFd};

use auk_asic::State;
use auk_asic::event::Event;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::Device;
use super::inner::Inner;
use super::watch::Watch;
use crate::deadline::Deadline;
use crate::error::Error;

/// An event, and how many were lost before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// What happened.
    pub event: Event,
    /// Events that were lost between the one before and this one; [`Device::event_log`] may still have them.
    pub lost: u64,
}

impl Device {
    /// The next event of the chip, waiting for one until the deadline; `None` when there was none.
    ///
    /// # Errors
    /// What has become of the chip, if it can no longer tell: [`Error::Faulted`], [`Error::Gone`],
    /// [`Error::Disconnected`], [`Error::Resetting`]. Events that came before are given out first.
    pub fn next_event(&self, deadline: impl Into<Deadline>) -> Result<Option<DeviceEvent>, Error> {
        let inner = &*self.inner;
        let mut watch = Watch::new(inner, "waiting for an event", deadline.into());
        let mut requested = false;
        loop {
            let (found, lacks, arrived) = inner.with_admin(|admin| {
                admin.reap(inner)?;
                let found = admin.pop_event();
                let arrived = found.is_none() && admin.pair.arm();
                Ok((found, admin.lacks_requests(), arrived))
            })?;
            if found.is_some() {
                if lacks && let Err(error) = inner.request_events() {
                    // The event is not lost for it; the next call tries again, and tells.
                    tracing::debug!(%error, "asking for the next events");
                }
                return Ok(found);
            }
            // Requests that the chip failed are made again, once a call: it may fail them again. The loader has no events.
            if lacks && !requested && inner.state()? == State::Running {
                requested = true;
                inner.request_events()?;
            }
            match watch.look() {
                Ok(_) => {}
                Err(Error::TimedOut { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            if !arrived {
                inner.wait_vector(0, &watch)?;
            }
        }
    }

    /// The eventfd of vector 0, for a poll loop of one's own: readable after events and admin completions. Read it,
    /// then call [`Device::next_event`] with no time until it gives `None`. `None` when the bus has no interrupts.
    #[must_use]
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.vector(0).map(AsFd::as_fd)
    }
}

impl Inner {
    /// Sleeps until the vector fires, or it is time to look at the chip.
    pub(crate) fn wait_vector(&self, vector: u16, watch: &Watch<'_>) -> Result<(), Error> {
        let nap = watch.nap();
        let Some(eventfd) = self.vector(vector) else {
            std::thread::sleep(nap.min(std::time::Duration::from_millis(1)));
            return Ok(());
        };
        let milliseconds = u16::try_from(nap.as_millis()).unwrap_or(u16::MAX).max(1);
        let mut waited = [PollFd::new(eventfd.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut waited, PollTimeout::from(milliseconds)) {
            // An interrupt that another thread took, or a signal, means to look again, as everything else does.
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    what: "waiting for an interrupt",
                    source: errno.into(),
                });
            }
        }
        match eventfd.read() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::System {
                what: "reading an eventfd",
                source: errno.into(),
            }),
        }
    }
}
