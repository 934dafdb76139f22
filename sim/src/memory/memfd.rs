//! Memory of the chip's own that clients may map.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use auk_vfio_user::Errno;
use auk_vfio_user::memory::{MapError, SharedMemory};
use nix::fcntl::{FallocateFlags, fallocate};

/// A descriptor of a fixed size and all of it mapped.
#[derive(Debug)]
pub(crate) struct Memfd {
    /// What clients get to map.
    pub(crate) fd: Arc<OwnedFd>,
    /// Our own view of all of it.
    pub(crate) mapping: Arc<SharedMemory>,
}

impl Memfd {
    /// `length` bytes of zeros.
    ///
    /// # Errors
    /// What the system says: too little memory, too many descriptors.
    pub(crate) fn new(name: &CStr, length: u64) -> Result<Self, MapError> {
        let (fd, mapping) = SharedMemory::create(name, length)?;
        Ok(Self {
            fd: Arc::new(fd),
            mapping: Arc::new(mapping),
        })
    }

    /// Makes everything zero again, and gives the pages back to the system.
    ///
    /// # Errors
    /// What `fallocate` says.
    pub(crate) fn scrub(&self) -> Result<(), Errno> {
        let length = i64::try_from(self.mapping.len()).map_err(|_| Errno::EINVAL)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&*self.fd, flags, 0, length)
    }
}
