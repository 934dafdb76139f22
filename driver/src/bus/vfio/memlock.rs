//! How much memory this process may pin.
//!
//! type1 counts pinned pages as locked memory of the process (`VmLck`), iommufd as that of the user; both take the limit
//! `RLIMIT_MEMLOCK` for it, and neither counts for those with `CAP_IPC_LOCK` in the first user namespace.

use nix::sys::resource::{Resource, getrlimit};

use crate::bus::BusError;

/// `CAP_IPC_LOCK`, `<linux/capability.h>`.
const CAP_IPC_LOCK: u32 = 14;
/// `/proc/self/uid_map` of the first user namespace.
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// To what the kernel adds the pages of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Charged {
    /// The process's locked memory.
    Process,
    /// The locked memory of all of the user's processes, of which this process has pinned as many bytes here.
    User(u64),
}

/// An error, before anything is pinned, when `length` bytes more cannot be: then the kernel would pin up to the limit, and fail.
pub(super) fn check(length: u64, charged: Charged) -> Result<(), BusError> {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(libc::RLIM_INFINITY, |(soft, _)| soft);
    if limit == libc::RLIM_INFINITY {
        return Ok(());
    }
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let status = read("/proc/thread-self/status");
    let users = read("/proc/self/uid_map");
    judge(&status, &users, limit, length, charged).map_or(Ok(()), Err)
}

/// `None` also when what the kernel says of the process cannot be understood: the mapping itself will tell.
fn judge(status: &str, users: &str, limit: u64, length: u64, charged: Charged) -> Option<BusError> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
    };
    let capabilities = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
    if capabilities >> CAP_IPC_LOCK & 1 == 1 && users.split_whitespace().eq(ALL_USERS) {
        return None;
    }
    let locked = match charged {
        Charged::Process => field("VmLck:")?.parse::<u64>().ok()?.saturating_mul(1024),
        Charged::User(pinned) => pinned,
    };
    let needed = locked.saturating_add(length);
    (needed > limit).then_some(BusError::MemlockTooLow {
        length,
        needed,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "         0          0 4294967295\n";
    const LIMITED: &str = "Name:\tx\nVmLck:\t    4096 kB\nCapEff:\t0000000000000000\n";
    const PRIVILEGED: &str = "VmLck:\t0 kB\nCapEff:\t0000000000004000\n";

    #[test]
    fn the_limit_that_would_do_is_told() {
        let process = |limit| judge(LIMITED, FIRST, limit, 6 << 20, Charged::Process);
        assert!(matches!(
            process(8 << 20),
            Some(BusError::MemlockTooLow { needed, limit, .. }) if needed == 10 << 20 && limit == 8 << 20
        ));
        assert!(process(10 << 20).is_none());
        let user = |pinned| judge(LIMITED, FIRST, 16 << 20, 6 << 20, Charged::User(pinned));
        assert!(user(10 << 20).is_none());
        assert!(matches!(
            user(12 << 20),
            Some(BusError::MemlockTooLow { needed, .. }) if needed == 18 << 20
        ));
    }

    #[test]
    fn who_may_lock_anything_has_no_limit_unless_in_a_namespace_of_his_own() {
        let judged = |users| judge(PRIVILEGED, users, 0, 1 << 30, Charged::Process);
        assert!(judged(FIRST).is_none());
        assert!(judged("0 1000 1\n").is_some());
    }

    #[test]
    fn a_status_without_the_fields_is_no_reason_to_refuse() {
        assert!(judge("", FIRST, 0, 1, Charged::Process).is_none());
        assert!(judge("CapEff:\tnone\n", "", 0, 1, Charged::Process).is_none());
    }
}
