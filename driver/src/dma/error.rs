//! What can go wrong with memory for DMA.

use std::io;

use crate::bus::BusError;

/// Errors of DMA memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// A length of 0, or one that no address space holds. Ask for another.
    #[error("{length} bytes of DMA memory cannot be had; ask for 1 byte to 2^47")]
    Length {
        /// What was asked for.
        length: u64,
    },
    /// The host has no memory left, or the process may not have more. Free some, or raise the limit.
    #[error("allocating {length} bytes of DMA memory: {source}")]
    NoMemory {
        /// What was asked for.
        length: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host has no huge pages free, and the space is to have nothing else. Reserve some (`vm.nr_hugepages`, or
    /// `hugepagesz=1G hugepages=N` on the kernel's command line), or prefer them instead.
    #[error(
        "{length} bytes of huge pages: {source}; free ones are in /sys/kernel/mm/hugepages/*/free_hugepages, \
         vm.nr_hugepages reserves more"
    )]
    NoHugePages {
        /// What was asked for, in whole huge pages.
        length: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// No IOVA range is left that all attached functions reach. Free buffers, or attach fewer chips to this space.
    #[error(
        "no free IOVA range of {length} bytes: {free} bytes are free, {largest} at most in one piece"
    )]
    NoIova {
        /// What was asked for.
        length: u64,
        /// Bytes that are free in all.
        free: u64,
        /// The largest piece.
        largest: u64,
    },
    /// The kernel allows no more mappings. Free buffers, or ask for fewer and larger ones.
    #[error(
        "the host allows no more DMA mappings ({made} are made); free buffers or allocate fewer, larger ones"
    )]
    NoMappings {
        /// How many this space has made.
        made: u64,
    },
    /// Memory that is already mapped lies where the function that is being attached cannot reach. Attach the functions
    /// with the narrowest addresses first, or give it a space of its own.
    #[error(
        "memory is mapped at IOVA {start:#x}, which this function cannot reach (its last address is {last:#x})"
    )]
    OutOfReach {
        /// The mapping.
        start: u64,
        /// Greatest address that the function can use.
        last: u64,
    },
    /// An access is not inside its buffer. Check offset and length.
    #[error("{length} bytes at {offset} of a buffer of {size} bytes")]
    OutOfBounds {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Bytes of the buffer.
        size: u64,
    },
    /// An access that must be aligned is not.
    #[error("offset {offset} is not a multiple of {align}")]
    Misaligned {
        /// The offset.
        offset: u64,
        /// What it must be a multiple of.
        align: u64,
    },
    /// Mapping or unmapping failed on the bus.
    #[error("mapping {length} bytes at IOVA {iova:#x}: {source}")]
    Bus {
        /// First IOVA.
        iova: u64,
        /// Bytes.
        length: u64,
        /// What the bus said.
        source: BusError,
    },
}
