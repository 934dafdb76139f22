//! From a request to a call of the device: checks everything that can be checked without knowing the device.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::ranges::Ranges;
use super::{Device, Options};
use crate::Errno;
use crate::model::{DeviceInfo, DmaMap, DmaMemory, IrqData, IrqInfo, IrqSet, RegionInfo};
use crate::wire::{
    Capabilities, Command, DataKind, DeviceInfoReply, DmaMapRequest, DmaUnmapRequest, InfoQuery,
    IrqInfoReply, IrqSetRequest, REGION_INFO_SIZE, RegionAccess, RegionInfoReply, Violation,
    write_region_caps,
};

/// What goes along with the payload of a reply.
pub(super) enum Answer {
    Plain,
    WithFd(Arc<OwnedFd>),
}

/// The device, and what of it does not change while one client is served.
pub(super) struct Dispatch<'a> {
    device: &'a mut dyn Device,
    info: DeviceInfo,
    regions: Vec<RegionInfo>,
    irqs: Vec<IrqInfo>,
    ranges: Ranges,
    max_data: u32,
}

impl<'a> Dispatch<'a> {
    pub(super) fn new(device: &'a mut dyn Device, options: &Options) -> Self {
        let info = device.info();
        let regions = (0..info.regions)
            .map(|index| device.region(index).unwrap_or_default())
            .collect();
        let irqs = (0..info.irqs)
            .map(|index| device.irq(index).unwrap_or_default())
            .collect();
        let pgsizes = Capabilities::default().pgsizes;
        let page = 1 << pgsizes.trailing_zeros();
        let ranges = Ranges::new(options.max_dma_maps as usize, page);
        Self {
            device,
            info,
            regions,
            irqs,
            ranges,
            max_data: options.max_data_xfer_size,
        }
    }

