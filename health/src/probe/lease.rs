//! Who has a chip open: the lease file and the kernel's list of locks.
//!
//! The lease is an exclusive `flock` on `run/auk/lease/BDF`. Trying to take it, even for a moment,
//! could make a job's open fail, so the agent looks it up in `/proc/locks` instead.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::text;
use crate::facts::Holder;

/// The list grows with the locks of the whole host.
const LOCKS_LIMIT: u64 = 1 << 20;
/// Room for what the list holds as a rule.
const LOCKS_ROOM: usize = 64 << 10;

/// The leases of a host and the kernel's list of locks, each read when the first of a round is looked up.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    leases: Option<BTreeSet<OsString>>,
    list: Option<String>,
}

impl Locks {
    /// The holder of a function's lease; `None` when it is free or that cannot be told.
    pub(crate) fn holder(&mut self, root: &Path, bdf: &str) -> Option<Holder> {
        const DIRECTORY: &str = "run/auk/lease";
        let leases = self.leases.get_or_insert_with(|| {
            let entries = fs::read_dir(root.join(DIRECTORY));
            let entries = entries.into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        });
        match leases.contains(OsStr::new(bdf)) {
            true => holder(&root.join(DIRECTORY).join(bdf), self),
            false => None,
        }
    }

    fn list(&mut self) -> io::Result<&str> {
        if self.list.is_none() {
            // The kernel gives the list piece by piece; a piece of a page or more leaves out none while others come and go.
            let mut list = String::with_capacity(LOCKS_ROOM);
            fs::File::open("/proc/locks")?
                .take(LOCKS_LIMIT)
                .read_to_string(&mut list)?;
            self.list = Some(list);
        }
        Ok(self.list.as_deref().unwrap_or_default())
    }
}

/// The holder by a lease's file.
fn holder(lease: &Path, locks: &mut Locks) -> Option<Holder> {
    let inode = fs::metadata(lease).ok()?.ino();
    let mut holder: Holder = serde_json::from_str(&text::read(lease).ok()?).ok()?;
    if !is_locked(locks.list().ok()?, inode, holder.pid) {
        return None;
    }
    holder.cgroup = text::read(Path::new(&format!("/proc/{}/cgroup", holder.pid)))
        .ok()
        .and_then(|contents| contents.strip_prefix("0::").map(str::to_owned));
    Some(holder)
}

/// Whether the list has an exclusive `flock` of this process on this inode. The device number is
/// not compared: a stacked file system shows another one to `stat` than the lock has.
fn is_locked(locks: &str, inode: u64, pid: u32) -> bool {
    locks.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let class = fields.next();
        let mode = fields.nth(1);
        let owner = fields.next().and_then(|field| field.parse().ok());
        let file = fields
            .next()
            .and_then(|field| field.rsplit(':').next()?.parse().ok());
        class == Some("FLOCK") && mode == Some("WRITE") && owner == Some(pid) && file == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: POSIX  ADVISORY  READ  310 00:15:99 0 EOF\n\
                         2: FLOCK  ADVISORY  WRITE 4711 08:01:12345 0 EOF\n\
                         2: -> FLOCK  ADVISORY  WRITE 4712 08:01:12345 0 EOF\n";

    #[test]
    fn a_lock_is_found_by_inode_and_process() {
        assert!(is_locked(LOCKS, 12345, 4711));
    }

    #[test]
    fn a_process_that_waits_for_the_lock_does_not_hold_it() {
        assert!(!is_locked(LOCKS, 12345, 4712));
    }

    #[test]
    fn a_leftover_file_is_free() {
        assert!(!is_locked(LOCKS, 777, 4711));
        assert!(!is_locked("", 12345, 4711));
    }
}
