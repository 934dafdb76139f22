//! Memory of the chip's own that clients may map: sealed, so that nobody can shrink it under us.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

use super::Mapping;

/// A sealed memfd and its mapping.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    /// What clients get to map.
    pub(crate) fd: Arc<OwnedFd>,
    /// Our own view of all of it.
    pub(crate) mapping: Arc<Mapping>,
}

impl SharedMemory {
    /// `length` bytes of zeros.
    ///
    /// # Errors
    /// What the system says: too little memory, too many descriptors.
    pub(crate) fn new(name: &CStr, length: u64) -> Result<Self, Errno> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, i64::try_from(length).map_err(|_| Errno::EINVAL)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let mapping = Arc::new(Mapping::new(&fd, 0, length, true)?);
        Ok(Self {
            fd: Arc::new(fd),
            mapping,
        })
    }

    /// Makes everything zero again, and gives the pages back to the system.
    ///
    /// # Errors
    /// What `fallocate` says.
    pub(crate) fn scrub(&self) -> Result<(), Errno> {
        let length = i64::try_from(self.mapping.length()).map_err(|_| Errno::EINVAL)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&*self.fd, flags, 0, length)
    }
}
