//! Why something could not be kept.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is of a later version of the agent.
    #[error(
        "{path} has schema version {found}, and this agent knows versions up to {known}: a newer agent wrote it; \
         run that one, or move the file away to begin without its history", path = .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The greatest that is known.
        known: u32,
    },
    /// The file is of an earlier version, and it was to be read only.
    #[error(
        "{path} has schema version {found}, expected {known}: start `auk agent` once, which brings it up to date",
        path = .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The one that is known.
        known: u32,
    },
    /// The database said no.
    #[error("could not {doing} {path}: {source}", path = .path.display())]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: rusqlite::Error,
    },
    /// The kernel said no.
    #[error("could not {doing} {path}: {source}", path = .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The disk does not answer.
    #[error("{path} did not answer within {deadline:?}; the disk hangs or is overloaded", path = .path.display())]
    Late {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// Nothing can be written at the moment, and what was asked for is not kept in memory.
    #[error("{path} cannot be written at the moment ({reason}); try again later", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its thread has ended.
    #[error("the thread that writes {path} has ended, which is a bug of the agent", path = .path.display())]
    Died {
        /// The file.
        path: PathBuf,
    },
}
