//! Asks a simulated host for a fault.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::{Answer, CONTROL_SOCKET, Injection, MAX_LINE, Verb};

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
    let deadline = Instant::now() + timeout;
    let stream = connect(&path).map_err(|source| SendError::NoHost {
        path: path.clone(),
        source,
    })?;
    let line = match exchange(&stream, injection, deadline) {
        // Who is to die does not answer.
        Err(error) if injection.verb == Verb::ProcessKill && hung_up(&error) => return Ok(()),
        line => line.map_err(failed)?,
    };
    match serde_json::from_slice::<Answer>(&line) {
        Ok(Answer { ok: true, .. }) => Ok(()),
        Ok(Answer {
            error: Some(reason),
            ..
        }) => Err(SendError::Refused(reason)),
        _ => Err(SendError::Malformed {
            path,
            found: String::from_utf8_lossy(&line).chars().take(80).collect(),
        }),
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
    )
}

/// Connects without waiting: a host that lives has room in its queue. Through the open directory, because a socket
/// address holds 107 bytes and a root may be longer.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let directory = path.parent().map_or_else(|| File::open("."), File::open)?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(path.file_name().unwrap_or_default());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(fd.as_raw_fd(), &UnixAddr::new(&short)?) {
        Ok(()) => {}
        Err(Errno::EAGAIN) => return Err(ErrorKind::ResourceBusy.into()),
        Err(errno) => return Err(errno.into()),
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Sends the request and reads one line, without its end.
fn exchange(
    mut stream: &UnixStream,
    injection: &Injection,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero())
            .then_some(left)
            .ok_or(io::Error::from(ErrorKind::TimedOut))
    };
    let mut request = serde_json::to_vec(injection)?;
    request.push(b'\n');
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(&request)?;

    let mut line = Vec::new();
    let mut chunk = [0; 512];
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if line.len() > MAX_LINE {
            return Err(ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}
