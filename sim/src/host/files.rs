//! Making and changing the files of the tree.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::error::HostError;

/// Mode of an attribute that everybody reads, as in sysfs.
pub(crate) const READ_ONLY: u32 = 0o444;
/// Mode of an attribute that root also writes.
pub(crate) const READ_WRITE: u32 = 0o644;
/// Mode of an attribute that root only writes.
pub(crate) const WRITE_ONLY: u32 = 0o200;
/// Mode of `remove`, the one attribute that its group writes as well.
pub(crate) const WRITE_ONLY_GROUP: u32 = 0o220;

/// The directory under which everything of one host lies.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
    scratch: PathBuf,
}

impl Files {
    /// The files below `root`; `scratch` is the file below it that new contents are written to
    /// before they take the place of the old.
    pub(crate) fn new(root: &Path, scratch: &str) -> Self {
        Self {
            root: root.to_path_buf(),
            scratch: root.join(scratch),
        }
    }

    /// The whole path of a file.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes a directory and those above it.
    pub(crate) fn directory(&self, relative: &str) -> Result<(), HostError> {
        let path = self.path(relative);
        fs::create_dir_all(&path).map_err(HostError::io("make the directory", &path))
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create(
        &self,
        relative: &str,
        mode: u32,
        contents: &[u8],
    ) -> Result<(), HostError> {
        let path = self.path(relative);
        write_new(&path, mode, contents)
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, relative: &str, target: &str) -> Result<(), HostError> {
        let path = self.path(relative);
        symlink(target, &path).map_err(HostError::io("make the link", &path))
    }

    /// Gives a file new contents in one step: a reader sees the old or the new, never a part.
    pub(crate) fn replace(
        &self,
        relative: &str,
        mode: u32,
        contents: &[u8],
    ) -> Result<(), HostError> {
        match fs::remove_file(&self.scratch) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(HostError::io("remove", &self.scratch)(error));
            }
            _ => {}
        }
        write_new(&self.scratch, mode, contents)?;
        let path = self.path(relative);
        fs::rename(&self.scratch, &path).map_err(HostError::io("replace", &path))
    }

    /// Gives a file or directory another name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), HostError> {
        let path = self.path(from);
        fs::rename(&path, self.path(to)).map_err(HostError::io("rename", &path))
    }

    /// Removes a file, a link or a directory with all that is in it; it may be gone already.
    pub(crate) fn remove(&self, relative: &str) -> Result<(), HostError> {
        let path = self.path(relative);
        let removed = fs::symlink_metadata(&path).and_then(|metadata| match metadata.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        });
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(HostError::io("remove", &path)),
        }
    }
}

fn write_new(path: &Path, mode: u32, contents: &[u8]) -> Result<(), HostError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(HostError::io("create", path))?;
    // The process's umask has taken bits away.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(HostError::io("set the mode of", path))?;
    file.write_all(contents)
        .map_err(HostError::io("write", path))
}
