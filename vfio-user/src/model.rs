//! What a vfio-user device consists of, in the terms both ends share: regions, interrupts, DMA.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What `DEVICE_GET_INFO` says about a device (`struct vfio_device_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device can be reset by `DEVICE_RESET` (`VFIO_DEVICE_FLAGS_RESET`).
    pub resettable: bool,
    /// The device is a PCI function (`VFIO_DEVICE_FLAGS_PCI`); its regions and interrupts are then
    /// numbered as in [`crate::pci`].
    pub pci: bool,
    /// Number of regions; their indices are `0..regions`.
    pub regions: u32,
    /// Number of interrupt indices (kinds of interrupts); they are `0..irqs`.
    pub irqs: u32,
}

/// What `DEVICE_GET_REGION_INFO` says about one region (`struct vfio_region_info`).
#[derive(Clone, Debug, Default)]
pub struct RegionInfo {
    /// Bytes; 0 for a region that does not exist.
    pub size: u64,
    /// `REGION_READ` is allowed.
    pub readable: bool,
    /// `REGION_WRITE` is allowed.
    pub writable: bool,
    /// How to map the region, or parts of it, into one's own address space.
    pub mmap: Option<RegionMmap>,
}

/// The descriptor behind a region, and which parts of the region it may be mapped for.
#[derive(Clone, Debug)]
pub struct RegionMmap {
    /// What to give to `mmap`.
    pub fd: Arc<OwnedFd>,
    /// Where in `fd` the region begins, in bytes.
    pub offset: u64,
    /// The parts that may be mapped (the sparse-mmap capability); empty means the whole region.
    pub areas: Vec<MmapArea>,
}

/// One part of a region that may be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmapArea {
    /// From the beginning of the region, in bytes; add [`RegionMmap::offset`] for `mmap`.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What `DEVICE_GET_IRQ_INFO` says about one interrupt index (`struct vfio_irq_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqInfo {
    /// Number of vectors of this index.
    pub count: u32,
    /// Vectors signal eventfds (`VFIO_IRQ_INFO_EVENTFD`).
    pub eventfd: bool,
    /// Vectors can be masked and unmasked (`VFIO_IRQ_INFO_MASKABLE`).
    pub maskable: bool,
    /// A vector masks itself when it fires (`VFIO_IRQ_INFO_AUTOMASKED`).
    pub automasked: bool,
    /// Vectors are enabled as a set, and adding one means disabling all (`VFIO_IRQ_INFO_NORESIZE`).
    pub noresize: bool,
}

/// What a `DEVICE_SET_IRQS` asks for; already checked against the [`IrqInfo`] of its index.
#[derive(Debug)]
pub struct IrqSet {
    /// Which interrupt index.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Number of vectors, from `start`; 0 (with a `start` of 0) disables the whole index.
    pub count: u32,
    /// What is to happen.
    pub action: IrqAction,
    /// To which of the vectors, or with which eventfds.
    pub data: IrqData,
}

impl IrqSet {
    /// Whether this disables every vector of the index: a trigger with no data and a count of 0.
    pub fn disables_index(&self) -> bool {
        self.action == IrqAction::Trigger && self.count == 0 && matches!(self.data, IrqData::None)
    }
}

/// What a `DEVICE_SET_IRQS` does to each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqAction {
    /// Hold the vector back; what fires meanwhile stays pending.
    Mask,
    /// Let the vector through again.
    Unmask,
    /// Fire the vector, or with [`IrqData::Eventfds`], say what to signal when it fires.
    Trigger,
}

/// The data of a `DEVICE_SET_IRQS`.
#[derive(Debug)]
pub enum IrqData {
    /// Every vector in the range.
    None,
    /// The vectors in the range whose entry is true; as many entries as vectors.
    Bools(Vec<bool>),
    /// One eventfd a vector; as many as vectors.
    Eventfds(Vec<OwnedFd>),
    /// Eventfd data without descriptors: the eventfds of these vectors are taken back.
    Deassign,
}

/// What the device may do with a range of client memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protection {
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
}

impl Protection {
    /// Read only.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Write only.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
    };
    /// Read and write.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
    };
}

/// A range of client memory that the device may reach from now on (`DMA_MAP`).
#[derive(Debug)]
pub struct DmaMap {
    /// First address, as the device sees it.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
    /// What the device may do there.
    pub protection: Protection,
    /// The memory itself, if the client shares it; otherwise it is reached by messages only.
    pub memory: Option<DmaMemory>,
}

/// Where a client's memory can be mapped from.
#[derive(Debug)]
pub struct DmaMemory {
    /// What to give to `mmap`.
    pub fd: OwnedFd,
    /// Where in `fd` the range begins, in bytes.
    pub offset: u64,
}
