//! Memory that the test and the chip share.
#![allow(
    unsafe_code,
    reason = "maps memory that the chip changes; every access is a bounds-checked copy or an atomic"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A mapping of a memfd.
pub struct Shared {
    fd: OwnedFd,
    map: MmapRaw,
}

impl Shared {
    /// New memory, all zeros.
    pub fn new(bytes: u64) -> Self {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"auk-sim-test", flags).unwrap();
        nix::unistd::ftruncate(&fd, bytes as i64).unwrap();
        Self::of(&fd, 0, bytes)
    }

    /// A part of a descriptor.
    pub fn of(fd: &OwnedFd, offset: u64, bytes: u64) -> Self {
        let map = MmapOptions::new()
            .offset(offset)
            .len(bytes as usize)
            .map_raw(fd)
            .unwrap();
        Self {
            fd: fd.as_fd().try_clone_to_owned().unwrap(),
            map,
        }
    }

    /// Another descriptor of the memory.
    pub fn fd(&self) -> OwnedFd {
        self.fd.try_clone().unwrap()
    }

    fn at(&self, offset: u64, bytes: usize) -> *mut u8 {
        let offset = offset as usize;
        assert!(offset + bytes <= self.map.len(), "beyond shared memory");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    pub fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let from = self.at(offset, bytes);
        let mut out = vec![0; bytes];
        // SAFETY: both are valid for that many bytes and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), bytes) };
        out
    }

    pub fn write(&self, offset: u64, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: both are valid for that many bytes and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    fn word32(&self, offset: u64) -> &AtomicU32 {
        let word = self.at(offset, 4).cast::<u32>();
        assert!(word.is_aligned());
        // SAFETY: aligned, and in the mapping as long as the reference lives.
        unsafe { AtomicU32::from_ptr(word) }
    }

    fn word64(&self, offset: u64) -> &AtomicU64 {
        let word = self.at(offset, 8).cast::<u64>();
        assert!(word.is_aligned());
        // SAFETY: aligned, and in the mapping as long as the reference lives.
        unsafe { AtomicU64::from_ptr(word) }
    }

    pub fn load32(&self, offset: u64) -> u32 {
        self.word32(offset).load(Ordering::Acquire)
    }

    pub fn store32(&self, offset: u64, value: u32) {
        self.word32(offset).store(value, Ordering::Release);
    }

    pub fn load64(&self, offset: u64) -> u64 {
        self.word64(offset).load(Ordering::Acquire)
    }

    pub fn store64(&self, offset: u64, value: u64) {
        self.word64(offset).store(value, Ordering::Release);
    }
}
