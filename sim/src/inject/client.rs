//! Asks a simulated host for a fault.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, CONTROL_SOCKET, Injection, MAX_LINE};

/// Why a fault could not be asked for, or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No simulated host listens there.
    #[error("no simulated host answers at {}: {source}; start one with `auk sim host`", path.display())]
    NoHost {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The host went away, or did not answer in time.
    #[error("the simulated host at {} did not answer: {source}", path.display())]
    Io {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What came back is no answer.
    #[error("the simulated host at {} answered something else: {found:?}", path.display())]
    Malformed {
        /// The control socket.
        path: PathBuf,
        /// What came.
        found: String,
    },
    /// The host refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the host whose tree begins at `root`, and waits for its answer.
///
/// # Errors
/// [`SendError`].
pub fn send(root: &Path, injection: &Injection, timeout: Duration) -> Result<(), SendError> {
    let path = root.join(CONTROL_SOCKET);
    let failed = |source| SendError::Io {
        path: path.clone(),
        source,
    };
    let stream = UnixStream::connect(&path).map_err(|source| SendError::NoHost {
        path: path.clone(),
        source,
    })?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    let mut request = serde_json::to_string(injection).map_err(|error| failed(error.into()))?;
    request.push('\n');
    (&stream).write_all(request.as_bytes()).map_err(failed)?;

    let mut line = String::new();
    BufReader::new((&stream).take(MAX_LINE as u64))
        .read_line(&mut line)
        .map_err(failed)?;
    match serde_json::from_str::<Answer>(&line) {
        Ok(Answer { ok: true, .. }) => Ok(()),
        Ok(Answer {
            error: Some(reason),
            ..
        }) => Err(SendError::Refused(reason)),
        _ => Err(SendError::Malformed { path, found: line }),
    }
}
