//! Memory next to the chips: which NUMA node pages are taken from (`Documentation/admin-guide/mm/numa_memory_policy.rst`).

#![allow(unsafe_code, reason = "libc has no function for mbind")]

use std::ffi::{c_ulong, c_void};
use std::ptr::NonNull;

use nix::errno::Errno;

/// Which NUMA node memory for DMA is to be taken from. It is a preference: where that node has no memory left, another gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumaPlacement {
    /// The nodes of the chips that are attached when the memory is mapped.
    #[default]
    NearChips,
    /// This one.
    Node(u32),
    /// Wherever the thread runs that first touches a page.
    Anywhere,
}

/// `MPOL_PREFERRED_MANY` of `<linux/mempolicy.h>`, which libc does not have.
const MPOL_PREFERRED_MANY: libc::c_int = 5;

/// Nodes that this machine has, `/sys/devices/system/node/online`. None where the kernel knows no NUMA.
pub(super) fn online() -> Vec<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    parse_list(&text)
}

/// A list as sysfs has it: `0-3,8`.
fn parse_list(text: &str) -> Vec<u32> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Has the pages of a mapping, those that are not there yet, taken from one of `nodes` if possible.
///
/// # Safety
/// The range is mapped.
pub(super) unsafe fn prefer(
    base: NonNull<c_void>,
    bytes: usize,
    nodes: &[u32],
) -> Result<(), Errno> {
    let bits = c_ulong::BITS;
    let words = nodes.iter().max().map_or(0, |most| most / bits + 1);
    let mut mask = vec![0; words as usize];
    for node in nodes {
        mask[(node / bits) as usize] |= 1 << (node % bits);
    }
    // Linux before 5.15 knows only one node that is preferred.
    let mode = match nodes {
        [_] => libc::MPOL_PREFERRED,
        _ => MPOL_PREFERRED_MANY,
    };
    // The kernel takes one bit less than it is told.
    let count = c_ulong::from(words * bits + 1);
    // SAFETY: the mask is as long as is said, and the policy changes nothing of what the range holds.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            base.as_ptr(),
            bytes,
            mode,
            mask.as_ptr(),
            count,
            0,
        )
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_is_read_as_sysfs_writes_it() {
        assert_eq!(parse_list("0\n"), [0]);
        assert_eq!(parse_list("0-2,8,10-11\n"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(parse_list("\n"), [] as [u32; 0]);
    }
}
