//! What can go wrong with a recording.

use std::io;
use std::path::PathBuf;

use super::VERSION;

/// Why a recording was not begun, or ends.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} the recording {path}: {source}", path = .path.display())]
pub struct WriteError {
    /// What was being done.
    pub doing: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{path}: could not be read: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The first line is none of ours.
    #[error(
        "{path}: line 1 is no header of a recording ({reason}); expected a file of `auk agent --record`",
        path = .path.display()
    )]
    NoRecording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another version.
    #[error(
        "{path}: line 1: the recording is of version {found}, written by auk {agent}; this auk reads version {VERSION}: \
         replay it with the auk that wrote it", path = .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The program that wrote it.
        agent: String,
    },
    /// A line makes no sense.
    #[error(
        "{path}: line {line} is damaged: {reason}; what stands before it can be replayed with `head -n {}`",
        .line.saturating_sub(1), path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}
