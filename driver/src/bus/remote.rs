//! vfio-user over a socket.

use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use super::{BusError, DmaRange, DmaTarget, Function, IrqInfo, Region, RegionInfo};
use crate::deadline::Deadline;

/// A function behind a vfio-user socket.
#[derive(Debug)]
pub struct Remote {
    name: String,
}

fn missing<T>() -> Result<T, BusError> {
    Err(BusError::Disconnected {
        reason: "the vfio-user client is not linked yet".to_owned(),
    })
}

impl Remote {
    /// Connects to a server that listens at `path`.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn connect(_name: &str, _path: &Path, _deadline: Deadline) -> Result<Self, BusError> {
        missing()
    }

    /// Uses a socket that is connected to a server.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn from_socket(
        _name: &str,
        _socket: UnixStream,
        _deadline: Deadline,
    ) -> Result<Self, BusError> {
        missing()
    }
}

impl Function for Remote {
    fn name(&self) -> &str {
        &self.name
    }
    fn region(&self, _region: Region) -> Result<RegionInfo, BusError> {
        missing()
    }
    fn read(&self, _region: Region, _offset: u64, _data: &mut [u8]) -> Result<(), BusError> {
        missing()
    }
    fn write(&self, _region: Region, _offset: u64, _data: &[u8]) -> Result<(), BusError> {
        missing()
    }
    fn interrupts(&self) -> Result<IrqInfo, BusError> {
        missing()
    }
    fn enable_interrupts(&self, _eventfds: &[BorrowedFd<'_>]) -> Result<(), BusError> {
        missing()
    }
    fn disable_interrupts(&self) -> Result<(), BusError> {
        missing()
    }
    fn reset(&self) -> Result<(), BusError> {
        missing()
    }
    fn dma(&self) -> Arc<dyn DmaTarget> {
        Arc::new(Nothing)
    }
}

struct Nothing;

impl DmaTarget for Nothing {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        missing()
    }
    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        missing()
    }
    fn map(&self, _range: &DmaRange<'_>) -> Result<(), BusError> {
        missing()
    }
    fn unmap(&self, _iova: u64, _size: u64) -> Result<u64, BusError> {
        missing()
    }
}
