//! Accesses to regions.

use std::time::Instant;

use zerocopy::IntoBytes;

use super::connection::{Connection, Request};
use super::{Client, Error, invalid};
use crate::wire::{Command, RegionAccess, Violation};

impl Client {
    /// Reads `data.len()` bytes at `offset` of a region; in several messages if the server's limit makes
    /// it necessary.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn region_read(
        &self,
        region: u32,
        offset: u64,
        data: &mut [u8],
        deadline: Instant,
    ) -> Result<(), Error> {
        let command = Command::RegionRead;
        let most = self.max_transfer();
        fits(command, offset, data.len())?;
        self.turns.take(command, deadline, |connection| {
            let mut offset = offset;
            for chunk in data.chunks_mut(most) {
                let access = RegionAccess {
                    offset,
                    region,
                    count: chunk.len() as u32,
                };
                offset += chunk.len() as u64;
                connection.call(
                    &Request::new(command, access.as_bytes()),
                    deadline,
                    |reply| read_reply(reply.payload, &access, chunk),
                )?;
            }
            Ok(())
        })
    }

    /// Writes `data` at `offset` of a region; in several messages if the server's limit makes it necessary.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn region_write(
        &self,
        region: u32,
        offset: u64,
        data: &[u8],
        deadline: Instant,
    ) -> Result<(), Error> {
        self.write(
            region,
            offset,
            data,
            deadline,
            |connection, access, request| {
                connection.call(request, deadline, |reply| {
                    write_reply(reply.payload, access)
                })
            },
        )
    }

    /// Writes `data` at `offset` of a region without waiting for the server to have done it, nor hearing of
    /// an error. Later calls take effect later.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn region_write_posted(
        &self,
        region: u32,
        offset: u64,
        data: &[u8],
        deadline: Instant,
    ) -> Result<(), Error> {
        self.write(region, offset, data, deadline, |connection, _, request| {
            connection.send(request, false, deadline).map(drop)
        })
    }

    fn write(
        &self,
        region: u32,
        offset: u64,
        data: &[u8],
        deadline: Instant,
        send: impl Fn(&mut Connection, &RegionAccess, &Request<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let command = Command::RegionWrite;
        let most = self.max_transfer();
        fits(command, offset, data.len())?;
        self.turns.take(command, deadline, |connection| {
            let mut offset = offset;
            for chunk in data.chunks(most) {
                let access = RegionAccess {
                    offset,
                    region,
                    count: chunk.len() as u32,
                };
                offset += chunk.len() as u64;
                let payload = [access.as_bytes(), chunk];
                send(
                    connection,
                    &access,
                    &Request {
                        payload,
                        ..Request::new(command, &[])
                    },
                )?;
            }
            Ok(())
        })
    }

    /// Most bytes of data in one message, both for the server and for our own inbox.
    pub(super) fn max_transfer(&self) -> usize {
        let most = self
            .server_capabilities()
            .max_data_xfer_size
            .min(self.max_data.into());
        most.max(1) as usize
    }
}

/// Checks the reply to a read, and takes its data.
pub(super) fn read_reply(
    payload: &[u8],
    asked: &RegionAccess,
    data: &mut [u8],
) -> Result<(), Violation> {
    let (access, bytes) = RegionAccess::parse_with_data(payload)?;
    same_access(&access, asked)?;
    if bytes.len() != data.len() {
        let rule = "expected all the data that was asked for";
        return Err(Violation::Field {
            field: "count",
            found: bytes.len() as u64,
            rule,
        });
    }
    data.copy_from_slice(bytes);
    Ok(())
}

/// Checks the reply to a write.
pub(super) fn write_reply(payload: &[u8], asked: &RegionAccess) -> Result<(), Violation> {
    same_access(&RegionAccess::parse(payload)?, asked)
}

fn same_access(found: &RegionAccess, asked: &RegionAccess) -> Result<(), Violation> {
    let wrong = |field, found| Violation::Field {
        field,
        found,
        rule: "expected what the request had",
    };
    if found.offset != asked.offset {
        return Err(wrong("offset", found.offset));
    }
    if found.region != asked.region {
        return Err(wrong("region", found.region.into()));
    }
    if found.count != asked.count {
        return Err(wrong("count", found.count.into()));
    }
    Ok(())
}

/// Checks that an access ends within 64 bits.
pub(super) fn fits(command: Command, offset: u64, len: usize) -> Result<(), Error> {
    match offset.checked_add(len as u64) {
        Some(_) => Ok(()),
        None => invalid(
            command,
            format!("{len} bytes at {offset:#x} end beyond 64 bits"),
        ),
    }
}
