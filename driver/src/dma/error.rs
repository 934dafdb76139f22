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
    /// The process may open no more files, and memory for DMA is a file, one for each mapping. Raise the limit, or ask for fewer and
    /// larger buffers.
    #[error(
        "allocating {length} bytes of DMA memory: the process has no file descriptor left (its limit RLIMIT_NOFILE is {limit}, and \
         each mapping takes one); raise it (LimitNOFILE=, ulimit -n), or allocate fewer, larger buffers"
    )]
    NoDescriptors {
        /// What was asked for.
        length: u64,
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// The process may have no more mappings of any kind. Raise the limit, or ask for fewer and larger buffers.
    #[error(
        "allocating {length} bytes of DMA memory: the process has {maps} mappings, and vm.max_map_count allows {limit}; raise it (sysctl \
         vm.max_map_count), or allocate fewer, larger buffers"
    )]
    TooManyMaps {
        /// What was asked for.
        length: u64,
        /// Lines of `/proc/self/maps`.
        maps: u64,
        /// `vm.max_map_count`.
        limit: u64,
    },
    /// The host has no huge pages free, and the space is to have nothing else. Reserve some (`vm.nr_hugepages`, or
    /// `hugepagesz=1G hugepages=N` on the kernel's command line), or prefer them instead.
    #[error("{length} bytes of huge pages: {source}; {remedy}")]
    NoHugePages {
        /// What was asked for, in whole huge pages.
        length: u64,
        /// What the kernel said.
        source: io::Error,
        /// What the host has, and how to have more.
        remedy: String,
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
    /// The bus allows no more mappings. Free buffers, ask for fewer and larger ones, or raise the limit.
    #[error(
        "no DMA mapping is left ({made} are made); free buffers, allocate fewer and larger ones, or raise the limit, which of the \
         kernel's containers is dma_entry_limit of vfio_iommu_type1, 65535 unless changed, and which iommufd does not have"
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
    /// Memory of the job's own cannot be registered.
    #[error("registering {length} bytes at {place}: {source}")]
    Register {
        /// Its address, or where in its file it is.
        place: String,
        /// Bytes.
        length: u64,
        /// Why not.
        source: RegisterError,
    },
}

impl DmaError {
    /// Whether a device's connection has ended by it, so that nothing can be mapped for that any more.
    pub(super) const fn is_lost_connection(&self) -> bool {
        matches!(
            self,
            Self::Bus {
                source: BusError::Disconnected { .. }
                    | BusError::TimedOut { .. }
                    | BusError::Protocol { .. },
                ..
            }
        )
    }

    /// Whether it was for want of something that smaller or fewer mappings need less of.
    pub(super) const fn is_want(&self) -> bool {
        match self {
            Self::NoMemory { .. }
            | Self::NoDescriptors { .. }
            | Self::TooManyMaps { .. }
            | Self::NoHugePages { .. }
            | Self::NoIova { .. }
            | Self::NoMappings { .. } => true,
            Self::Bus { source, .. } => matches!(
                source,
                BusError::MemlockTooLow { .. } | BusError::Kernel { .. } | BusError::Refused { .. }
            ),
            _ => false,
        }
    }
}

/// Why memory of the job's own cannot be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Register whole pages.
    #[error("its {what} is not a multiple of {align}, the size of its pages; register whole pages")]
    Unaligned {
        /// Address, offset or length.
        what: &'static str,
        /// Bytes of a page.
        align: u64,
    },
    /// Nothing, or more than an address space has.
    #[error("no process can have that; register 1 page to 2^47 bytes")]
    Length,
    /// Something that is registered, or the space's own, has bytes in common with it. Use that, or drop it first.
    #[error(
        "{start:#x}..={last:#x} of it is in the space already; use that buffer, or drop it first"
    )]
    Overlaps {
        /// First byte of what is there.
        start: u64,
        /// Its last byte.
        last: u64,
    },
    /// No memory is there, or it cannot be written.
    #[error("it is not all ordinary memory, mapped and writable in this process: {source}")]
    NotMapped {
        /// What the kernel said.
        source: io::Error,
    },
    /// The file ends before the range does. Make it longer first (`ftruncate`).
    #[error("the file has {size} bytes; make it longer first (ftruncate)")]
    TooShort {
        /// Bytes of the file.
        size: u64,
    },
    /// Whoever has the file could cut it, and then touching the memory would end this process or the peer's.
    #[error(
        "the file is not sealed against shrinking; make it by memfd_create with MFD_ALLOW_SEALING, and add F_SEAL_SHRINK"
    )]
    MayShrink,
    /// The descriptor cannot be looked at or mapped.
    #[error("its descriptor cannot be used: {source}")]
    Descriptor {
        /// What the kernel said.
        source: io::Error,
    },
}
