//! One typed call a command.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::connection::{Connection, MAX_OVERHEAD, Request};
use super::{Client, Error, invalid};
use crate::model::{DeviceInfo, IrqAction, IrqInfo, MmapArea, Protection, RegionInfo, RegionMmap};
use crate::socket::MAX_FDS;
use crate::wire::{
    Command, DataKind, DeviceInfoReply, DmaMapRequest, DmaUnmapRequest, IrqInfoReply,
    IrqSetRequest, REGION_INFO_SIZE, RegionAccess, RegionInfoReply, Violation, parse_region_caps,
};

/// More regions or interrupt indices than any device has; a server that claims more is not believed.
const MAX_INDICES: u32 = 1024;
/// More vectors than any interrupt index has (MSI-X ends at 2048, PCI Express Base Specification 7.7.2).
const MAX_VECTORS: u32 = 65_536;

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
    /// What the device has.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn device_info(&self, deadline: Instant) -> Result<DeviceInfo, Error> {
        let query = DeviceInfoReply::query();
        let request = Request::new(Command::DeviceGetInfo, query.as_bytes());
        self.call(&request, deadline, |payload| {
            let info = DeviceInfoReply::parse(payload)?;
            at_most(
                "num_regions",
                info.regions,
                MAX_INDICES,
                "expected at most 1024",
            )?;
            at_most("num_irqs", info.irqs, MAX_INDICES, "expected at most 1024")?;
            Ok(info)
        })
    }

    /// One region. Where the server says that it can be mapped but passes no descriptor, as some do, it
    /// counts as not mappable.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn region_info(&self, index: u32, deadline: Instant) -> Result<RegionInfo, Error> {
        let command = Command::DeviceGetRegionInfo;
        self.turns
            .take(command, deadline, |connection| {
                let room = REGION_INFO_SIZE as u32;
                let (needed, info) = region_info(connection, index, room, deadline)?;
                if needed <= room {
                    return Ok(info);
                }
                // Capabilities did not fit. A server that passed its descriptor already need not do it again.
                let (_, mut full) = region_info(connection, index, needed, deadline)?;
                if let (Some(full), Some(first)) = (&mut full.mmap, &info.mmap) {
                    full.fd = full.fd.take().or_else(|| first.fd.clone());
                }
                Ok(full)
            })
            .map(Found::finish)
    }

    /// One interrupt index.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn irq_info(&self, index: u32, deadline: Instant) -> Result<IrqInfo, Error> {
        let query = IrqInfoReply::query(index);
        let request = Request::new(Command::DeviceGetIrqInfo, query.as_bytes());
        self.call(&request, deadline, |payload| {
            let info = IrqInfoReply::parse(payload, index)?;
            at_most(
                "count",
                info.count,
                MAX_VECTORS,
                "expected at most 65536 vectors",
            )?;
            Ok(info)
        })
    }

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
            let done: [u64; 3] = zerocopy::FromBytes::read_from_prefix(payload)
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

    /// Resets the device.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reset(&self, deadline: Instant) -> Result<(), Error> {
        self.call(&Request::new(Command::DeviceReset, &[]), deadline, |_| {
            Ok(())
        })
    }

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

    fn call<T>(
        &self,
        request: &Request<'_>,
        deadline: Instant,
        read: impl FnOnce(&[u8]) -> Result<T, Violation>,
    ) -> Result<T, Error> {
        self.turns.take(request.command, deadline, |connection| {
            connection.call(request, deadline, |reply| {
                no_descriptors(reply.fds.len())?;
                read(reply.payload)
            })
        })
    }
}

/// A region as the server describes it, perhaps still without its descriptor.
struct Found {
    info: RegionInfo,
    mmap: Option<FoundMmap>,
}

struct FoundMmap {
    fd: Option<Arc<OwnedFd>>,
    offset: u64,
    areas: Vec<MmapArea>,
}

impl Found {
    fn finish(self) -> RegionInfo {
        let mmap = self.mmap.and_then(|FoundMmap { fd, offset, areas }| {
            Some(RegionMmap {
                fd: fd?,
                offset,
                areas,
            })
        });
        RegionInfo { mmap, ..self.info }
    }
}

/// Asks for one region with room for `argsz` bytes; also gives how much room is needed.
fn region_info(
    connection: &mut Connection,
    index: u32,
    argsz: u32,
    deadline: Instant,
) -> Result<(u32, Found), Error> {
    let query = RegionInfoReply::query(index, argsz);
    let request = Request::new(Command::DeviceGetRegionInfo, query.as_bytes());
    connection.call(&request, deadline, |mut reply| {
        let head = RegionInfoReply::parse(reply.payload, index)?;
        at_most(
            "argsz",
            head.argsz,
            MAX_OVERHEAD as u32,
            "expected at most 64 KiB of capabilities",
        )?;
        if reply.fds.len() > usize::from(head.mappable()) {
            let expected = "one if the region can be mapped, none otherwise";
            return Err(Violation::Descriptors {
                found: reply.fds.len(),
                expected,
            });
        }
        if head.offset.checked_add(head.size).is_none() {
            let rule = "expected the end of the region within 64 bits";
            return Err(Violation::Field {
                field: "offset",
                found: head.offset,
                rule,
            });
        }
        let complete = head.argsz <= argsz;
        let areas = if complete {
            parse_region_caps(reply.payload, &head)?
        } else {
            None
        };
        let mmap = head.mappable().then(|| FoundMmap {
            fd: reply.fds.pop().map(Arc::new),
            offset: head.offset,
            areas: areas.unwrap_or_default(),
        });
        let (readable, writable) = (head.readable(), head.writable());
        let info = RegionInfo {
            size: head.size,
            readable,
            writable,
            mmap: None,
        };
        Ok((head.argsz, Found { info, mmap }))
    })
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

fn no_descriptors(found: usize) -> Result<(), Violation> {
    if found > 0 {
        Err(Violation::Descriptors {
            found,
            expected: "none",
        })
    } else {
        Ok(())
    }
}

fn at_most(
    field: &'static str,
    found: u32,
    most: u32,
    rule: &'static str,
) -> Result<(), Violation> {
    if found > most {
        Err(Violation::Field {
            field,
            found: found.into(),
            rule,
        })
    } else {
        Ok(())
    }
}
