//! A function that is open.

use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use vfio_bindings::bindings::vfio;

use super::errno::Call;
use super::group::Group;
use super::ioas::Ioas;
use super::irq::{self, Enabled};
use super::region::{Layout, SpecialRegion, no_region};
use super::reset::Resets;
use super::{Access, ioctl};
use crate::bus::{BusError, DmaTarget, Function, Interrupt, IrqInfo, Region, RegionInfo};
use crate::deadline::Deadline;
use crate::pci::{Bdf, Host};

/// A PCI function through kernel VFIO.
#[derive(Debug)]
pub struct Vfio {
    name: String,
    pub(super) host: Host,
    bdf: Bdf,
    access: Access,
    /// Closed before the group, and that before its container.
    pub(super) device: Arc<OwnedFd>,
    pub(super) attachment: Attachment,
    resettable: bool,
    regions: Vec<Layout>,
    pub(super) enabled: Enabled,
    pub(super) resets: Resets,
    /// Dropped after all the others: tells who closes in the background that its handles are the last.
    released: Option<Sender<Infallible>>,
}

/// What the function's DMA goes through.
#[derive(Clone, Debug)]
pub(super) enum Attachment {
    Group(Arc<Group>),
    Ioas(Arc<Ioas>),
}

impl Vfio {
    pub(super) fn over(
        host: &Host,
        bdf: Bdf,
        access: Access,
        device: OwnedFd,
        attachment: Attachment,
    ) -> Result<Self, BusError> {
        let call = Call::DeviceInfo;
        let mut info = vfio::vfio_device_info::default();
        ioctl::exchange(&device, &mut info).map_err(|errno| call.error(errno))?;
        if info.flags & vfio::VFIO_DEVICE_FLAGS_PCI == 0
            || info.num_regions < vfio::VFIO_PCI_NUM_REGIONS
        {
            return Err(BusError::Protocol {
                what: call.name().to_owned(),
                reason: "it is no PCI function".to_owned(),
            });
        }
        let regions = (0..info.num_regions)
            .map(|index| Layout::of(&device, index))
            .collect::<Result<Vec<_>, _>>()?;
        let resettable = info.flags & vfio::VFIO_DEVICE_FLAGS_RESET != 0;
        if !resettable {
            tracing::warn!(%bdf, "the kernel knows no reset of this function alone: it is as its last user left it");
        }
        Ok(Self {
            name: bdf.to_string(),
            host: host.clone(),
            bdf,
            access,
            device: Arc::new(device),
            attachment,
            resettable,
            regions,
            enabled: Enabled::default(),
            resets: Resets::default(),
            released: None,
        })
    }

    /// Its address.
    #[must_use]
    pub const fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// The way that was taken; never [`Access::Auto`].
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Whether the kernel knows a reset of this function alone; if not, it was not reset at open either.
    #[must_use]
    pub const fn is_resettable(&self) -> bool {
        self.resettable
    }

    /// The smallest page that its IOMMU maps; IOVAs and lengths must be multiples of it.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn page_size(&self) -> Result<u64, BusError> {
        match &self.attachment {
            Attachment::Group(group) => {
                let sizes = group.container().page_sizes()?;
                Ok(1 << sizes.trailing_zeros().min(63))
            }
            Attachment::Ioas(ioas) => ioas.alignment(),
        }
    }

    /// Regions beyond those that every PCI function has, which a driver in the kernel adds for its devices.
    #[must_use]
    pub fn special_regions(&self) -> Vec<SpecialRegion> {
        let beyond = vfio::VFIO_PCI_NUM_REGIONS;
        self.regions
            .iter()
            .zip(0..)
            .skip(beyond as usize)
            .filter_map(|(layout, index)| layout.special(index, &self.device))
            .collect()
    }

    fn layout(&self, region: Region) -> Result<&Layout, BusError> {
        let index = region.index();
        self.regions
            .get(index as usize)
            .filter(|layout| layout.size > 0)
            .ok_or_else(|| no_region(index, 0, ""))
    }
}

impl Function for Vfio {
    fn name(&self) -> &str {
        &self.name
    }

    fn region(&self, region: Region) -> Result<RegionInfo, BusError> {
        Ok(self.layout(region)?.info(&self.device))
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError> {
        self.resets.idle(Call::ReadRegion)?;
        self.layout(region)?
            .read(&self.device, region.index(), offset, data)
    }

    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError> {
        self.resets.idle(Call::WriteRegion)?;
        self.layout(region)?
            .write(&self.device, region.index(), offset, data)
    }

    fn interrupts(&self, kind: Interrupt) -> Result<IrqInfo, BusError> {
        irq::info(&self.device, kind)
    }

    fn enable_interrupts(
        &self,
        kind: Interrupt,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), BusError> {
        self.resets.idle(Call::SetIrqs)?;
        self.enabled.enable(&self.device, kind, eventfds)
    }

    fn disable_interrupts(&self, kind: Interrupt) -> Result<(), BusError> {
        self.resets.idle(Call::SetIrqs)?;
        self.enabled.disable(&self.device, kind)
    }

    /// A reset that is not over by the deadline goes on in the kernel. The function's state is then unknown, and calls that
    /// would have to wait for the kernel end in [`BusError::ResetRuns`] until it is over.
    fn reset(&self, deadline: Deadline) -> Result<(), BusError> {
        if !self.resettable {
            return Err(BusError::Unsupported {
                what: Call::Reset.name().to_owned(),
                reason: "the kernel knows no reset of this function alone; try a hot reset"
                    .to_owned(),
            });
        }
        let device = Arc::clone(&self.device);
        self.resets
            .run(Call::Reset, deadline, move || ioctl::reset(&device))
    }

    fn hot_reset(&self, deadline: Deadline) -> Result<(), BusError> {
        // The inherent one, which takes the functions that are reset with it: none.
        Self::hot_reset(self, &[], deadline)
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        match &self.attachment {
            Attachment::Group(group) => Arc::clone(group.container()) as _,
            Attachment::Ioas(ioas) => Arc::clone(ioas) as _,
        }
    }
}

impl Drop for Vfio {
    /// Closing resets the function, which takes the kernel a minute for one that is gone. Nobody is made to wait for that.
    fn drop(&mut self) {
        let mut vendor = [0; 2];
        let alive = self.read(Region::Config, 0, &mut vendor).is_ok() && vendor != [0xFF; 2];
        if alive {
            return;
        }
        tracing::warn!(bdf = %self.bdf, "the function does not answer; it is closed in the background, which can take a minute");
        let kept = (Arc::clone(&self.device), self.attachment.clone());
        let (sender, receiver) = mpsc::channel();
        self.released = Some(sender);
        let closing = std::thread::Builder::new()
            .name("auk-vfio-close".to_owned())
            .spawn(move || {
                // Ends when the sender is dropped.
                let _ = receiver.recv();
                let (device, attachment) = kept;
                drop(device);
                drop(attachment);
            });
        if let Err(error) = closing {
            tracing::warn!(%error, "no thread could be started to close in the background");
        }
    }
}