    /// Handles one request: appends the payload of its reply to `out`.
    pub(super) fn handle(
        &mut self,
        command: u16,
        payload: &[u8],
        mut fds: Vec<OwnedFd>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, Errno> {
        let command = Command::from_number(command).ok_or(Errno::EOPNOTSUPP)?;
        match command {
            Command::DmaMap if fds.len() <= 1 => return self.dma_map(payload, fds.pop()),
            Command::DeviceSetIrqs => return self.set_irqs(payload, fds),
            _ if !fds.is_empty() => return Err(Errno::EINVAL),
            _ => {}
        }
        match command {
            Command::DmaUnmap => self.dma_unmap(payload, out)?,
            Command::DeviceGetInfo => {
                InfoQuery::parse::<DeviceInfoReply>(payload).map_err(refused)?;
                out.extend_from_slice(DeviceInfoReply::new(&self.info).as_bytes());
            }
            Command::DeviceGetRegionInfo => return self.region_info(payload, out),
            Command::DeviceGetIrqInfo => {
                let query = InfoQuery::parse::<IrqInfoReply>(payload).map_err(refused)?;
                let info = self.irqs.get(query.index as usize).ok_or(Errno::EINVAL)?;
                out.extend_from_slice(IrqInfoReply::new(query.index, info).as_bytes());
            }
            Command::RegionRead => self.region_read(payload, out)?,
            Command::RegionWrite => self.region_write(payload, out)?,
            Command::DeviceReset => {
                if !payload.is_empty() {
                    return Err(Errno::EINVAL);
                }
                if !self.info.resettable {
                    return Err(Errno::EOPNOTSUPP);
                }
                self.device.reset()?;
            }
            // It comes once, at the beginning.
            Command::Version => return Err(Errno::EINVAL),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        Ok(Answer::Plain)
    }

    fn dma_map(&mut self, payload: &[u8], fd: Option<OwnedFd>) -> Result<Answer, Errno> {
        let request = DmaMapRequest::parse(payload).map_err(refused)?;
        self.ranges.check(&request, fd.is_some())?;
        self.device.dma_map(DmaMap {
            iova: request.address,
            size: request.size,
            protection: request.protection(),
            memory: fd.map(|fd| DmaMemory {
                fd,
                offset: request.offset,
            }),
        })?;
        self.ranges.insert(&request);
        Ok(Answer::Plain)
    }

    fn dma_unmap(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        let request = DmaUnmapRequest::parse(payload).map_err(refused)?;
        if request.wants_dirty_bitmap() {
            return Err(Errno::EOPNOTSUPP);
        }
        for (iova, size) in self.ranges.meant_by(&request)? {
            self.device.dma_unmap(iova, size)?;
            self.ranges.remove(iova);
        }
        out.extend_from_slice(request.as_bytes());
        Ok(())
    }

    fn region_info(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<Answer, Errno> {
        let query = InfoQuery::parse::<RegionInfoReply>(payload).map_err(refused)?;
        let region = self
            .regions
            .get(query.index as usize)
            .ok_or(Errno::EINVAL)?;
        let mut caps = Vec::new();
        if let Some(mmap) = &region.mmap {
            write_region_caps(&mmap.areas, &mut caps);
        }
        let offset = region.mmap.as_ref().map(|mmap| mmap.offset);
        let (readable, writable) = (region.readable, region.writable);
        let reply = RegionInfoReply::new(
            query.index,
            region.size,
            readable,
            writable,
            offset,
            caps.len(),
        );
        out.extend_from_slice(reply.as_bytes());
        if (query.argsz as usize) < REGION_INFO_SIZE + caps.len() {
            // The client sees from argsz that there is more, and asks again. It gets the descriptor then.
            return Ok(Answer::Plain);
        }
        out.extend_from_slice(&caps);
        Ok(region
            .mmap
            .as_ref()
            .map_or(Answer::Plain, |mmap| Answer::WithFd(Arc::clone(&mmap.fd))))
    }

    fn region_read(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        let access = RegionAccess::parse(payload).map_err(refused)?;
        let region = self.accessed(&access)?;
        if !region.readable {
            return Err(Errno::EACCES);
        }
        out.extend_from_slice(access.as_bytes());
        let data = out.len();
        out.resize(data + access.count as usize, 0);
        self.device
            .region_read(access.region, access.offset, &mut out[data..])
    }

    fn region_write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        let (access, data) = RegionAccess::parse_with_data(payload).map_err(refused)?;
        let region = self.accessed(&access)?;
        if !region.writable {
            return Err(Errno::EACCES);
        }
        self.device
            .region_write(access.region, access.offset, data)?;
        out.extend_from_slice(access.as_bytes());
        Ok(())
    }

    /// The region of an access that lies in it.
    fn accessed(&self, access: &RegionAccess) -> Result<&RegionInfo, Errno> {
        let region = self
            .regions
            .get(access.region as usize)
            .ok_or(Errno::EINVAL)?;
        let end = access
            .offset
            .checked_add(access.count.into())
            .ok_or(Errno::EINVAL)?;
        if access.count == 0 || access.count > self.max_data || end > region.size {
            return Err(Errno::EINVAL);
        }
        Ok(region)
    }

    fn set_irqs(&mut self, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Answer, Errno> {
        let (request, kind, action, data) = IrqSetRequest::parse(payload).map_err(refused)?;
        let IrqSetRequest {
            index,
            start,
            count,
            ..
        } = request;
        let info = self.irqs.get(index as usize).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(count).ok_or(Errno::EINVAL)?;
        let disables = count == 0 && start == 0 && kind == DataKind::None;
        if end > info.count || (count == 0 && !disables) {
            return Err(Errno::EINVAL);
        }
        let data = match kind {
            _ if kind != DataKind::Eventfd && !fds.is_empty() => return Err(Errno::EINVAL),
            DataKind::None => IrqData::None,
            DataKind::Bool => {
                let bytes = data.get(..count as usize).ok_or(Errno::EINVAL)?;
                IrqData::Bools(bytes.iter().map(|&byte| byte != 0).collect())
            }
            DataKind::Eventfd if fds.is_empty() => IrqData::Deassign,
            DataKind::Eventfd if fds.len() == count as usize && info.eventfd => {
                IrqData::Eventfds(fds)
            }
            DataKind::Eventfd => return Err(Errno::EINVAL),
        };
        self.device.set_irqs(IrqSet {
            index,
            start,
            count,
            action,
            data,
        })?;
        Ok(Answer::Plain)
    }
}

fn refused(violation: Violation) -> Errno {
    tracing::debug!(%violation, "a request breaks the protocol");
    Errno::EINVAL
}
