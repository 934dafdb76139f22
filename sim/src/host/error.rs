//! What can keep a simulated host from starting.

use std::io;
use std::path::{Path, PathBuf};

use super::bdf::Bdf;
use crate::{ChipError, ServeError};

/// Why a simulated host did not start, or could not clean up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Another host lives in the directory.
    #[error(
        "{} is served by a live simulated host (process {pid}): stop that one, or choose another directory",
        root.display()
    )]
    InUse {
        /// The directory.
        root: PathBuf,
        /// Its process, or `?` when it has not written it down yet.
        pid: String,
    },
    /// The directory holds something that no simulated host made.
    #[error(
        "{} is not empty (it holds {found:?}) and no simulated host made it: choose an empty or a new directory",
        root.display()
    )]
    NotEmpty {
        /// The directory.
        root: PathBuf,
        /// An entry that was found there.
        found: String,
    },
    /// More devices than the host has buses for.
    #[error("a simulated host takes at most {most} {what}, {asked} were asked for")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many were asked for.
        asked: usize,
        /// Most that fit.
        most: usize,
    },
    /// The machine refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the machine answered.
        source: io::Error,
    },
    /// A chip could not be powered on.
    #[error("{bdf}: {source}")]
    Chip {
        /// Where it is.
        bdf: Bdf,
        /// Why.
        source: ChipError,
    },
    /// A chip could not be served.
    #[error("{bdf}: {source}")]
    Serve {
        /// Where it is.
        bdf: Bdf,
        /// Why.
        source: ServeError,
    },
    /// A thread did not start.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Its name.
        name: String,
        /// What the machine answered.
        source: io::Error,
    },
}

impl HostError {
    /// Wraps an I/O error with what was being done to which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }
}
