//! Places in memory that commands name.

use auk_asic::submission::Operand;

use crate::device::DeviceMemory;
use crate::dma::DmaBuffer;

/// A place in memory: a buffer of the host's or memory of the chip's, from its start or, as a pair with an offset in
/// bytes, from there.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(super) memory: Memory<'a>,
    pub(super) offset: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Memory<'a> {
    Host(&'a DmaBuffer),
    Local(&'a DeviceMemory),
}

impl Place<'_> {
    /// Bytes of the whole memory.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        match self.memory {
            Memory::Host(buffer) => buffer.len() as u64,
            Memory::Local(memory) => memory.len(),
        }
    }

    /// Whether `length` bytes from here on are in the memory.
    #[inline]
    pub(super) fn has(&self, length: u64) -> bool {
        let end = self.offset.checked_add(length);
        end.is_some_and(|end| end <= self.size())
    }

    /// Where the chip finds it. Of an offset beyond the memory it is nowhere, and [`Place::has`] says so.
    #[inline]
    pub(super) fn operand(&self) -> Operand {
        match self.memory {
            Memory::Host(buffer) => Operand::host(buffer.iova().wrapping_add(self.offset)),
            Memory::Local(memory) => {
                Operand::local(memory.allocation.address.wrapping_add(self.offset))
            }
        }
    }
}

impl<'a> From<&'a DmaBuffer> for Place<'a> {
    #[inline]
    fn from(buffer: &'a DmaBuffer) -> Self {
        (buffer, 0).into()
    }
}

impl<'a> From<(&'a DmaBuffer, u64)> for Place<'a> {
    #[inline]
    fn from((buffer, offset): (&'a DmaBuffer, u64)) -> Self {
        Self {
            memory: Memory::Host(buffer),
            offset,
        }
    }
}

impl<'a> From<&'a DeviceMemory> for Place<'a> {
    #[inline]
    fn from(memory: &'a DeviceMemory) -> Self {
        (memory, 0).into()
    }
}

impl<'a> From<(&'a DeviceMemory, u64)> for Place<'a> {
    #[inline]
    fn from((memory, offset): (&'a DeviceMemory, u64)) -> Self {
        Self {
            memory: Memory::Local(memory),
            offset,
        }
    }
}
