//! What the bus says of the function: errors that the root complex was told of, and that the host wants it back.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::events::DeviceEvent;
use crate::bus::{BusError, Function, Interrupt};

/// The eventfds of the kinds that the bus has; simulators have neither.
#[derive(Debug)]
pub(super) struct Notices(Vec<Notice>);

#[derive(Debug)]
struct Notice {
    kind: Interrupt,
    eventfd: EventFd,
    means: DeviceEvent,
}

impl Notices {
    pub(super) fn of(function: &dyn Function) -> Result<Self, BusError> {
        let mut notices = Vec::new();
        for (kind, means) in [
            (Interrupt::Error, DeviceEvent::BusError),
            (Interrupt::Request, DeviceEvent::RemovalRequested),
        ] {
            let info = function.interrupts(kind)?;
            if info.count == 0 || !info.eventfd {
                continue;
            }
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let eventfd = EventFd::from_flags(flags).map_err(|errno| BusError::System {
                what: "making an eventfd",
                source: errno.into(),
            })?;
            function.enable_interrupts(kind, &[eventfd.as_fd()])?;
            notices.push(Notice {
                kind,
                eventfd,
                means,
            });
        }
        Ok(Self(notices))
    }

    /// What was said since it was asked last; of several the more pressing first.
    pub(super) fn take(&self) -> Result<Option<DeviceEvent>, Errno> {
        for notice in &self.0 {
            match notice.eventfd.read() {
                Ok(_) => return Ok(Some(notice.means)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|notice| notice.eventfd.as_fd())
    }

    pub(super) fn disable(&self, function: &dyn Function) -> Result<(), BusError> {
        for notice in &self.0 {
            function.disable_interrupts(notice.kind)?;
        }
        Ok(())
    }
}
