//! One PCI function, however it is reached: its regions, its interrupts, its reset, its DMA.
//!
//! The terms are those of the kernel's VFIO interface (`<linux/vfio.h>`), which vfio-user took over, so
//! that both buses say the same: [`remote`] speaks vfio-user over a socket, [`vfio`] the kernel's VFIO. The
//! reasoning is in `docs/driver.md`.

mod error;
pub mod remote;
pub mod vfio;

use std::any::Any;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use auk_vfio_user::model::{IrqInfo, MmapArea, RegionInfo, RegionMmap};
pub use error::BusError;
pub use vfio::{Access, AffectedFunction, Owner, SpecialRegion, Vfio};

use crate::deadline::Deadline;
use crate::pci::{ConfigError, ConfigSpace};

/// Regions of a PCI function, `VFIO_PCI_*_REGION_INDEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// BAR 0. Of an A1: registers and doorbells.
    Bar0,
    /// BAR 1, or the upper half of a 64-bit BAR 0.
    Bar1,
    /// BAR 2. Of an A1: the MSI-X table.
    Bar2,
    /// BAR 3, or the upper half of a 64-bit BAR 2.
    Bar3,
    /// BAR 4. Of an A1: the window on device memory.
    Bar4,
    /// BAR 5, or the upper half of a 64-bit BAR 4.
    Bar5,
    /// The expansion ROM.
    Rom,
    /// Config space.
    Config,
}

impl Region {
    /// The index in VFIO's numbering.
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Bar0 => 0,
            Self::Bar1 => 1,
            Self::Bar2 => 2,
            Self::Bar3 => 3,
            Self::Bar4 => 4,
            Self::Bar5 => 5,
            Self::Rom => 6,
            Self::Config => 7,
        }
    }
}

/// Kinds of interrupts of a PCI function, `VFIO_PCI_*_IRQ_INDEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interrupt {
    /// The legacy line: one, level-triggered, and masked by the kernel each time it fires.
    Intx,
    /// Message-signalled, vectors in config space.
    Msi,
    /// Message-signalled, vectors in a table of a BAR.
    Msix,
    /// The bus reported an uncorrectable error of the function (AER).
    Error,
    /// The host asks for the function back: it is being unbound or unplugged.
    Request,
}

impl Interrupt {
    /// The index in VFIO's numbering.
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Intx => 0,
            Self::Msi => 1,
            Self::Msix => 2,
            Self::Error => 3,
            Self::Request => 4,
        }
    }
}

/// One PCI function that is open, and that was reset when it was opened.
///
/// All calls may come from any thread. None of them is on the hot path: that touches mapped memory alone.
pub trait Function: Send + Sync {
    /// What to call it in messages.
    fn name(&self) -> &str;

    /// Size, access and mappable areas of a region (`VFIO_DEVICE_GET_REGION_INFO`).
    ///
    /// # Errors
    /// [`BusError::NoRegion`] when the function has no such region.
    fn region(&self, region: Region) -> Result<RegionInfo, BusError>;

    /// Reads a region by message or by `pread`. One call is one access of the function's where `data` is 1, 2, 4 or
    /// 8 bytes, naturally aligned.
    ///
    /// # Errors
    /// [`BusError`]; then the contents of `data` mean nothing.
    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError>;

    /// Writes a region; as [`Function::read`].
    ///
    /// # Errors
    /// [`BusError`]; the write may have happened or not.
    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError>;

    /// How many vectors of a kind there are, 0 for none, and what they can do (`VFIO_DEVICE_GET_IRQ_INFO`).
    ///
    /// # Errors
    /// [`BusError`].
    fn interrupts(&self, kind: Interrupt) -> Result<IrqInfo, BusError>;

    /// Enables a kind of interrupts with exactly these eventfds, from vector 0 on (`VFIO_DEVICE_SET_IRQS` with
    /// `DATA_EVENTFD | ACTION_TRIGGER`). All at once, because adding a vector to an index that has
    /// `VFIO_IRQ_INFO_NORESIZE` means to disable all of them first.
    ///
    /// # Errors
    /// [`BusError`]; interrupts of that kind are then disabled.
    fn enable_interrupts(
        &self,
        kind: Interrupt,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), BusError>;

