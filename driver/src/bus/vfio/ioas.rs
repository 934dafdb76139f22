//! An I/O address space of iommufd: the mappings that functions opened by their device nodes share.

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::errno::Call;
use super::memlock::{self, Charged};
use super::{info, ioctl};
use crate::bus::{BusError, DmaRange, DmaTarget};

/// An address space, and the iommufd that it is in.
#[derive(Debug)]
pub(super) struct Ioas {
    iommufd: Arc<OwnedFd>,
    id: u32,
    mapped: AtomicU64,
}

impl Ioas {
    pub(super) fn alloc(iommufd: &Arc<OwnedFd>) -> Result<Arc<Self>, BusError> {
        let mut alloc = iommufd_bindings::iommu_ioas_alloc::default();
        ioctl::exchange(iommufd, &mut alloc).map_err(|errno| Call::IoasAlloc.error(errno))?;
        Ok(Arc::new(Self {
            iommufd: Arc::clone(iommufd),
            id: alloc.out_ioas_id,
            mapped: AtomicU64::new(0),
        }))
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    pub(super) const fn iommufd(&self) -> &Arc<OwnedFd> {
        &self.iommufd
    }

    /// What IOVAs and lengths must be multiples of.
    pub(super) fn alignment(&self) -> Result<u64, BusError> {
        Ok(self.query()?.1)
    }

    fn query(&self) -> Result<(Vec<(u64, u64)>, u64), BusError> {
        ioctl::iova_ranges(&self.iommufd, self.id).map_err(|errno| Call::IovaRanges.error(errno))
    }
}

impl DmaTarget for Ioas {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        info::sorted(self.query()?.0).ok_or_else(|| BusError::Protocol {
            what: Call::IovaRanges.name().to_owned(),
            reason: "an IOVA range is empty or overlaps another".to_owned(),
        })
    }

    /// iommufd has no such limit; it charges the user's locked memory.
    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        Ok(None)
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        let pinned = self.mapped.load(Ordering::Relaxed);
        memlock::check(range.size(), Charged::User(pinned))?;
        ioctl::map_ioas(&self.iommufd, self.id, range)
            .map_err(|errno| Call::MapIoas.error(errno))?;
        self.mapped.fetch_add(range.size(), Ordering::Relaxed);
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError> {
        let mut unmap = iommufd_bindings::iommu_ioas_unmap {
            ioas_id: self.id,
            iova,
            length: size,
            ..Default::default()
        };
        ioctl::exchange(&self.iommufd, &mut unmap).map_err(|errno| Call::Unmap.error(errno))?;
        self.mapped
            .fetch_sub(unmap.length.min(size), Ordering::Relaxed);
        Ok(unmap.length)
    }
}

impl AsFd for Ioas {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.iommufd.as_fd()
    }
}

impl Drop for Ioas {
    fn drop(&mut self) {
        let mut destroy = iommufd_bindings::iommu_destroy {
            id: self.id,
            ..Default::default()
        };
        // Refused while a mapped BAR keeps a function open; then it goes with the iommufd.
        if let Err(errno) = ioctl::exchange(&self.iommufd, &mut destroy) {
            tracing::debug!(%errno, ioas = self.id, "an I/O address space outlives its functions");
        }
    }
}
