//! How much memory this process may pin.
//!
//! type1 counts pinned pages as locked memory of the process (`VmLck`), iommufd as that of the user; both take the limit
//! `RLIMIT_MEMLOCK` for it, and neither counts for those with `CAP_IPC_LOCK`.

use nix::sys::resource::{Resource, getrlimit};

use crate::bus::BusError;

/// `CAP_IPC_LOCK`, `<linux/capability.h>`.
const CAP_IPC_LOCK: u32 = 14;

/// The error for `length` bytes that could not be pinned for lack of memory, if the limit explains it. `mapped` is what the
/// caller has mapped by itself.
pub(super) fn too_low(length: u64, mapped: u64) -> Option<BusError> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    if limit == libc::RLIM_INFINITY {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    judge(&status, limit, length, mapped)
}

fn judge(status: &str, limit: u64, length: u64, mapped: u64) -> Option<BusError> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
    };
    let capabilities = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
    if capabilities >> CAP_IPC_LOCK & 1 == 1 {
        return None;
    }
    let locked = field("VmLck:")?.parse::<u64>().ok()?.saturating_mul(1024);
    let needed = locked.max(mapped).saturating_add(length);
    (needed > limit).then_some(BusError::MemlockTooLow {
        length,
        needed,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_would_do_is_told() {
        let status = "Name:\tx\nVmLck:\t    4096 kB\nCapEff:\t0000000000000000\n";
        assert!(matches!(
            judge(status, 8 << 20, 6 << 20, 0),
            Some(BusError::MemlockTooLow { needed, limit, .. }) if needed == 10 << 20 && limit == 8 << 20
        ));
        assert!(judge(status, 16 << 20, 6 << 20, 0).is_none());
        assert!(judge(status, 16 << 20, 6 << 20, 12 << 20).is_some());
    }

    #[test]
    fn who_may_lock_anything_lacks_something_else() {
        let status = "VmLck:\t0 kB\nCapEff:\t0000000000004000\n";
        assert!(judge(status, 0, 1 << 30, 0).is_none());
    }
}
