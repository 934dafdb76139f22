//! The server's own requests: access to memory that was mapped without a descriptor.

use std::time::Instant;

use zerocopy::IntoBytes;

use crate::Errno;
use crate::inbox::MessageRef;
use crate::socket::{Socket, TransportError};
use crate::wire::{Command, DmaAccess};

/// Answers the server when it wants to read or write client memory by message.
///
/// Called from whichever thread is waiting for the server just then, so it must not call the client.
pub trait DmaHandler: Send {
    /// The server reads `data.len()` bytes at `address`.
    ///
    /// # Errors
    /// Whatever the server is to be told, [`Errno::EFAULT`] for what is not mapped.
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// The server writes `data` at `address`.
    ///
    /// # Errors
    /// Whatever the server is to be told, [`Errno::EFAULT`] for what is not mapped.
    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

/// Where the server's requests are answered.
pub(super) struct Desk {
    handler: Option<Box<dyn DmaHandler>>,
    /// Data the server may ask for or send in one message, in bytes.
    max_data: u64,
    /// Payload of the reply; kept, so that it is not allocated each time.
    out: Vec<u8>,
}

impl Desk {
    pub(super) fn new(handler: Option<Box<dyn DmaHandler>>, max_data: u64) -> Self {
        Self {
            handler,
            max_data,
            out: Vec::new(),
        }
    }

    /// Handles one request and sends the reply, unless none is wanted.
    pub(super) fn serve(
        &mut self,
        socket: &Socket,
        request: &MessageRef<'_>,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let header = &request.header;
        let reply = match self.handle(header.command, request.payload) {
            Ok(()) => header.reply(self.out.len()),
            Err(errno) => {
                self.out.clear();
                header.error_reply(errno as i32 as u32)
            }
        };
        if header.no_reply() {
            return Ok(());
        }
        socket.send(&[reply.as_bytes(), &self.out], &[], deadline)
    }

    /// Handles one request; leaves the payload of the reply in `out`.
    fn handle(&mut self, command: u16, payload: &[u8]) -> Result<(), Errno> {
        self.out.clear();
        let handler = self.handler.as_deref_mut().ok_or(Errno::EOPNOTSUPP)?;
        match Command::from_number(command) {
            Some(Command::DmaRead) => read(handler, payload, self.max_data, &mut self.out),
            Some(Command::DmaWrite) => write(handler, payload, self.max_data, &mut self.out),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

fn read(
    handler: &mut dyn DmaHandler,
    payload: &[u8],
    max: u64,
    out: &mut Vec<u8>,
) -> Result<(), Errno> {
    let access = DmaAccess::parse(payload).map_err(|_| Errno::EINVAL)?;
    check(&access, max)?;
    out.extend_from_slice(access.as_bytes());
    let data = out.len();
    out.resize(data + access.count as usize, 0);
    handler.read(access.address, &mut out[data..])
}

fn write(
    handler: &mut dyn DmaHandler,
    payload: &[u8],
    max: u64,
    out: &mut Vec<u8>,
) -> Result<(), Errno> {
    let (access, data) = DmaAccess::parse_with_data(payload).map_err(|_| Errno::EINVAL)?;
    check(&access, max)?;
    out.extend_from_slice(access.as_bytes());
    handler.write(access.address, data)
}

fn check(access: &DmaAccess, max: u64) -> Result<(), Errno> {
    let wraps = access
        .count
        .checked_sub(1)
        .and_then(|last| access.address.checked_add(last))
        .is_none();
    if wraps || access.count > max {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}
