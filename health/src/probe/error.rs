//! Why something could not be read.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Why a probe has no value. Each says what was read; none says that a component is ill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProbeError {
    /// The file is not there.
    #[error(
        "{path} does not exist: this kernel or driver does not offer it, or the device is gone"
    )]
    NotFound {
        /// The file.
        path: String,
    },
    /// The agent may not read it.
    #[error("no permission to read {path}: run the agent as a user that may")]
    Denied {
        /// The file.
        path: String,
    },
    /// The kernel showed less of config space than the agent needs.
    #[error(
        "{path} ends at byte {found} and {needed} are needed: beyond 64 bytes the kernel shows config \
         space only to an opener with CAP_SYS_ADMIN"
    )]
    Short {
        /// The config file.
        path: String,
        /// Where it ended.
        found: u64,
        /// How many bytes were needed.
        needed: u64,
    },
    /// The read failed.
    #[error("reading {path} failed: {errno}")]
    Io {
        /// The file.
        path: String,
        /// The kernel's reason.
        #[serde(with = "by_number")]
        errno: Errno,
    },
    /// The contents are not what such a file holds.
    #[error("{path} holds {found:?}, expected {expected}")]
    Malformed {
        /// The file.
        path: String,
        /// What it held, cut short.
        found: String,
        /// What belongs there.
        expected: Cow<'static, str>,
    },
    /// Config space reads as all ones.
    #[error("{path} reads as all ones: the function does not answer")]
    AllOnes {
        /// The config file.
        path: String,
    },
    /// There is no vital-signs capability.
    #[error("{path} has no vital-signs capability: old firmware, or the bitstream still loads")]
    NoVitals {
        /// The config file.
        path: String,
    },
    /// The sequence counter never stood still.
    #[error("the vital signs in {path} changed during each of {tries} reads")]
    Unsettled {
        /// The config file.
        path: String,
        /// Tries made.
        tries: u32,
    },
    /// The read did not end in time.
    #[error("the read did not end within {deadline_ms} ms")]
    Late {
        /// The deadline.
        deadline_ms: u64,
    },
    /// Too many readers hang already.
    #[error(
        "no reader is left: {held} hang in reads that do not end, and no more are started until some do"
    )]
    ReadersHeld {
        /// How many hang.
        held: usize,
    },
    /// The reader ended before it had read it.
    #[error(
        "the reader ended before it had read it, which is a bug of the agent or a lack of memory"
    )]
    ReaderLost,
    /// What the kernel says is not read, as it cannot be stored.
    #[error("what the kernel says cannot be stored, so it is not read")]
    Unstored,
    /// No reader could be started.
    #[error("no reader could be started: {errno}")]
    NoReader {
        /// The kernel's reason.
        #[serde(with = "by_number")]
        errno: Errno,
    },
}

impl ProbeError {
    /// The error for a failed system call on a file.
    #[must_use]
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::from_errno(path, Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }

    /// The error for a failed system call on a file, by its number.
    #[must_use]
    pub fn from_errno(path: &Path, errno: Errno) -> Self {
        let path = path.display().to_string();
        match errno {
            // ENODEV: the descriptor outlived its device.
            Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR => Self::NotFound { path },
            Errno::EACCES | Errno::EPERM => Self::Denied { path },
            errno => Self::Io { path, errno },
        }
    }

    /// The error for contents that do not parse.
    #[must_use]
    pub fn malformed(path: &Path, found: &str, expected: &'static str) -> Self {
        const SHOWN: usize = 64;
        let found = found.chars().take(SHOWN).collect();
        Self::Malformed {
            path: path.display().to_string(),
            found,
            expected: Cow::Borrowed(expected),
        }
    }

    /// Whether the file is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// An error number as a number.
mod by_number {
    use nix::errno::Errno;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(errno: &Errno, to: S) -> Result<S::Ok, S::Error> {
        (*errno as i32).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Errno, D::Error> {
        i32::deserialize(from).map(Errno::from_raw)
    }
}
