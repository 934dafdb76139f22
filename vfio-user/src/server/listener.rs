//! A Unix socket that clients find by its path.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use thiserror::Error;

use crate::path;

/// How long to wait for a listener whose queue is full before it counts as alive.
const PROBE: Duration = Duration::from_millis(100);

/// Why no listener could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another server listens there.
    #[error("{} is in use: another server is listening there", path.display())]
    InUse {
        /// The path asked for.
        path: PathBuf,
    },
    /// There is something else than a socket, which is left alone.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {doing} the vfio-user socket {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The path asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A Unix socket at a path, of whatever length, on which clients are awaited. Dropping it removes the path,
/// if it still leads to this socket.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the path, by which it is known again.
    identity: (u64, u64),
}

impl Listener {
    /// Listens at `path`. What a dead server has left there is removed, a living one is left alone.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |doing, source| ListenError::Io {
            doing,
            path: path.to_owned(),
            source,
        };
        let listener = match path::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                path::bind(path)
            }
            other => other,
        }
        .map_err(|source| failed("create", source))?;
        listener
            .set_nonblocking(true)
            .map_err(|source| failed("prepare", source))?;
        let found = fs::symlink_metadata(path).map_err(|source| failed("look up", source))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        })
    }

    /// The path clients connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next client that has connected; `None` when none has.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream.into())),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                // The client may have given up meanwhile.
                Some(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the vfio-user socket is left behind");
        }
    }
}

/// Removes the socket of a server that is no more.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |doing, source| ListenError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    match path::connect(path, Instant::now() + PROBE) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // Somebody listens, even if only too busy to accept.
        Ok(_) => {
            return Err(ListenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(ListenError::InUse {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(failed("try", error)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the stale", error))
        }
        _ => Ok(()),
    }
}
