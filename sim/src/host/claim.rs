//! Making a directory one's own, and giving it back.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::error::HostError;
use crate::inject::CONTROL_SOCKET;

/// The marker of a simulated host, below its root: holds the process and is locked while that lives.
const MARKER: &str = "run/auk/sim/host";
/// What a simulated host makes below its root.
const OURS: [&str; 3] = ["sys", "run/auk/sim", "run/auk/lease"];
/// Directories above those, removed when nothing else is in them.
const SHARED: [&str; 2] = ["run/auk", "run"];
/// Longest path of a Unix socket, unix(7).
const SUN_PATH_MAX: usize = 107;

/// A root directory that this host has to itself. Dropping it removes the tree.
pub(crate) struct Claim {
    root: PathBuf,
    /// The root was not there before.
    made_root: bool,
    _lock: Flock<File>,
}

impl Claim {
    /// Takes `root`: a new or empty directory, or one that a dead host left behind.
    pub(crate) fn take(root: &Path) -> Result<Self, HostError> {
        let most = SUN_PATH_MAX - CONTROL_SOCKET.len() - 1;
        let length = root.as_os_str().len();
        if length > most {
            return Err(HostError::RootTooLong {
                root: root.to_owned(),
                length,
                most,
            });
        }
        let made_root = !root.exists();
        let marker = root.join(MARKER);
        if !made_root
            && !marker.exists()
            && let Some(found) = foreign(root)?
        {
            return Err(HostError::NotEmpty {
                root: root.to_owned(),
                found,
            });
        }
        let lock = lock_marker(root, &marker)?;
        let claim = Self {
            root: root.to_owned(),
            made_root,
            _lock: lock,
        };
        claim.sweep();
        Ok(claim)
    }

    /// Removes what an earlier host has left, but for the marker.
    fn sweep(&self) {
        for ours in OURS {
            let path = self.root.join(ours);
            let Ok(entries) = fs::read_dir(&path) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.path() != self.root.join(MARKER) {
                    remove(&entry.path());
                }
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for ours in OURS {
            remove(&self.root.join(ours));
        }
        for shared in SHARED {
            // Not empty: somebody else's, such as the agent's socket.
            let _ = fs::remove_dir(self.root.join(shared));
        }
        if self.made_root {
            let _ = fs::remove_dir(&self.root);
        }
    }
}

/// Something below `root` that is not in Auk's run-time directory, where an agent may have been, or still be.
fn foreign(root: &Path) -> Result<Option<String>, HostError> {
    for (directory, ours) in [(root.to_owned(), "run"), (root.join("run"), "auk")] {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(HostError::io("read the directory", &directory))?,
        };
        for entry in entries {
            let entry = entry.map_err(HostError::io("read the directory", &directory))?;
            if entry.file_name() != ours {
                return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
            }
        }
    }
    Ok(None)
}

fn lock_marker(root: &Path, marker: &Path) -> Result<Flock<File>, HostError> {
    let directory = marker.parent().unwrap_or(root);
    fs::create_dir_all(directory).map_err(HostError::io("make the directory", directory))?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(marker)
        .map_err(HostError::io("open", marker))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let known = read.is_ok() && !pid.trim().is_empty();
            let pid = if known {
                pid.trim().to_owned()
            } else {
                "?".to_owned()
            };
            return Err(HostError::InUse {
                root: root.to_owned(),
                pid,
            });
        }
        Err((_, errno)) => return Err(HostError::io("lock", marker)(errno.into())),
    };
    lock.set_len(0).map_err(HostError::io("write", marker))?;
    writeln!(lock, "{}", std::process::id()).map_err(HostError::io("write", marker))?;
    Ok(lock)
}

/// Removes a file, a link or a directory with all that is in it.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove");
    }
}
