//! Limits of the process that the kernel's error numbers do not name.

use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use super::DmaError;

/// Mappings of other threads that may have come or gone while this one was refused and counted.
const SLACK: u64 = 16;

/// Why `length` bytes of memory were refused.
pub(super) fn refused(length: u64, errno: Errno) -> DmaError {
    match errno {
        Errno::EMFILE => DmaError::NoDescriptors {
            length,
            limit: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        },
        Errno::ENOMEM => too_many_maps(length).unwrap_or_else(|| no_memory(length, errno)),
        errno => no_memory(length, errno),
    }
}

fn no_memory(length: u64, errno: Errno) -> DmaError {
    DmaError::NoMemory {
        length,
        source: errno.into(),
    }
}

/// The error, if the process has as many mappings as it may have.
fn too_many_maps(length: u64) -> Option<DmaError> {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    let limit = limit.trim().parse::<u64>().ok()?;
    let maps = lines(File::open("/proc/self/maps").ok()?)?;
    (maps + SLACK >= limit).then_some(DmaError::TooManyMaps {
        length,
        maps,
        limit,
    })
}

/// Lines of a file, counted without memory: there may be none left.
fn lines(mut file: File) -> Option<u64> {
    let mut piece = [0; 4096];
    let mut count = 0;
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(count),
            read => count += piece[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}
