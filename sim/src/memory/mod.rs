//! All memory that the chip's DMA engine can reach, behind one address type.

mod allocator;
mod host;
mod memfd;

use auk_asic::Status;
use auk_asic::submission::{Operand, Space};
use auk_vfio_user::dma::{Access, Held};
use auk_vfio_user::memory::{SharedMemory, Stores};

pub(crate) use allocator::Allocator;
pub(crate) use host::HostMemory;
pub(crate) use memfd::Memfd;

/// What the chip wants to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    /// Reads and writes, as an atomic does.
    Both,
}

impl Direction {
    fn accesses(self) -> &'static [Access] {
        match self {
            Self::Read => &[Access::Read],
            Self::Write => &[Access::Write],
            Self::Both => &[Access::Read, Access::Write],
        }
    }
}

/// Bytes that lie in one mapping.
#[derive(Clone, Copy, Debug)]
struct Span<'a> {
    memory: &'a SharedMemory,
    offset: u64,
    length: u64,
}

/// Host memory, device memory, and how much of the first was moved.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) host: HostMemory,
    pub(crate) device: Memfd,
    pub(crate) allocator: Allocator,
    /// Greatest IOVA that the chip can put on the bus.
    last_address: u64,
    pub(crate) host_read_bytes: u64,
    pub(crate) host_written_bytes: u64,
}

impl Memory {
    pub(crate) fn new(device: Memfd, last_address: u64) -> Self {
        Self {
            host: HostMemory::new(),
            allocator: Allocator::new(device.mapping.len()),
            device,
            last_address,
            host_read_bytes: 0,
            host_written_bytes: 0,
        }
    }

    /// Whether all of `length` bytes at `operand` can be reached.
    ///
    /// # Errors
    /// [`Status::DmaFault`], [`Status::OutOfRange`] or, for a peer, [`Status::Unsupported`].
    pub(crate) fn check(
        &self,
        operand: Operand,
        length: u64,
        direction: Direction,
    ) -> Result<(), Status> {
        match operand.space {
            Space::Host => {
                if self.addresses(operand.address, length)
                    && self.host.covers(operand.address, length, direction)
                {
                    Ok(())
                } else {
                    Err(Status::DmaFault)
                }
            }
            Space::Local => {
                let end = operand.address.checked_add(length);
                if end.is_some_and(|end| end <= self.device.mapping.len()) {
                    Ok(())
                } else {
                    Err(Status::OutOfRange)
                }
            }
            Space::Peer => Err(Status::Unsupported),
        }
    }

