//! The client: typed calls to a device behind a vfio-user server.

mod batch;
mod connection;
mod dma;
mod error;
mod info;
mod irqs;
mod regions;
mod requests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::poll::PollFlags;

pub use batch::RegionOp;
pub use dma::ClientMap;
pub use error::Error;
pub use requests::DmaHandler;

use crate::path;
use crate::socket::{self, MAX_FDS, Socket, TransportError};
use crate::wire::{Capabilities, Command, VERSION_MAJOR, VERSION_MINOR, Version, Violation};
use connection::{Connection, Request, Turns};

/// How a client presents itself.
pub struct Options {
    /// Most bytes of data the server may ask for or send in one DMA_READ or DMA_WRITE.
    pub max_data_xfer_size: u32,
    /// Answers the server's requests; without one they are refused.
    pub handler: Option<Box<dyn DmaHandler>>,
}

impl Default for Options {
    /// The specified default of 1 MiB, and no handler.
    fn default() -> Self {
        Self {
            max_data_xfer_size: 1 << 20,
            handler: None,
        }
    }
}

/// A connection to a vfio-user server.
///
/// Every call takes the moment until which it may wait. Threads may share a client; their calls take turns.
/// Dropping it disconnects, and the server lets go of all that was mapped.
pub struct Client {
    turns: Turns,
    server: Capabilities,
    /// Data in one message that our own end takes, in bytes.
    max_data: u32,
    /// The same socket, to wait on without taking a turn.
    waiting: OwnedFd,
}

impl Client {
    /// Connects to the server at a path, of whatever length.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody listens there, [`Error::InUse`] when the server has another client,
    /// and whatever can go wrong while the two agree on a version.
    pub fn connect(path: &Path, options: Options, deadline: Instant) -> Result<Self, Error> {
        let connect = |source| Error::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = path::connect(path, deadline).map_err(connect)?;
        Self::from_fd(stream.into(), options, deadline)
    }

    /// Takes over a connected Unix stream socket.
    ///
    /// # Errors
    /// [`Error::NotASocket`] when it is something else, [`Error::InUse`] when the server has another
    /// client, and whatever can go wrong while the two agree on a version.
    pub fn from_fd(fd: OwnedFd, options: Options, deadline: Instant) -> Result<Self, Error> {
        let waiting = fd.try_clone().map_err(Error::NotASocket)?;
        let socket = Socket::new(fd).map_err(Error::NotASocket)?;
        let capabilities = Capabilities {
            max_msg_fds: MAX_FDS as u64,
            max_data_xfer_size: options.max_data_xfer_size.into(),
            ..Capabilities::default()
        };
        let max_data = options.max_data_xfer_size;
        let mut connection = Connection::new(socket, options);
        let server = negotiate(&mut connection, capabilities, deadline)?;
        connection.serve_read_ahead(deadline);
        Ok(Self {
            turns: Turns::new(connection),
            server,
            max_data,
            waiting,
        })
    }

    /// What the server can take.
    pub fn server_capabilities(&self) -> &Capabilities {
        &self.server
    }

    /// Waits until the server sends requests of its own, and answers them; how many those were. 0 once the
    /// deadline has passed, or when a call of another thread has answered them meanwhile.
    ///
    /// Only needed when memory was mapped without descriptor and the device may access it at any time;
    /// while a call waits for its reply, it answers as well.
    ///
    /// # Errors
    /// [`Error::Disconnected`] and whatever else ends the connection.
    pub fn serve_requests(&self, deadline: Instant) -> Result<usize, Error> {
        let command = Command::DmaRead;
        match socket::wait(self.waiting.as_fd(), PollFlags::POLLIN, deadline) {
            Ok(()) => {}
            Err(TransportError::TimedOut) => return Ok(0),
            Err(TransportError::Io(source)) => return Err(Error::Io { command, source }),
            Err(_) => return Err(Error::Disconnected { command }),
        }
        match self.turns.take(command, deadline, |connection| {
            connection.serve_arrived(deadline)
        }) {
            Err(Error::Contended { .. }) => Ok(0),
            other => other,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Agrees on a version; the server's capabilities.
fn negotiate(
    connection: &mut Connection,
    ours: Capabilities,
    deadline: Instant,
) -> Result<Capabilities, Error> {
    let proposal = Version::new(ours).to_bytes();
    let request = Request::new(Command::Version, &proposal);
    let result = connection.call(&request, deadline, |reply| {
        let version = Version::parse(reply.payload)?;
        if version.major != VERSION_MAJOR || version.minor > VERSION_MINOR {
            let (major, minor) = (version.major, version.minor);
            return Err(Violation::VersionMismatch {
                major,
                minor,
                newest: VERSION_MINOR,
            });
        }
        Ok(version.capabilities)
    });
    match result {
        Err(Error::Refused {
            errno: crate::Errno::EBUSY,
            ..
        }) => Err(Error::InUse),
        other => other,
    }
}

/// An error for a call that was not made.
fn invalid<T>(command: Command, reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid {
        command,
        reason: reason.into(),
    })
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Client>();
};

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Connect { source, .. } => source.kind(),
            Error::Disconnected { .. } => io::ErrorKind::ConnectionReset,
            Error::TimedOut { .. } | Error::Contended { .. } => io::ErrorKind::TimedOut,
            Error::InUse => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
