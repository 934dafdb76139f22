//! All memory that the chip's DMA engine can reach, behind one address type.

mod allocator;
mod host;
mod mapping;
mod memfd;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use auk_asic::Status;
use auk_asic::submission::{Operand, Space};

pub(crate) use allocator::Allocator;
pub(crate) use host::HostMemory;
pub(crate) use mapping::Mapping;
pub(crate) use memfd::SharedMemory;

/// What the chip wants to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    /// Reads and writes, as an atomic does.
    Both,
}

/// Bytes that lie in one mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) mapping: &'a Arc<Mapping>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Host memory, device memory, and how much of the first was moved.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) host: HostMemory,
    pub(crate) device: SharedMemory,
    pub(crate) allocator: Allocator,
    /// Greatest IOVA that the chip can put on the bus.
    last_address: u64,
    pub(crate) host_read_bytes: u64,
    pub(crate) host_written_bytes: u64,
}

impl Memory {
    pub(crate) fn new(device: SharedMemory, last_address: u64) -> Self {
        Self {
            host: HostMemory::default(),
            allocator: Allocator::new(device.mapping.length()),
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
                let reachable = length == 0
                    || operand
                        .address
                        .checked_add(length - 1)
                        .is_some_and(|last| last <= self.last_address);
                if reachable && self.host.covers(operand.address, length, direction) {
                    Ok(())
                } else {
                    Err(Status::DmaFault)
                }
            }
            Space::Local => {
                let end = operand.address.checked_add(length);
                if end.is_some_and(|end| end <= self.device.mapping.length()) {
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
    pub(crate) fn span(
        &self,
        operand: Operand,
        length: u64,
        direction: Direction,
    ) -> Result<Span<'_>, Status> {
        match operand.space {
            Space::Host => self
                .host
                .span(operand.address, length, direction)
                .filter(|span| {
                    operand
                        .address
                        .checked_add(span.length.saturating_sub(1))
                        .is_some_and(|last| last <= self.last_address)
                })
                .ok_or(Status::DmaFault),
            Space::Local => {
                let size = self.device.mapping.length();
                if operand.address >= size {
                    return Err(Status::OutOfRange);
                }
                Ok(Span {
                    mapping: &self.device.mapping,
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
    pub(crate) fn read(&mut self, mut from: Operand, mut into: &mut [u8]) -> Result<(), Status> {
        while !into.is_empty() {
            let span = self.span(from, into.len() as u64, Direction::Read)?;
            let (piece, rest) = into.split_at_mut(span.length as usize);
            if !span.mapping.read(span.offset, piece) {
                return Err(Status::DmaFault);
            }
            let moved = span.length;
            if from.space == Space::Host {
                self.host_read_bytes += moved;
            }
            from = advance(from, moved);
            into = rest;
        }
        Ok(())
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// As [`Memory::check`]; some bytes may have been written.
    pub(crate) fn write(&mut self, mut to: Operand, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let span = self.span(to, data.len() as u64, Direction::Write)?;
            let (piece, rest) = data.split_at(span.length as usize);
            if !span.mapping.write(span.offset, piece) {
                return Err(Status::DmaFault);
            }
            let moved = span.length;
            if to.space == Space::Host {
                self.host_written_bytes += moved;
            }
            to = advance(to, moved);
            data = rest;
        }
        Ok(())
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
    ) -> Result<(), Status> {
        while length > 0 {
            let source = self.span(from, length, Direction::Read)?;
            let destination = self.span(to, source.length, Direction::Write)?;
            let moved = destination.length;
            let copied = Mapping::copy(
                (source.mapping, source.offset),
                (destination.mapping, destination.offset),
                moved as usize,
            );
            if !copied {
                return Err(Status::DmaFault);
            }
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

    /// The semaphore at `operand`.
    ///
    /// # Errors
    /// [`Status::Misaligned`], or as [`Memory::check`].
    pub(crate) fn semaphore(
        &self,
        operand: Operand,
        direction: Direction,
    ) -> Result<&AtomicU64, Status> {
        if !operand.address.is_multiple_of(8) {
            return Err(Status::Misaligned);
        }
        let span = self.span(operand, 8, direction)?;
        let word = match direction {
            Direction::Read => span.mapping.word64_readable(span.offset),
            Direction::Write | Direction::Both => span.mapping.word64(span.offset),
        };
        word.filter(|_| span.length == 8).ok_or(Status::DmaFault)
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
