//! The trait a device implements to be served.

use super::ClientMemory;
use crate::Errno;
use crate::model::{DeviceInfo, DmaMap, IrqInfo, IrqSet, RegionInfo};

/// A device behind a vfio-user server.
///
/// The server checks everything that can be checked without knowing the device before it calls: that an
/// access lies in its region and the region allows it, that vectors exist, that DMA ranges are aligned,
/// do not wrap and do not overlap. It calls from one thread, in the order of the client's messages, and
/// answers the client when the call has returned. An error's number becomes the error of the reply.
pub trait Device: Send {
    /// What the device has. Asked once a client, when it connects.
    fn info(&self) -> DeviceInfo;

    /// One region; `None` for an index without region. Asked once a client for each index, when it connects.
    fn region(&self, index: u32) -> Option<RegionInfo>;

    /// One interrupt index; `None` for an index without interrupts. Asked once a client for each index,
    /// when it connects.
    fn irq(&self, index: u32) -> Option<IrqInfo>;

    /// Reads `data.len()` bytes, at least one, at `offset` of a region.
    ///
    /// # Errors
    /// Whatever the client is to be told.
    fn region_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes `data`, at least one byte, at `offset` of a region.
    ///
    /// # Errors
    /// Whatever the client is to be told.
    fn region_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Client memory becomes reachable for the device's DMA.
    ///
    /// # Errors
    /// Whatever the client is to be told; the range then counts as not mapped.
    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno>;

    /// A range given to [`Device::dma_map`] before, exactly, is taken back. When this returns `Ok`, the device
    /// no longer touches it: the client may reuse the memory as soon as it has the reply.
    ///
    /// # Errors
    /// Whatever the client is to be told; the range then counts as still mapped.
    fn dma_unmap(&mut self, iova: u64, size: u64) -> Result<(), Errno>;

    /// Interrupts are configured, masked, unmasked or fired.
    ///
    /// # Errors
    /// Whatever the client is to be told.
    fn set_irqs(&mut self, request: IrqSet) -> Result<(), Errno>;

    /// The device is reset, as by a PCI function-level reset. Called only if [`DeviceInfo::resettable`].
    ///
    /// # Errors
    /// Whatever the client is to be told.
    fn reset(&mut self) -> Result<(), Errno>;

    /// A client has connected. `memory` reaches what it will map without descriptor; a device that does not
    /// care drops it.
    fn connected(&mut self, memory: ClientMemory) {
        drop(memory);
    }

    /// The client is gone. All its memory and eventfds must be let go before this returns; everything else
    /// about the device stays as it is.
    fn disconnected(&mut self);
}
