//! Making memory reachable for the device.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use super::connection::Request;
use super::{Client, Error, invalid};
use crate::model::Protection;
use crate::wire::{Command, DmaMapRequest, DmaUnmapRequest, Violation};

/// A range of one's own memory for [`Client::dma_map`].
#[derive(Clone, Copy, Debug)]
pub struct ClientMap<'a> {
    /// First address, as the device is to see it.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
    /// What the device may do there.
    pub protection: Protection,
    /// A descriptor to map the memory from, and where in it the range begins. Without it the server must
    /// ask the client's [`DmaHandler`](super::DmaHandler) for every access.
    pub memory: Option<(BorrowedFd<'a>, u64)>,
}

impl Client {
    /// Makes client memory reachable for the device.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] with `EEXIST` when the range overlaps one that is mapped.
    pub fn dma_map(&self, map: &ClientMap<'_>, deadline: Instant) -> Result<(), Error> {
        let command = Command::DmaMap;
        if map.memory.is_some() && self.server_capabilities().max_msg_fds == 0 {
            return invalid(command, "the server takes no descriptors");
        }
        let offset = map.memory.map_or(0, |(_, offset)| offset);
        let payload = DmaMapRequest::new(map.iova, map.size, map.protection, offset);
        let fd = map.memory.map(|(fd, _)| fd);
        let request = Request {
            fds: fd.as_slice(),
            ..Request::new(command, payload.as_bytes())
        };
        self.call(&request, deadline, |_| Ok(()))
    }

    /// Takes back what was mapped in a range; mapped ranges must lie in it as a whole. When this returns
    /// `Ok`, the device no longer touches that memory.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn dma_unmap(&self, iova: u64, size: u64, deadline: Instant) -> Result<(), Error> {
        self.unmap(&DmaUnmapRequest::new(iova, size), deadline)
    }

    /// Takes back all that was mapped.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn dma_unmap_all(&self, deadline: Instant) -> Result<(), Error> {
        self.unmap(&DmaUnmapRequest::all(), deadline)
    }

    fn unmap(&self, range: &DmaUnmapRequest, deadline: Instant) -> Result<(), Error> {
        let request = Request::new(Command::DmaUnmap, range.as_bytes());
        self.call(&request, deadline, |payload| {
            // The reply repeats the range; some servers leave it out.
            if payload.is_empty() {
                return Ok(());
            }
            let done: [u64; 3] = FromBytes::read_from_prefix(payload)
                .map(|(words, _)| words)
                .map_err(|_| Violation::Short {
                    found: payload.len(),
                    needed: 24,
                })?;
            let [_, address, size] = done;
            if !range.is_all() && (address, size) != (range.address, range.size) {
                let rule = "expected the range that was to be unmapped";
                return Err(Violation::Field {
                    field: "size",
                    found: size,
                    rule,
                });
            }
            Ok(())
        })
    }
}
