//! SIOCETHTOOL, for what ethtool netlink has no answer to: a driver's own statistics, and its name and version.
//!
//! The kernel writes as many numbers as the driver has at that moment (`ethtool_get_stats`, net/ethtool/ioctl.c), whatever it
//! was asked for before. So what it writes to ends at a page that nobody may write: a count that lies is an error, not another's
//! memory.

#![allow(
    unsafe_code,
    reason = "an ioctl, and the memory that the kernel is to write to"
)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// include/uapi/linux/sockios.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// Far more than any driver has, and far below what a reader may take.
const MOST: usize = 1 << 20;
const PAGE: usize = 4096;

/// Memory that begins with a request, for the kernel to write the answer to. It ends at a page that cannot be written.
pub(super) struct Exchange {
    map: NonNull<c_void>,
    mapped: usize,
    start: usize,
    length: usize,
}

impl Exchange {
    /// So many bytes, of which the first are the request and the rest is 0.
    pub(super) fn new(request: &[u8], length: usize) -> Result<Self, Errno> {
        let length = length.max(request.len()).next_multiple_of(8);
        if length > MOST {
            return Err(Errno::E2BIG);
        }
        let whole = length.next_multiple_of(PAGE);
        let mapped = whole + PAGE;
        let size = NonZeroUsize::new(mapped).ok_or(Errno::EINVAL)?;
        // SAFETY: anonymous memory at an address of the kernel's choice touches no other memory.
        let map =
            unsafe { mmap_anonymous(None, size, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) }?;
        let exchange = Self {
            map,
            mapped,
            start: whole - length,
            length,
        };
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the range lies in the mapping, which is ours alone.
        unsafe { mprotect(map, whole, flags) }?;
        let mut exchange = exchange;
        exchange.bytes_mut()[..request.len()].copy_from_slice(request);
        Ok(exchange)
    }

    /// Asks the driver of an interface.
    pub(super) fn run(&mut self, socket: BorrowedFd<'_>, interface: &str) -> Result<(), Errno> {
        let name = interface.as_bytes();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(Errno::EINVAL);
        }
        // SAFETY: all zeros is a value of this struct of integers and pointers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = self.bytes_mut().as_mut_ptr().cast();
        // SAFETY: the kernel reads and writes from where `ifru_data` points on; that is ours up to a page that it cannot write.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        Errno::result(result).map(drop)
    }

    /// The request, and what the kernel wrote over it and behind it.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: these bytes lie in the mapping, can be read, and are written by nobody while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.at_start(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, can be written too, and are borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.at_start(), self.length) }
    }

    fn at_start(&self) -> *mut u8 {
        // SAFETY: `start` is less than a page, and the mapping longer than one.
        unsafe { self.map.as_ptr().cast::<u8>().add(self.start) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.map, self.mapped) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_the_request_and_ends_at_the_end_of_a_page() {
        for length in [0, 1, 8, 4095, 4096, 4097, 70_000] {
            let exchange = Exchange::new(&[1, 2, 3, 4], length).unwrap();
            let bytes = exchange.bytes();
            assert!(bytes.len() >= length && bytes.len() < length + 16);
            assert_eq!(bytes[..4], [1, 2, 3, 4]);
            assert!(bytes[4..].iter().all(|byte| *byte == 0));
            assert!((bytes.as_ptr() as usize + bytes.len()).is_multiple_of(PAGE));
        }
        assert!(Exchange::new(&[], MOST + 1).is_err());
    }
}
