//! Interrupts of the device.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::connection::Request;
use super::info::MAX_VECTORS;
use super::{Client, Error, invalid};
use crate::model::IrqAction;
use crate::socket::MAX_FDS;
use crate::wire::{Command, DataKind, IrqSetRequest};

impl Client {
    /// Has the device signal `eventfds[n]` when vector `start + n` fires. Sent in as many messages as the
    /// server's limit on descriptors makes necessary; after an error, some of them may have taken effect.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn set_irq_eventfds(
        &self,
        index: u32,
        start: u32,
        eventfds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), Error> {
        let command = Command::DeviceSetIrqs;
        let most = self.server_capabilities().max_msg_fds.min(MAX_FDS as u64) as usize;
        if most == 0 {
            return invalid(command, "the server takes no descriptors");
        }
        let fits =
            u32::try_from(eventfds.len()).is_ok_and(|count| start.checked_add(count).is_some());
        if !fits {
            return invalid(
                command,
                format!("{} vectors from {start} are too many", eventfds.len()),
            );
        }
        self.turns.take(command, deadline, |connection| {
            let mut next = start;
            for chunk in eventfds.chunks(most) {
                let count = chunk.len() as u32;
                let payload = IrqSetRequest::new(
                    DataKind::Eventfd,
                    IrqAction::Trigger,
                    index,
                    next,
                    count,
                    0,
                );
                let request = Request {
                    fds: chunk,
                    ..Request::new(command, payload.as_bytes())
                };
                connection.call(&request, deadline, |_| Ok(()))?;
                next += count;
            }
            Ok(())
        })
    }

    /// Takes the eventfds of `count` vectors back.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn take_irq_eventfds(
        &self,
        index: u32,
        start: u32,
        count: u32,
        deadline: Instant,
    ) -> Result<(), Error> {
        let payload = IrqSetRequest::new(
            DataKind::Eventfd,
            IrqAction::Trigger,
            index,
            start,
            count,
            0,
        );
        self.set_irqs(&payload, &[], deadline)
    }

    /// Disables every vector of an interrupt index.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn disable_irqs(&self, index: u32, deadline: Instant) -> Result<(), Error> {
        let payload = IrqSetRequest::new(DataKind::None, IrqAction::Trigger, index, 0, 0, 0);
        self.set_irqs(&payload, &[], deadline)
    }

    /// Masks, unmasks or fires `count` vectors.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn act_on_irqs(
        &self,
        index: u32,
        start: u32,
        count: u32,
        action: IrqAction,
        deadline: Instant,
    ) -> Result<(), Error> {
        if count == 0 {
            return invalid(
                Command::DeviceSetIrqs,
                "a count of 0 would disable every vector",
            );
        }
        let payload = IrqSetRequest::new(DataKind::None, action, index, start, count, 0);
        self.set_irqs(&payload, &[], deadline)
    }

    /// Masks, unmasks or fires the vectors `start + n` for which `which[n]` is true.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn act_on_chosen_irqs(
        &self,
        index: u32,
        start: u32,
        which: &[bool],
        action: IrqAction,
        deadline: Instant,
    ) -> Result<(), Error> {
        let count = u32::try_from(which.len())
            .ok()
            .filter(|&count| 0 < count && count <= MAX_VECTORS);
        let Some(count) = count else {
            return invalid(Command::DeviceSetIrqs, "expected 1 to 65536 vectors");
        };
        let payload = IrqSetRequest::new(DataKind::Bool, action, index, start, count, which.len());
        self.set_irqs(&payload, which.as_bytes(), deadline)
    }

    fn set_irqs(
        &self,
        payload: &IrqSetRequest,
        data: &[u8],
        deadline: Instant,
    ) -> Result<(), Error> {
        let request = Request {
            payload: [payload.as_bytes(), data],
            ..Request::new(Command::DeviceSetIrqs, &[])
        };
        self.call(&request, deadline, |_| Ok(()))
    }
}