    /// The first piece of `length` bytes at `operand` that lies in one mapping.
    ///
    /// # Errors
    /// As [`Memory::check`].
    #[inline]
    fn span(
        &self,
        operand: Operand,
        length: u64,
        direction: Direction,
    ) -> Result<Span<'_>, Status> {
        match operand.space {
            Space::Host => {
                let window = self
                    .host
                    .window(operand.address, length, direction)
                    .filter(|window| self.addresses(operand.address, window.len()))
                    .ok_or(Status::DmaFault)?;
                let (memory, offset) = window.memory();
                Ok(Span {
                    memory,
                    offset,
                    length: window.len(),
                })
            }
            Space::Local => {
                let size = self.device.mapping.len();
                if operand.address >= size {
                    return Err(Status::OutOfRange);
                }
                Ok(Span {
                    memory: &self.device.mapping,
                    offset: operand.address,
                    length: length.min(size - operand.address),
                })
            }
            Space::Peer => Err(Status::Unsupported),
        }
    }

    /// Reads all of `into`.
    ///
    /// # Errors
    /// As [`Memory::check`]; some bytes may have been read.
    pub(crate) fn read(&mut self, from: Operand, into: &mut [u8]) -> Result<(), Status> {
        match from.space {
            Space::Host => {
                let length = into.len() as u64;
                if !self.addresses(from.address, length) || !self.host.read(from.address, into) {
                    return Err(Status::DmaFault);
                }
                self.host_read_bytes += length;
                Ok(())
            }
            Space::Local => {
                let read = self.device.mapping.read(from.address, into);
                read.map_err(|_| Status::OutOfRange)
            }
            Space::Peer => Err(Status::Unsupported),
        }
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// As [`Memory::check`]; nothing was written.
    pub(crate) fn write(&mut self, to: Operand, data: &[u8]) -> Result<(), Status> {
        match to.space {
            Space::Host => {
                let length = data.len() as u64;
                if !self.addresses(to.address, length) || !self.host.write(to.address, data) {
                    return Err(Status::DmaFault);
                }
                self.host_written_bytes += length;
                Ok(())
            }
            Space::Local => {
                let written = self.device.mapping.write(to.address, data);
                written.map_err(|_| Status::OutOfRange)
            }
            Space::Peer => Err(Status::Unsupported),
        }
    }

    /// Whether the chip can put all of `length` bytes at `iova` on the bus.
    fn addresses(&self, iova: u64, length: u64) -> bool {
        length == 0
            || iova
                .checked_add(length - 1)
                .is_some_and(|last| last <= self.last_address)
    }

    /// Keeps host memory at `iova` at hand, as much of `length` bytes as lies in one mapping; `None` when the chip may not go
    /// there in this direction.
    pub(crate) fn hold(&self, iova: u64, length: u64, direction: Direction) -> Option<(Held, u64)> {
        let window = self.host.window(iova, length, direction)?;
        Some((window.hold(), window.len()))
    }

    /// Copies `length` bytes.
    ///
    /// # Errors
    /// As [`Memory::check`]; some bytes may have been copied.
    pub(crate) fn copy(
        &mut self,
        mut to: Operand,
        mut from: Operand,
        mut length: u64,
        stores: Stores,
    ) -> Result<(), Status> {
        while length > 0 {
            let source = self.span(from, length, Direction::Read)?;
            let destination = self.span(to, source.length, Direction::Write)?;
            let moved = destination.length;
            SharedMemory::copy(
                (source.memory, source.offset),
                (destination.memory, destination.offset),
                moved as usize,
                stores,
            )
            .map_err(|_| Status::DmaFault)?;
            if from.space == Space::Host {
                self.host_read_bytes += moved;
            }
            if to.space == Space::Host {
                self.host_written_bytes += moved;
            }
            from = advance(from, moved);
            to = advance(to, moved);
            length -= moved;
        }
        Ok(())
    }

    /// What the semaphore at `operand` holds.
    ///
    /// # Errors
    /// [`Status::Misaligned`], or as [`Memory::check`].
    pub(crate) fn semaphore(&self, operand: Operand) -> Result<u64, Status> {
        let word = self.word(operand, Direction::Read)?;
        let held = word.memory.load_u64(word.offset);
        held.map_err(|_| Status::DmaFault)
    }

    /// Adds to the semaphore at `operand`: its new value. Whoever sees it sees what was written before.
    ///
    /// # Errors
    /// [`Status::Misaligned`], or as [`Memory::check`].
    pub(crate) fn signal(&self, operand: Operand, value: u64) -> Result<u64, Status> {
        let word = self.word(operand, Direction::Both)?;
        let before = word.memory.fetch_add_u64(word.offset, value);
        Ok(before.map_err(|_| Status::DmaFault)?.wrapping_add(value))
    }

    /// The eight bytes at `operand`.
    fn word(&self, operand: Operand, direction: Direction) -> Result<Span<'_>, Status> {
        if !operand.address.is_multiple_of(8) {
            return Err(Status::Misaligned);
        }
        let span = self.span(operand, 8, direction)?;
        if span.length == 8 {
            Ok(span)
        } else {
            Err(Status::DmaFault)
        }
    }
}

/// `operand`, `bytes` further on; what lies beyond the end of the numbers is caught by the next
/// check of the address.
pub(crate) fn advance(operand: Operand, bytes: u64) -> Operand {
    Operand {
        address: operand.address.wrapping_add(bytes),
        ..operand
    }
}
