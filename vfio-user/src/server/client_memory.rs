//! Client memory that is reached by messages.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use zerocopy::IntoBytes;

use super::link::Link;
use crate::Errno;
use crate::socket::TransportError;
use crate::wire::{Command, DmaAccess, Violation};

/// Why client memory could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientMemoryError {
    /// The client refused, or gave no reason.
    #[error("the client refused access to its memory: {0}")]
    Refused(Errno),
    /// The client did not answer in time.
    #[error("the client did not answer before the deadline")]
    TimedOut,
    /// The client is gone.
    #[error("the client is gone")]
    Gone,
    /// The client's answer made no sense; it is being disconnected.
    #[error("the client broke the protocol: {0}")]
    Protocol(Violation),
    /// The range wraps around the end of the address space.
    #[error("{len} bytes at {address:#x} end beyond 64 bits")]
    Wraps {
        /// First address.
        address: u64,
        /// Bytes.
        len: usize,
    },
}

/// Access to the memory of one client by DMA_READ and DMA_WRITE, for ranges that were mapped without a
/// descriptor. From any thread; within a call of [`Device`](super::Device) as well.
#[derive(Clone)]
pub struct ClientMemory {
    link: Arc<Link>,
    /// Most bytes in one message.
    most: usize,
}

impl ClientMemory {
    pub(super) fn new(link: Arc<Link>, most: usize) -> Self {
        Self { link, most }
    }

    /// Reads `data.len()` bytes at `address`.
    ///
    /// # Errors
    /// See [`ClientMemoryError`]; part of `data` may have been filled.
    pub fn read(
        &self,
        address: u64,
        data: &mut [u8],
        deadline: Instant,
    ) -> Result<(), ClientMemoryError> {
        check(address, data.len())?;
        let mut next = address;
        for chunk in data.chunks_mut(self.most) {
            let access = DmaAccess {
                address: next,
                count: chunk.len() as u64,
            };
            let payload = self.ask(Command::DmaRead, [access.as_bytes(), &[]], deadline)?;
            let (found, bytes) =
                DmaAccess::parse_with_data(&payload).map_err(|error| self.broken(error))?;
            self.same(&found, &access)?;
            chunk.copy_from_slice(bytes);
            next = next.wrapping_add(access.count);
        }
        Ok(())
    }

    /// Writes `data` at `address`.
    ///
    /// # Errors
    /// See [`ClientMemoryError`]; part of `data` may have been written.
    pub fn write(
        &self,
        address: u64,
        data: &[u8],
        deadline: Instant,
    ) -> Result<(), ClientMemoryError> {
        check(address, data.len())?;
        let mut next = address;
        for chunk in data.chunks(self.most) {
            let access = DmaAccess {
                address: next,
                count: chunk.len() as u64,
            };
            let payload = self.ask(Command::DmaWrite, [access.as_bytes(), chunk], deadline)?;
            let found =
                DmaAccess::parse_write_reply(&payload).map_err(|error| self.broken(error))?;
            self.same(&found, &access)?;
            next = next.wrapping_add(access.count);
        }
        Ok(())
    }

    fn ask(
        &self,
        command: Command,
        payload: [&[u8]; 2],
        deadline: Instant,
    ) -> Result<Vec<u8>, ClientMemoryError> {
        match self.link.ask(command, payload, deadline) {
            Ok(Ok(payload)) => Ok(payload),
            Ok(Err(errno)) => Err(ClientMemoryError::Refused(errno)),
            Err(TransportError::TimedOut) => Err(ClientMemoryError::TimedOut),
            Err(TransportError::Violation(violation)) => {
                Err(ClientMemoryError::Protocol(violation))
            }
            Err(TransportError::Closed | TransportError::Io(_)) => Err(ClientMemoryError::Gone),
        }
    }

    fn same(&self, found: &DmaAccess, asked: &DmaAccess) -> Result<(), ClientMemoryError> {
        if found == asked {
            return Ok(());
        }
        let rule = "expected address and count as in the request";
        Err(self.broken(Violation::Field {
            field: "address",
            found: found.address,
            rule,
        }))
    }

    /// Ends the connection to a client whose answer cannot be trusted.
    fn broken(&self, violation: Violation) -> ClientMemoryError {
        self.link.socket.shut_down();
        ClientMemoryError::Protocol(violation)
    }
}

fn check(address: u64, len: usize) -> Result<(), ClientMemoryError> {
    match address.checked_add(len as u64) {
        Some(_) => Ok(()),
        None => Err(ClientMemoryError::Wraps { address, len }),
    }
}
