//! A directory of sysfs, held open: its files are found without a walk from the root each time.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use super::{ProbeError, text};

/// An open directory. When its device has left, its files are not found any more.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Directory {
    /// Opens a directory, or where a link leads that is one.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ProbeError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let descriptor = open(path, flags, Mode::empty())
            .map_err(|errno| ProbeError::from_errno(path, errno))?;
        Ok(Self {
            path: path.to_owned(),
            descriptor,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it for reading. That may wait, as any read may: see the crate's `reader`.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn file(&self, name: &str) -> Result<File, ProbeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        openat(&self.descriptor, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.failed(name, errno))
    }

    /// Opens a file in it that is neither a pipe nor anything else that may make the opening wait.
    ///
    /// # Errors
    /// As [`file`](Self::file), and EINVAL for what is no regular file.
    pub(crate) fn regular_file(&self, name: &str) -> Result<File, ProbeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let file = openat(&self.descriptor, name, flags, Mode::empty()).map(File::from);
        let file = file.map_err(|errno| self.failed(name, errno))?;
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            Ok(_) => Err(self.failed(name, Errno::EINVAL)),
            Err(error) => Err(ProbeError::io(&self.path.join(name), &error)),
        }
    }

    /// The text of a file, without the white space around it.
    ///
    /// # Errors
    /// When it cannot be read, is longer than a page or is not UTF-8.
    pub fn text(&self, name: &str) -> Result<String, ProbeError> {
        let file = self.file(name)?;
        text::read_from(file, || self.path.join(name))
    }

    /// A number in a file.
    ///
    /// # Errors
    /// As [`text`](Self::text), and when the contents are not `expected`.
    pub fn number<T: FromStr>(&self, name: &str, expected: &'static str) -> Result<T, ProbeError> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|_| self.malformed(name, &text, expected))
    }

    /// A number in hexadecimal with `0x` before it, as PCI IDs are.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn hexadecimal(&self, name: &str) -> Result<u32, ProbeError> {
        let text = self.text(name)?;
        text.strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.malformed(name, &text, "0x and at most eight hexadecimal digits"))
    }

    /// Where a link in it leads; `None` when there is no such link and the directory is there.
    ///
    /// # Errors
    /// When the directory is gone, or the link cannot be read.
    pub fn link(&self, name: &str) -> Result<Option<OsString>, ProbeError> {
        match readlinkat(&self.descriptor, name) {
            Ok(target) => Ok(Some(target)),
            // A link that is missing is a fact as long as the directory is there.
            Err(Errno::ENOENT) if self.is_there() => Ok(None),
            Err(errno) => Err(self.failed(name, errno)),
        }
    }

    /// Whether it has an entry of this name, wherever that leads.
    pub(crate) fn lists(&self, name: &str) -> bool {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fstatat(&self.descriptor, name, flags) != Err(Errno::ENOENT)
    }

    /// Whether its path still leads to a directory.
    pub(crate) fn is_there(&self) -> bool {
        self.path.is_dir()
    }

    /// The error for contents of a file that do not parse.
    pub(crate) fn malformed(&self, name: &str, found: &str, expected: &'static str) -> ProbeError {
        ProbeError::malformed(&self.path.join(name), found, expected)
    }

    fn failed(&self, name: &str, errno: Errno) -> ProbeError {
        ProbeError::from_errno(&self.path.join(name), errno)
    }
}
