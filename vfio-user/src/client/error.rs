//! What can go wrong for a client.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::Errno;
use crate::wire::{Command, Violation};

/// Why a call failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the path, or it cannot be reached.
    #[error("cannot connect to the vfio-user socket {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor given is not a connected Unix stream socket.
    #[error(
        "the descriptor cannot be used for vfio-user, a connected Unix stream socket is needed: {0}"
    )]
    NotASocket(#[source] io::Error),
    /// The server has another client; try again when that one has gone.
    #[error("the device is in use: its vfio-user server is already serving another client")]
    InUse,
    /// The server has closed the connection, or died. What it was asked last may or may not have been done.
    #[error("the vfio-user server closed the connection during {command:?}")]
    Disconnected {
        /// What was being done.
        command: Command,
    },
    /// The server did not answer in time. The connection cannot be used any more, as a late answer could be
    /// taken for that to another question.
    #[error("the vfio-user server did not answer {command:?} before the deadline")]
    TimedOut {
        /// What was being done.
        command: Command,
    },
    /// Other threads were using the connection until the deadline; nothing was sent, it is still usable.
    #[error(
        "{command:?} could not begin before the deadline, other threads were using the connection"
    )]
    Contended {
        /// What was to be done.
        command: Command,
    },
    /// The server broke the protocol. The connection cannot be used any more.
    #[error("the vfio-user server broke the protocol during {command:?}: {violation}")]
    Protocol {
        /// What was being done.
        command: Command,
        /// What the server did.
        violation: Violation,
    },
    /// The server refused, and is fine otherwise.
    #[error("the vfio-user server refused {command:?}: {errno}")]
    Refused {
        /// What was being done.
        command: Command,
        /// The server's reason; `UnknownErrno` if it gave none.
        errno: Errno,
    },
    /// An earlier call left the connection unusable; connect again.
    #[error("the vfio-user connection is unusable since {command:?} failed: {reason}")]
    Poisoned {
        /// What was being done then.
        command: Command,
        /// What happened then.
        reason: String,
    },
    /// The call makes no sense, or exceeds what the server takes; nothing was sent.
    #[error("{command:?} not sent: {reason}")]
    Invalid {
        /// What was to be done.
        command: Command,
        /// Why not.
        reason: String,
    },
    /// The socket failed. The connection cannot be used any more.
    #[error("the vfio-user socket failed during {command:?}: {source}")]
    Io {
        /// What was being done.
        command: Command,
        /// What the kernel said.
        source: io::Error,
    },
}
