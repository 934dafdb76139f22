//! Client memory for devices: mapping, translating and accessing it.
//!
//! The thread that serves the client keeps a [`DmaSpace`] and does there what DMA_MAP and DMA_UNMAP say. The
//! threads that work for the device each have a [`DmaView`], through which they access the memory without a lock.
//! An unmap is answered after [`Unmapping::wait`]: then no view reaches the memory any more.

mod places;
mod space;
mod table;
mod view;

use thiserror::Error;

pub use places::Places;
pub use space::{DmaSpace, Unmapping};
pub use view::{DmaView, Held, Window, Windows};

use crate::Errno;
use crate::memory::MapError;

/// What a device does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// Why an access by the device goes nowhere; an IOMMU would report the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DmaFault {
    /// Nothing is mapped there.
    #[error("nothing is mapped at IOVA {iova:#x}")]
    Unmapped {
        /// First address that is not mapped.
        iova: u64,
    },
    /// The client did not allow this.
    #[error("{access:?} access to IOVA {iova:#x} is not allowed")]
    Forbidden {
        /// First address where it is not.
        iova: u64,
        /// What is not allowed.
        access: Access,
    },
    /// The client did not share the memory: it is reached by messages, see
    /// [`ClientMemory`](crate::server::ClientMemory).
    #[error("the memory at IOVA {iova:#x} is not shared")]
    NotShared {
        /// First address where it is not.
        iova: u64,
    },
}

/// Why memory cannot be mapped or unmapped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DmaError {
    /// The range is empty or wraps.
    #[error("{size:#x} bytes at IOVA {iova:#x} are no range")]
    Range {
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// Something is mapped in the range already.
    #[error("{size:#x} bytes at IOVA {iova:#x} overlap what is mapped")]
    Overlap {
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// Exactly this range is not mapped.
    #[error("{size:#x} bytes at IOVA {iova:#x} were not mapped as such")]
    NotMapped {
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// The client's descriptor cannot be mapped, or not safely.
    #[error("the memory for IOVA {iova:#x}: {source}")]
    Memory {
        /// First address.
        iova: u64,
        /// Why not.
        source: MapError,
    },
    /// The device was still using the memory at the deadline.
    #[error("the device did not let go of the memory before the deadline")]
    InUse,
}

impl DmaError {
    /// What to tell the client.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Range { .. } => Errno::EINVAL,
            Self::Overlap { .. } => Errno::EEXIST,
            Self::NotMapped { .. } => Errno::ENOENT,
            Self::Memory { source, .. } => source.errno(),
            Self::InUse => Errno::EBUSY,
        }
    }
}
