//! Many region accesses with few round trips: requests go out before the replies to earlier ones are in.

use std::collections::VecDeque;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::connection::{Connection, Request};
use super::regions::{fits, read_reply, write_reply};
use super::{Client, Error, invalid};
use crate::Errno;
use crate::wire::{Command, RegionAccess};

/// Requests under way at a time. Both ends must be able to send without the other receiving, or they would
/// wait for each other: this many small messages, and this many bytes, fit any socket's buffer.
const MAX_UNDER_WAY: usize = 32;
const MAX_BYTES_UNDER_WAY: usize = 32 << 10;

/// One access to a region, in a batch.
#[derive(Debug)]
pub enum RegionOp<'a> {
    /// Reads into `data`.
    Read {
        /// Index of the region.
        region: u32,
        /// Where in the region, in bytes.
        offset: u64,
        /// Where the bytes go.
        data: &'a mut [u8],
    },
    /// Writes `data`.
    Write {
        /// Index of the region.
        region: u32,
        /// Where in the region, in bytes.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
}

impl RegionOp<'_> {
    fn command(&self) -> Command {
        match self {
            Self::Read { .. } => Command::RegionRead,
            Self::Write { .. } => Command::RegionWrite,
        }
    }

    fn access(&self) -> RegionAccess {
        let (region, offset, len) = match self {
            Self::Read {
                region,
                offset,
                data,
            } => (*region, *offset, data.len()),
            Self::Write {
                region,
                offset,
                data,
            } => (*region, *offset, data.len()),
        };
        RegionAccess {
            offset,
            region,
            count: len as u32,
        }
    }
}

/// A request whose reply is not in.
struct UnderWay<'o, 'a> {
    id: u16,
    bytes: usize,
    op: &'o mut RegionOp<'a>,
}

impl Client {
    /// Makes the accesses in their order, many of them under way at a time. For each, whether the server
    /// did it, or why not; a refusal does not keep the later ones from being made.
    ///
    /// # Errors
    /// What ends the connection; and [`Error::Invalid`], with nothing sent, when an access exceeds the
    /// server's limit on data in one message.
    pub fn region_batch(
        &self,
        ops: &mut [RegionOp<'_>],
        deadline: Instant,
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let most = self.max_transfer();
        for op in &*ops {
            let access = op.access();
            fits(op.command(), access.offset, access.count as usize)?;
            if access.count as usize > most {
                return invalid(
                    op.command(),
                    format!(
                        "{} bytes in one access, expected at most {most}",
                        access.count
                    ),
                );
            }
        }
        self.turns
            .take(Command::RegionRead, deadline, |connection| {
                let mut results = Vec::with_capacity(ops.len());
                let mut under_way = VecDeque::with_capacity(MAX_UNDER_WAY);
                let mut bytes = 0;
                for op in ops {
                    let access = op.access();
                    let size = access.count as usize;
                    while under_way.len() >= MAX_UNDER_WAY
                        || (!under_way.is_empty() && bytes + size > MAX_BYTES_UNDER_WAY)
                    {
                        let done = collect(connection, &mut under_way, &mut results, deadline)?;
                        bytes -= done;
                    }
                    let data = match op {
                        RegionOp::Read { .. } => &[][..],
                        RegionOp::Write { data, .. } => data,
                    };
                    let request = Request {
                        payload: [access.as_bytes(), data],
                        ..Request::new(op.command(), &[])
                    };
                    let id = connection.send(&request, true, deadline)?;
                    bytes += size;
                    under_way.push_back(UnderWay {
                        id,
                        bytes: size,
                        op,
                    });
                }
                while !under_way.is_empty() {
                    collect(connection, &mut under_way, &mut results, deadline)?;
                }
                Ok(results)
            })
    }
}

/// Waits for the oldest reply; how many bytes of data are no longer under way.
fn collect(
    connection: &mut Connection,
    under_way: &mut VecDeque<UnderWay<'_, '_>>,
    results: &mut Vec<Result<(), Errno>>,
    deadline: Instant,
) -> Result<usize, Error> {
    let Some(UnderWay { id, bytes, op }) = under_way.pop_front() else {
        return Ok(0);
    };
    let access = op.access();
    let done = connection.reply(op.command(), id, deadline, |reply| match op {
        RegionOp::Read { data, .. } => read_reply(reply.payload, &access, data),
        RegionOp::Write { .. } => write_reply(reply.payload, &access),
    });
    match done {
        Ok(()) => results.push(Ok(())),
        Err(Error::Refused { errno, .. }) => results.push(Err(errno)),
        Err(error) => return Err(error),
    }
    Ok(bytes)
}