    /// Disables a kind of interrupts (`DATA_NONE | ACTION_TRIGGER` with start 0 and count 0; any other count would fire
    /// them).
    ///
    /// # Errors
    /// [`BusError`].
    fn disable_interrupts(&self, kind: Interrupt) -> Result<(), BusError>;

    /// Resets the function (`VFIO_DEVICE_RESET`). When this returns, its DMA has ended and its config space
    /// answers. What the reset did to COMMAND and MSI-X is for the caller to set again.
    ///
    /// # Errors
    /// [`BusError`]; nothing may then be assumed of the function's DMA.
    fn reset(&self, deadline: Deadline) -> Result<(), BusError>;

    /// Resets the bus or slot that the function is on; as [`Function::reset`].
    ///
    /// # Errors
    /// [`BusError::Unsupported`] where the bus has no such reset, [`BusError::NotOwned`] where it would reset others' functions too; then
    /// nothing has happened. Else as [`Function::reset`].
    fn hot_reset(&self, _: Deadline) -> Result<(), BusError> {
        Err(BusError::Unsupported {
            what: "hot reset".to_owned(),
            reason: "the bus of a simulated chip has none".to_owned(),
        })
    }

    /// What translates the function's DMA. Functions behind one container or one IOAS return the same.
    fn dma(&self) -> Arc<dyn DmaTarget>;
}

/// What one or more functions' DMA goes through: an IOMMU container, an IOAS, a vfio-user connection.
///
/// `Any`, so that a bus that opens one more function can find a container of its own among the targets of a
/// space, and join it.
pub trait DmaTarget: Any + Send + Sync {
    /// IOVAs that may be mapped, sorted; the holes are what the host reserves
    /// (`VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE`, `IOMMU_IOAS_IOVA_RANGES`). Asked again whenever a function joins.
    ///
    /// # Errors
    /// [`BusError`].
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError>;

    /// Mappings that can still be made (`VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL`); `None` when there is no such limit.
    ///
    /// # Errors
    /// [`BusError`].
    fn mappings_left(&self) -> Result<Option<u64>, BusError>;

    /// Whether mapping pins pages and takes an entry of an IOMMU for each, so that huge ones make it cheaper.
    fn pins(&self) -> bool {
        true
    }

    /// Lets the functions read and write a range from now on.
    ///
    /// # Errors
    /// [`BusError`]; nothing is then mapped.
    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError>;

    /// Takes back exactly what [`DmaTarget::map`] gave. After success no function touches it any more. Gives the
    /// bytes that were unmapped: type1 is known to answer success and 0.
    ///
    /// # Errors
    /// [`BusError`]; the functions may then still touch the range.
    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError>;
}

/// Memory of this process for DMA, named in both ways that a [`DmaTarget`] may need: by address for the kernel,
/// by descriptor for a peer.
///
/// Only [`crate::dma`] makes one: it owns the memory or holds its owner, and keeps it mapped until the unmapping has succeeded.
#[derive(Debug)]
pub struct DmaRange<'a> {
    pub(crate) iova: u64,
    pub(crate) size: u64,
    pub(crate) address: usize,
    pub(crate) fd: Option<BorrowedFd<'a>>,
    pub(crate) fd_offset: u64,
}

impl DmaRange<'_> {
    /// First IOVA, page-aligned.
    #[must_use]
    pub const fn iova(&self) -> u64 {
        self.iova
    }

    /// Bytes, a multiple of the page.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where the memory is mapped in this process (`vaddr`).
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// The descriptor behind it; memory that was registered by its address has none.
    #[must_use]
    pub const fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd
    }

    /// Where in the descriptor it begins.
    #[must_use]
    pub const fn fd_offset(&self) -> u64 {
        self.fd_offset
    }
}

/// Config space through an open function.
///
/// Kernel VFIO before about 6.4 hides DVSECs that it does not know; sysfs shows them.
pub struct FunctionConfig<'a>(pub &'a dyn Function);

impl ConfigSpace for FunctionConfig<'_> {
    fn read(&self, offset: u16, data: &mut [u8]) -> Result<(), ConfigError> {
        self.0
            .read(Region::Config, u64::from(offset), data)
            .map_err(|error| ConfigError::Io {
                offset,
                length: data.len(),
                source: std::io::Error::other(error),
            })
    }
}
