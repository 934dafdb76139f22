//! The agent's place in its host: one lock, one Unix socket, perhaps one TCP address.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::AgentError;
use crate::probe::text;

/// Where an agent answers.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("run/auk/agent.sock")
}

/// What an agent holds; dropped, the socket is gone and the lock is free.
#[derive(Debug)]
pub(super) struct Sockets {
    unix: Option<UnixListener>,
    tcp: Option<TcpListener>,
    tcp_address: Option<SocketAddr>,
    socket: PathBuf,
    /// The lock, not the socket, says that an agent runs: it ends with its process, a socket
    /// stays. The file itself is left behind, for to remove a locked file is to split the lock.
    _lock: File,
}

impl Sockets {
    pub(super) fn open(root: &Path, listen: Option<SocketAddr>) -> Result<Self, AgentError> {
        let socket = path(root);
        let lock = lock(&root.join("run/auk"))?;
        let failed = |doing| {
            let path = socket.clone();
            move |source| AgentError::Runtime {
                doing,
                path,
                source,
            }
        };
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace the stale socket")(error));
            }
            _ => {}
        }
        let unix = UnixListener::bind(&socket).map_err(failed("listen on"))?;
        let mut sockets = Self {
            unix: None,
            tcp: None,
            tcp_address: None,
            socket: socket.clone(),
            _lock: lock,
        };
        // Everybody may read the status; nothing can be changed here.
        fs::set_permissions(&socket, Permissions::from_mode(0o666))
            .map_err(failed("open to everybody"))?;
        unix.set_nonblocking(true)
            .map_err(failed("make non-blocking"))?;
        sockets.unix = Some(unix);
        if let Some(address) = listen {
            let tcp = tcp(address)?;
            sockets.tcp_address = tcp.local_addr().ok();
            sockets.tcp = Some(tcp);
        }
        Ok(sockets)
    }

    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// Hands the listeners to the runtime, in which this is called.
    pub(super) fn listeners(
        &mut self,
    ) -> Result<
        (
            Option<tokio::net::UnixListener>,
            Option<tokio::net::TcpListener>,
        ),
        AgentError,
    > {
        let register = |source| AgentError::Thread { source };
        let unix = self
            .unix
            .take()
            .map(tokio::net::UnixListener::from_std)
            .transpose();
        let tcp = self
            .tcp
            .take()
            .map(tokio::net::TcpListener::from_std)
            .transpose();
        Ok((unix.map_err(register)?, tcp.map_err(register)?))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!(socket = %self.socket.display(), %error, "could not remove the socket");
        }
    }
}

fn lock(directory: &Path) -> Result<File, AgentError> {
    let path = directory.join("agent.lock");
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| AgentError::Runtime {
            doing,
            path,
            source,
        }
    };
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = text::read(&path).ok().filter(|pid| !pid.is_empty());
            let pid = pid.unwrap_or_else(|| "unknown".to_owned());
            return Err(AgentError::AlreadyRunning { lock: path, pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write", &path))?;
    Ok(file)
}

fn tcp(address: SocketAddr) -> Result<TcpListener, AgentError> {
    if !address.ip().is_loopback() {
        return Err(AgentError::NotLoopback { address });
    }
    let listener = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|source| AgentError::Listen { address, source })
}
