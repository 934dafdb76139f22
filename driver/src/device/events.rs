//! What a device says unasked.

use std::os::fd::{AsFd, BorrowedFd};

use auk_asic::State;
use auk_asic::event::Event;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::Device;
use super::inner::Inner;
use super::watch::Watch;
use crate::deadline::Deadline;
use crate::error::Error;

/// Something that a device, or the bus it is on, says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// An asynchronous event of the chip.
    Chip(ChipEvent),
    /// The bus reported an uncorrectable error of the function (AER). What was in flight may have been lost: look at the
    /// kernel log and at [`PciFunction::aer`](crate::pci::PciFunction::aer), then reset the device.
    BusError,
    /// The host wants the function back: it is being unbound or unplugged, and waits until the device is closed. Repeated
    /// until then.
    RemovalRequested,
}

/// An asynchronous event of the chip, and how many were lost before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipEvent {
    /// What happened.
    pub event: Event,
    /// Events that were lost between the one before and this one; [`Device::event_log`] may still have them.
    pub lost: u64,
}

impl Device {
    /// The next event of the device, waiting for one until the deadline; `None` when there was none. What the bus says comes
    /// before what the chip says.
    ///
    /// # Errors
    /// What has become of the chip, if it can no longer tell: [`Error::Faulted`], [`Error::Gone`],
    /// [`Error::Disconnected`], [`Error::Resetting`]. Events that came before are given out first.
    pub fn next_event(&self, deadline: impl Into<Deadline>) -> Result<Option<DeviceEvent>, Error> {
        let inner = &*self.inner;
        let mut watch = Watch::new(inner, "waiting for an event", deadline.into());
        let mut requested = false;
        loop {
            if let Some(notice) = inner.notices.take().map_err(reading)? {
                return Ok(Some(notice));
            }
            if let Some(eventfd) = inner.vector(0) {
                drain(eventfd)?;
            }
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
                return Ok(found.map(DeviceEvent::Chip));
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
                let mut waited: Vec<_> = inner.event_fds().map(readable).collect();
                sleep_on(&mut waited, &watch)?;
            }
        }
    }

    /// A descriptor for a poll loop of one's own: readable when [`Device::next_event`] may have something. It is for
    /// polling alone; call `next_event` with no time until that gives `None`.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.inner.any_event.0.as_fd()
    }
}

impl Inner {
    /// Sleeps until the vector fires, or it is time to look at the chip.
    pub(crate) fn wait_vector(&self, vector: u16, watch: &Watch<'_>) -> Result<(), Error> {
        let Some(eventfd) = self.vector(vector) else {
            return sleep_on(&mut [], watch);
        };
        sleep_on(&mut [readable(eventfd.as_fd())], watch)?;
        drain(eventfd)
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

/// Sleeps until one of the descriptors is readable, or it is time to look at the chip.
fn sleep_on(descriptors: &mut [PollFd<'_>], watch: &Watch<'_>) -> Result<(), Error> {
    let nap = watch.nap();
    if descriptors.is_empty() {
        std::thread::sleep(nap.min(std::time::Duration::from_millis(1)));
        return Ok(());
    }
    let milliseconds = u16::try_from(nap.as_millis()).unwrap_or(u16::MAX).max(1);
    match nix::poll::poll(descriptors, PollTimeout::from(milliseconds)) {
        // An interrupt that another thread took, or a signal, means to look again, as everything else does.
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::System {
            what: "waiting for an interrupt",
            source: errno.into(),
        }),
    }
}

/// Takes what an eventfd, which does not block, has counted.
pub(crate) fn drain(eventfd: impl AsFd) -> Result<(), Error> {
    match nix::unistd::read(eventfd, &mut [0; 8]) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(errno) => Err(reading(errno)),
    }
}

fn reading(errno: Errno) -> Error {
    Error::System {
        what: "reading an eventfd",
        source: errno.into(),
    }
}
