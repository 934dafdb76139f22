//! Regions: what the kernel says of them, and access by `pread` and `pwrite`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::uio::{pread, pwrite};
use vfio_bindings::bindings::vfio;

use super::errno::Call;
use super::info::{BadInfo, Info};
use super::ioctl::{self, InfoRequest};
use crate::bus::{BusError, MmapArea, RegionInfo, RegionMmap};

/// A region of the device, as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) size: u64,
    /// Where the region begins in the device's descriptor.
    offset: u64,
    readable: bool,
    writable: bool,
    /// `None` if it cannot be mapped; no areas if all of it can.
    mappable: Option<Vec<MmapArea>>,
    /// Type and subtype of a device-specific region.
    kind: Option<(u32, u32)>,
}

/// A region beyond those that every PCI function has.
#[derive(Clone, Debug)]
pub struct SpecialRegion {
    /// Its index, for the calls that take one.
    pub index: u32,
    /// Its type; `VFIO_REGION_TYPE_PCI_VENDOR_TYPE` with a vendor ID for what a vendor defines.
    pub kind: u32,
    /// Its subtype.
    pub subtype: u32,
    /// Size, access and mappable areas.
    pub info: RegionInfo,
}

impl Layout {
    /// Asks the kernel for region `index`; a region that does not exist has size 0.
    pub(super) fn of(device: &OwnedFd, index: u32) -> Result<Self, BusError> {
        let call = Call::RegionInfo;
        let info = match ioctl::info(device, InfoRequest::Region, Some(index)) {
            Ok(info) => info,
            // The ROM and VGA regions of functions without them.
            Err(Errno::EINVAL) => return Ok(Self::default()),
            Err(errno) => return Err(call.error(errno)),
        };
        Self::parse(&info).map_err(|bad| BusError::Protocol {
            what: format!("{} ({index})", call.name()),
            reason: bad.to_string(),
        })
    }

    fn parse(info: &Info) -> Result<Self, BadInfo> {
        use std::mem::offset_of;
        use vfio::vfio_region_info as header;

        let flags = info.u32(offset_of!(header, flags))?;
        let mut layout = Self {
            size: info.u64(offset_of!(header, size))?,
            offset: info.u64(offset_of!(header, offset))?,
            readable: flags & vfio::VFIO_REGION_INFO_FLAG_READ != 0,
            writable: flags & vfio::VFIO_REGION_INFO_FLAG_WRITE != 0,
            mappable: (flags & vfio::VFIO_REGION_INFO_FLAG_MMAP != 0).then(Vec::new),
            kind: None,
        };
        let first = if flags & vfio::VFIO_REGION_INFO_FLAG_CAPS == 0 {
            0
        } else {
            info.u32(offset_of!(header, cap_offset))?
        };
        for capability in info.capabilities(first)? {
            match capability.id {
                vfio::VFIO_REGION_INFO_CAP_SPARSE_MMAP if layout.mappable.is_some() => {
                    let areas = capability.sparse_areas(layout.size)?;
                    // A list without areas is one that lets nothing be mapped.
                    layout.mappable = (!areas.is_empty()).then_some(areas);
                }
                vfio::VFIO_REGION_INFO_CAP_TYPE => layout.kind = Some(capability.region_type()?),
                // `VFIO_REGION_INFO_CAP_MSIX_MAPPABLE` says that the whole region may be mapped although the MSI-X table is in it,
                // which is what a region without sparse areas says anyhow.
                _ => {}
            }
        }
        Ok(layout)
    }

    pub(super) fn info(&self, device: &Arc<OwnedFd>) -> RegionInfo {
        RegionInfo {
            size: self.size,
            readable: self.readable,
            writable: self.writable,
            mmap: self.mappable.as_ref().map(|areas| RegionMmap {
                fd: Arc::clone(device),
                offset: self.offset,
                areas: areas.clone(),
            }),
        }
    }

    pub(super) fn special(&self, index: u32, device: &Arc<OwnedFd>) -> Option<SpecialRegion> {
        let (kind, subtype) = self.kind?;
        Some(SpecialRegion {
            index,
            kind,
            subtype,
            info: self.info(device),
        })
    }

    pub(super) fn read(
        &self,
        device: &OwnedFd,
        index: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), BusError> {
        if !self.readable {
            return Err(no_region(index, self.size, "it cannot be read"));
        }
        let at = self.place(index, offset, data.len())?;
        let length = data.len();
        let done = pread(device, data, at).map_err(|errno| Call::ReadRegion.error(errno))?;
        whole(Call::ReadRegion, index, offset, length, done)
    }

