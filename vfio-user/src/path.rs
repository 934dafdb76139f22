//! Socket paths of any length.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, socket};

/// Longest path that fits `sun_path` with its NUL (unix(7)).
const SUN_PATH_MAX: usize = 107;

/// A path that fits `sun_path`, and the directory that must stay open while it is used.
struct ShortPath {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

/// Shortens a path that is too long by naming its directory through an open descriptor.
fn shorten(path: &Path) -> io::Result<ShortPath> {
    if path.as_os_str().len() <= SUN_PATH_MAX {
        return Ok(ShortPath {
            path: path.to_owned(),
            _directory: None,
        });
    }
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path does not name a socket",
        )
    })?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let directory = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(parent)?;
    let short = through(&directory, name);
    if short.as_os_str().len() > SUN_PATH_MAX {
        let what = "the name of the socket itself is too long for a Unix socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(ShortPath {
        path: short,
        _directory: Some(directory.into()),
    })
}

fn through(directory: &File, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name)
}

/// How long to wait before knocking again at a listener whose queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// Connects to the socket at `path`.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] when the listener's queue stays full until the deadline; otherwise what the
/// kernel says.
pub(crate) fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let short = shorten(path)?;
    let address = UnixAddr::new(&short.path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            // A Unix socket has no connection in progress to wait for: a full queue means trying again.
            Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(QUEUE_FULL_PAUSE),
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Creates a socket at `path` and listens on it.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    let short = shorten(path)?;
    UnixListener::bind(&short.path)
}
