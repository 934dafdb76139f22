//! What can go wrong between the driver and a function.

use std::io;
use std::path::PathBuf;

/// Errors of a bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The other end of the socket is gone: the simulator ended. Open the chip again when it is back.
    #[error("the connection is gone{}", because(reason))]
    Disconnected {
        /// What was noticed, if anything.
        reason: String,
    },
    /// The socket could not be connected to. Start the simulator, or look at the path's permissions.
    #[error("connecting to {}: {source}", path.display())]
    Connect {
        /// Where the socket should be.
        path: PathBuf,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time. The connection cannot be used any more: open the chip again.
    #[error("{what}: no answer within {milliseconds} ms")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it was waited.
        milliseconds: u128,
    },
    /// The other end refused.
    #[error("{what}: refused with {errno}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its reason.
        errno: io::Error,
    },
    /// The other end broke the protocol. The connection cannot be used any more; report it.
    #[error("{what}: {reason}")]
    Protocol {
        /// What was asked.
        what: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The function has no such region, or not with the access that is needed. It is not an A1.
    #[error("region {index}: {problem}")]
    NoRegion {
        /// VFIO's index of the region.
        index: u32,
        /// What is missing.
        problem: &'static str,
    },
    /// A system call of this process failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

impl BusError {
    /// Whether the connection is of no more use.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Protocol { .. }
        )
    }
}