    pub(super) fn write(
        &self,
        device: &OwnedFd,
        index: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), BusError> {
        if !self.writable {
            return Err(no_region(index, self.size, "it cannot be written"));
        }
        let at = self.place(index, offset, data.len())?;
        let done = pwrite(device, data, at).map_err(|errno| Call::WriteRegion.error(errno))?;
        whole(Call::WriteRegion, index, offset, data.len(), done)
    }

    fn place(&self, index: u32, offset: u64, length: usize) -> Result<libc::off_t, BusError> {
        let outside = no_region(index, self.size, "the access ends outside of it");
        let Some(end) = offset.checked_add(length as u64) else {
            return Err(outside);
        };
        if end > self.size {
            return Err(outside);
        }
        self.offset
            .checked_add(offset)
            .and_then(|at| libc::off_t::try_from(at).ok())
            .ok_or(outside)
    }
}

pub(super) const fn no_region(index: u32, size: u64, problem: &'static str) -> BusError {
    let problem = if size == 0 {
        "it does not exist"
    } else {
        problem
    };
    BusError::NoRegion { index, problem }
}

/// A part of an access is no access: what the rest would have read or done is not known.
fn whole(call: Call, index: u32, offset: u64, length: usize, done: usize) -> Result<(), BusError> {
    if done == length {
        return Ok(());
    }
    Err(BusError::Protocol {
        what: call.name().to_owned(),
        reason: format!(
            "{done} of {length} bytes at {offset:#x} of region {index} were transferred"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn answer(flags: u32, size: u64, capabilities: &[u32]) -> Info {
        let mut bytes = Vec::new();
        for word in [0, flags, 0, 32] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [size, 7 << 40] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in capabilities {
            bytes.extend(word.to_ne_bytes());
        }
        Info::new(bytes)
    }

    const ALL: u32 = vfio::VFIO_REGION_INFO_FLAG_READ
        | vfio::VFIO_REGION_INFO_FLAG_WRITE
        | vfio::VFIO_REGION_INFO_FLAG_MMAP;

    #[test]
    fn a_region_without_capabilities_is_mappable_as_a_whole() {
        let layout = Layout::parse(&answer(ALL, 0x8000, &[])).unwrap();
        assert_eq!(layout.mappable, Some(vec![]));
        assert!(layout.readable && layout.writable && layout.kind.is_none());
    }

    #[test]
    fn only_the_sparse_areas_of_a_region_are_mappable() {
        let caps = ALL | vfio::VFIO_REGION_INFO_FLAG_CAPS;
        let sparse = [0x0001_0001, 0, 1, 0, 0x4000, 0, 0x1000, 0];
        let layout = Layout::parse(&answer(caps, 0x8000, &sparse)).unwrap();
        let area = MmapArea {
            offset: 0x4000,
            size: 0x1000,
        };
        assert_eq!(layout.mappable, Some(vec![area]));
        let none = [0x0001_0001, 0, 0, 0];
        let layout = Layout::parse(&answer(caps, 0x8000, &none)).unwrap();
        assert_eq!(layout.mappable, None);
    }

    #[test]
    fn a_device_specific_region_has_a_type_and_a_subtype() {
        let caps = ALL | vfio::VFIO_REGION_INFO_FLAG_CAPS;
        let layout = Layout::parse(&answer(caps, 0x1000, &[0x0001_0002, 0, 9, 4])).unwrap();
        assert_eq!(layout.kind, Some((9, 4)));
    }

    #[test]
    fn accesses_outside_a_region_or_cut_short_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 64]).unwrap();
        let fd = OwnedFd::from(file);
        let layout = Layout {
            size: 128,
            readable: true,
            ..Layout::default()
        };
        let mut data = [0; 4];
        layout.read(&fd, 0, 60, &mut data).unwrap();
        assert_eq!(data, [7; 4]);
        for (offset, problem) in [(126, "outside"), (u64::MAX, "outside"), (62, "2 of 4")] {
            let error = layout.read(&fd, 0, offset, &mut data).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
        assert!(layout.write(&fd, 0, 0, &data).is_err());
        let absent = Layout::default().read(&fd, 3, 0, &mut data).unwrap_err();
        assert!(absent.to_string().contains("does not exist"), "{absent}");
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = Layout::parse(&Info::new(bytes));
        }
    }
}
