//! A container: the IOMMU mappings that legacy groups share.

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vfio_bindings::bindings::vfio;

use super::access::container_path;
use super::errno::Call;
use super::group::Group;
use super::info::{BadInfo, Info};
use super::ioctl::{self, InfoRequest};
use super::memlock::{self, Charged};
use super::node;
use crate::bus::{BusError, DmaRange, DmaTarget};
use crate::pci::Host;

/// A container and the kind of IOMMU that was chosen for it.
#[derive(Debug)]
pub(super) struct Container {
    fd: OwnedFd,
    translated: bool,
    /// Groups that are in it. A group's file can be open once only, so the functions of one group share it.
    groups: Mutex<Vec<Weak<Group>>>,
}

/// What a type1 container says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Type1 {
    page_sizes: u64,
    ranges: Vec<RangeInclusive<u64>>,
    mappings_left: Option<u64>,
}

impl Container {
    /// Opens one, and checks that the kernel speaks this version of the interface and has the kind of IOMMU that is needed.
    pub(super) fn open(host: &Host, translated: bool) -> Result<Arc<Self>, BusError> {
        let call = Call::OpenContainer;
        let fd = node::open_shared(call, &container_path(host))?;
        let version = ioctl::api_version(&fd).map_err(|errno| call.error(errno))?;
        let unsupported = |reason: String| BusError::Unsupported {
            what: call.name().to_owned(),
            reason,
        };
        if i64::from(version) != i64::from(vfio::VFIO_API_VERSION) {
            return Err(unsupported(format!(
                "the kernel's VFIO is of version {version}, this driver needs version {}",
                vfio::VFIO_API_VERSION
            )));
        }
        let container = Self {
            fd,
            translated,
            groups: Mutex::new(Vec::new()),
        };
        let has = ioctl::has_extension(&container.fd, container.kind())
            .map_err(|errno| call.error(errno))?;
        if !has {
            return Err(unsupported(if translated {
                "no type1v2 IOMMU; load the module vfio_iommu_type1, and turn the host's IOMMU on"
                    .to_owned()
            } else {
                "no-IOMMU mode is not enabled (enable_unsafe_noiommu_mode=1 of the module vfio, CONFIG_VFIO_NOIOMMU)".to_owned()
            }));
        }
        Ok(Arc::new(container))
    }

    const fn kind(&self) -> u32 {
        if self.translated {
            vfio::VFIO_TYPE1v2_IOMMU
        } else {
            vfio::VFIO_NOIOMMU_IOMMU
        }
    }

    pub(super) const fn is_translated(&self) -> bool {
        self.translated
    }

    /// The group of that number, if it is in this container already.
    pub(super) fn group(&self, number: u32) -> Option<Arc<Group>> {
        self.groups()
            .iter()
            .filter_map(Weak::upgrade)
            .find(|group| group.number() == number)
    }

    /// Puts a group into the container. What is mapped is mapped for it too, at once.
    pub(super) fn join(self: &Arc<Self>, group: BorrowedFd<'_>) -> Result<(), BusError> {
        // One at a time, so that the first one alone chooses the kind of IOMMU.
        let _groups = self.groups();
        ioctl::set_container(group, &self.fd).map_err(|errno| Call::SetContainer.error(errno))?;
        // The kernel forgets the kind with the last group, so it is asked and not remembered.
        if self.translated && ioctl::info(&self.fd, InfoRequest::Type1, None).is_ok() {
            return Ok(());
        }
        ioctl::set_iommu(&self.fd, self.kind()).map_err(|errno| Call::SetIommu.error(errno))
    }

    pub(super) fn keep(&self, group: &Arc<Group>) {
        let mut groups = self.groups();
        groups.retain(|known| known.strong_count() > 0);
        groups.push(Arc::downgrade(group));
    }

