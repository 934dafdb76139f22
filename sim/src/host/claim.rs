//! Making a directory one's own, and giving it back.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::HostError;

/// The marker of a simulated host, below its root: signed with its process, and locked while that lives.
const MARKER: &str = "run/auk/sim/host";
/// What a signature begins with; the process follows.
const SIGNATURE: &str = "auk-sim-host ";
/// What a simulated host makes below its root. The leases of its chips go with them.
const OURS: [&str; 3] = ["sys", "run/auk/sim", "run/auk/lease"];
/// Likewise, a file.
const OUR_FILE: &str = super::kernel_log::PATH;
/// Directories above those, removed when nothing else is in them.
const SHARED: [&str; 3] = ["run/auk", "run", "dev"];
/// Auk's directories below a root: where an agent may have been, or still be, and where it is told how to run.
const AUKS: [&str; 4] = ["run/auk", "var/lib/auk", "etc/auk", "usr/lib/auk"];
/// How often a marker that vanishes between two looks is looked for again.
const TRIES: u32 = 10;

/// A root directory that this host has to itself. Dropping it removes the tree.
pub(crate) struct Claim {
    root: PathBuf,
    /// The root was not there before.
    made_root: bool,
    /// Locked by flock(2), which goes with the descriptor.
    _marker: File,
}

impl Claim {
    /// Takes `root`: a new or empty directory, or one that a dead host left behind.
    pub(crate) fn take(root: &Path) -> Result<Self, HostError> {
        let made_root = !root.exists();
        let path = root.join(MARKER);
        let fresh = !path.exists();
        // Looked for once more, because another host may be starting here.
        if fresh
            && let Some(found) = foreign(root, Path::new(""))?
            && !path.exists()
        {
            return Err(HostError::NotEmpty {
                root: root.to_owned(),
                found,
            });
        }
        let mut marker = lock_marker(root, &path)?;
        let signature = read_signature(&marker).map_err(HostError::io("read", &path))?;
        // Without a signature, of whoever made it: a host that died in between leaves an empty one.
        if !signature.is_empty() && signer(&signature).is_none() {
            return Err(HostError::NotEmpty {
                root: root.to_owned(),
                found: MARKER.to_owned(),
            });
        }
        marker
            .set_len(0)
            .and_then(|()| marker.rewind())
            .and_then(|()| writeln!(marker, "{SIGNATURE}{}", std::process::id()))
            .map_err(HostError::io("write", &path))?;
        let claim = Self {
            root: root.to_owned(),
            made_root,
            _marker: marker,
        };
        claim.sweep();
        Ok(claim)
    }

    /// Removes what an earlier host has left, but for the marker.
    fn sweep(&self) {
        remove(&self.root.join(OUR_FILE));
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
        remove(&self.root.join(OUR_FILE));
        for shared in SHARED {
            // Not empty: somebody else's, such as the agent's socket.
            let _ = fs::remove_dir(self.root.join(shared));
        }
        if self.made_root {
            let _ = fs::remove_dir(&self.root);
        }
    }
}

/// Something below `root`, in the directory `below` it, that is not in one of Auk's directories.
fn foreign(root: &Path, below: &Path) -> Result<Option<String>, HostError> {
    let directory = root.join(below);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(HostError::io("read the directory", &directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(HostError::io("read the directory", &directory))?;
        let path = below.join(entry.file_name());
        let mut auks = AUKS.iter().map(Path::new);
        let found = match auks.find(|auks| auks.starts_with(&path)) {
            Some(auks) if auks == path => None,
            Some(_) => foreign(root, &path)?,
            None => Some(path.display().to_string()),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn lock_marker(root: &Path, path: &Path) -> Result<File, HostError> {
    let directory = path.parent().unwrap_or(root);
    for _ in 0..TRIES {
        fs::create_dir_all(directory).map_err(HostError::io("make the directory", directory))?;
        let marker = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        let marker = match marker {
            // The host that goes has just removed the directory.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            marker => marker.map_err(HostError::io("open", path))?,
        };
        match marker.try_lock() {
            Ok(()) if is_at(&marker, path) => return Ok(marker),
            // The host that had it removed it between our open and our lock: this is no longer the marker.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let signature = read_signature(&marker).unwrap_or_default();
                return Err(HostError::InUse {
                    root: root.to_owned(),
                    pid: signer(&signature).map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(HostError::io("lock", path)(source)),
        }
    }
    Err(HostError::io("lock", path)(ErrorKind::ResourceBusy.into()))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn read_signature(marker: &File) -> io::Result<Vec<u8>> {
    let mut signature = Vec::new();
    marker.take(64).read_to_end(&mut signature)?;
    Ok(signature)
}

fn signer(signature: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(signature).ok()?;
    text.strip_prefix(SIGNATURE)?.trim_end().parse().ok()
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
