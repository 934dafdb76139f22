//! What the device has, and its reset.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::connection::{Connection, MAX_OVERHEAD, Request};
use super::{Client, Error};
use crate::model::{DeviceInfo, IrqInfo, MmapArea, RegionInfo, RegionMmap};
use crate::wire::{
    Command, DeviceInfoReply, IrqInfoReply, REGION_INFO_SIZE, RegionInfoReply, Violation,
    parse_region_caps,
};

/// More regions or interrupt indices than any device has; a server that claims more is not believed.
const MAX_INDICES: u32 = 1024;
/// More vectors than any interrupt index has (MSI-X ends at 2048, PCI Express Base Specification 7.7.2).
pub(super) const MAX_VECTORS: u32 = 65_536;

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

    /// Resets the device.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reset(&self, deadline: Instant) -> Result<(), Error> {
        self.call(&Request::new(Command::DeviceReset, &[]), deadline, |_| {
            Ok(())
        })
    }

    pub(super) fn call<T>(
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
