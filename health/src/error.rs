//! What can go wrong with the agent itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::StoreError;

/// Why an agent did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The root is not a directory that can be read.
    #[error("{root} is not the root of a host: {source}; name an existing directory, or / for this machine", root = .root.display())]
    Root {
        /// What was given.
        root: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A setting that cannot work.
    #[error("the interval is {found:?}, expected at least {least:?}")]
    Interval {
        /// What was given.
        found: Duration,
        /// The least that is allowed.
        least: Duration,
    },
    /// Another agent watches this root.
    #[error("another agent (process {pid}) watches this host: it holds {lock}; ask it with `auk status` \
         or stop it first", lock = .lock.display())]
    AlreadyRunning {
        /// The lock that it holds.
        lock: PathBuf,
        /// Its process ID, as it wrote it.
        pid: String,
    },
    /// The run-time directory, the lock or the socket could not be made.
    #[error("could not {doing} {path}: {source}", path = .path.display())]
    Runtime {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The recording cannot be written.
    #[error("{0}; name another file, or leave out the recording")]
    Recording(#[from] crate::recording::WriteError),
    /// The address is not on this host alone.
    #[error(
        "{address} is not a loopback address, expected 127.0.0.1 or ::1: the status has no access control"
    )]
    NotLoopback {
        /// What was given.
        address: SocketAddr,
    },
    /// The TCP address could not be listened on.
    #[error("could not listen on {address}: {source}; choose another port, or 0 for any")]
    Listen {
        /// What was given.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// What a former agent kept may not be gone on with.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event loop or its thread could not be started.
    #[error("could not start the agent's thread: {source}")]
    Thread {
        /// The kernel's reason.
        source: io::Error,
    },
    /// The agent's thread ended by itself.
    #[error("the agent's thread ended by a panic, which is a bug of the agent")]
    Died,
    /// The agent did not stop in time.
    #[error("the agent did not stop within {deadline:?}; its thread is left to end by itself")]
    StopTimeout {
        /// How long it was waited for.
        deadline: Duration,
    },
}

/// Why a wait for a status ended without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The condition did not come true.
    #[error("the health status that was waited for did not come within {deadline:?}")]
    Timeout {
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The agent has stopped.
    #[error("the agent has stopped")]
    Stopped,
}