    /// Sizes of pages that the IOMMU can map, one bit each.
    pub(super) fn page_sizes(&self) -> Result<u64, BusError> {
        Ok(self.type1()?.page_sizes)
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn type1(&self) -> Result<Type1, BusError> {
        let call = Call::IommuInfo;
        let info =
            ioctl::info(&self.fd, InfoRequest::Type1, None).map_err(|errno| call.error(errno))?;
        parse(&info)
            .map_err(|bad| BusError::Protocol {
                what: call.name().to_owned(),
                reason: bad.to_string(),
            })?
            .ok_or_else(|| BusError::Unsupported {
                what: call.name().to_owned(),
                reason: super::errno::older_than("5.4"),
            })
    }
}

/// `None` when the kernel does not say which ranges may be mapped.
fn parse(info: &Info) -> Result<Option<Type1>, BadInfo> {
    use std::mem::offset_of;
    use vfio::vfio_iommu_type1_info as header;

    let flags = info.u32(offset_of!(header, flags))?;
    let first = if flags & vfio::VFIO_IOMMU_INFO_CAPS == 0 {
        0
    } else {
        info.u32(offset_of!(header, cap_offset))?
    };
    let mut ranges = None;
    let mut mappings_left = None;
    for capability in info.capabilities(first)? {
        match capability.id {
            vfio::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE => ranges = Some(capability.iova_ranges()?),
            vfio::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL => {
                mappings_left = Some(u64::from(capability.dma_avail()?));
            }
            _ => {}
        }
    }
    let page_sizes = if flags & vfio::VFIO_IOMMU_INFO_PGSIZES == 0 {
        auk_asic::PAGE as u64
    } else {
        info.u64(offset_of!(header, iova_pgsizes))?
    };
    Ok(ranges.map(|ranges| Type1 {
        page_sizes,
        ranges,
        mappings_left,
    }))
}

impl DmaTarget for Container {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        if !self.translated {
            return Ok(vec![0..=u64::MAX]);
        }
        Ok(self.type1()?.ranges)
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        if !self.translated {
            return Ok(None);
        }
        Ok(self.type1()?.mappings_left)
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        if !self.translated {
            return Err(BusError::NoIommu {
                remedy: "memory cannot be mapped for it in no-IOMMU mode; turn the host's IOMMU on",
            });
        }
        memlock::check(range.size(), Charged::Process)?;
        ioctl::map_type1(&self.fd, range).map_err(|errno| Call::MapType1.error(errno))
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError> {
        let mut unmap = vfio::vfio_iommu_type1_dma_unmap {
            iova,
            size,
            ..Default::default()
        };
        ioctl::exchange(&self.fd, &mut unmap).map_err(|errno| Call::Unmap.error(errno))?;
        Ok(unmap.size)
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_without_capabilities_tells_no_ranges() {
        let mut bytes = vec![0; 24];
        bytes[4] = vfio::VFIO_IOMMU_INFO_PGSIZES as u8;
        assert_eq!(parse(&Info::new(bytes)).unwrap(), None);
    }

    #[test]
    fn ranges_page_sizes_and_what_is_left_are_read() {
        let mut bytes = vec![0; 24];
        bytes[4] = (vfio::VFIO_IOMMU_INFO_PGSIZES | vfio::VFIO_IOMMU_INFO_CAPS) as u8;
        bytes[8..16].copy_from_slice(&0x4020_1000u64.to_ne_bytes());
        bytes[16] = 24;
        // One range, then the count of mappings.
        for word in [0x0001_0001u32, 56, 1, 0, 0x1000, 0, 0xFFFF, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [0x0001_0003u32, 0, 65_535] {
            bytes.extend(word.to_ne_bytes());
        }
        let expected = Type1 {
            page_sizes: 0x4020_1000,
            ranges: vec![0x1000..=0xFFFF],
            mappings_left: Some(65_535),
        };
        assert_eq!(parse(&Info::new(bytes)).unwrap(), Some(expected));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(flags) = bytes.get_mut(4) {
                *flags |= vfio::VFIO_IOMMU_INFO_CAPS as u8;
            }
            if let Some(offset) = bytes.get_mut(16..20) {
                offset.copy_from_slice(&24u32.to_ne_bytes());
            }
            let _ = parse(&Info::new(bytes));
        }
    }
}
