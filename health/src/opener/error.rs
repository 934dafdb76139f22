//! Why the opener does not start or ended.

use std::io;
use std::path::PathBuf;

/// What the opener could not do.
#[derive(Debug, thiserror::Error)]
pub enum OpenerError {
    /// Its directory or socket could not be made.
    #[error("could not {doing} {path}: {source}", path = .path.display())]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No more connections can be accepted.
    #[error("could not wait for readers: {source}")]
    Accept {
        /// The kernel's reason.
        source: io::Error,
    },
}
