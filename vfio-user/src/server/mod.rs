//! The server: a [`Device`] answers one client after the other.

mod client_memory;
mod device;
mod dispatch;
mod door;
mod link;
mod listener;
mod ranges;
mod session;
mod stop;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use client_memory::{ClientMemory, ClientMemoryError};
pub use device::Device;
pub use listener::{ListenError, Listener};
pub use stop::StopHandle;

use crate::socket::{Socket, TransportError};
use crate::wire::Violation;
use door::Door;

/// What a server takes from its clients.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most bytes of data in one message; 0 counts as 1.
    pub max_data_xfer_size: u32,
    /// Most DMA ranges mapped at a time.
    pub max_dma_maps: u32,
    /// How long a client may take for its VERSION, for the rest of a message it has begun, and to take a reply.
    pub message_timeout: Duration,
}

impl Default for Options {
    /// The specified defaults of 1 MiB and 65,535 ranges, and 5 s.
    fn default() -> Self {
        Self {
            max_data_xfer_size: 1 << 20,
            max_dma_maps: 65_535,
            message_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a server has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client has gone.
    Disconnected,
    /// [`StopHandle::stop`] was called.
    Stopped,
    /// The time was up.
    Deadline,
}

/// Why a client was disconnected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It broke the protocol so that nothing it sends has a meaning any more.
    #[error("the vfio-user client broke the protocol in {during}: {violation}")]
    Protocol {
        /// Kind of message.
        during: &'static str,
        /// What it did.
        violation: Violation,
    },
    /// It took too long to send a message to its end, or to take a reply.
    #[error("the vfio-user client took too long for {during}")]
    TooSlow {
        /// Kind of message.
        during: &'static str,
    },
    /// What was to be served is not a connected Unix stream socket.
    #[error("the descriptor cannot be served, a connected Unix stream socket is needed: {0}")]
    NotASocket(#[source] io::Error),
    /// The socket failed.
    #[error("the socket of the vfio-user client failed during {during}: {source}")]
    Io {
        /// Kind of message.
        during: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SessionError {
    fn new(during: &'static str, error: TransportError) -> Self {
        match error {
            TransportError::Closed => Self::Io {
                during,
                source: io::ErrorKind::ConnectionReset.into(),
            },
            TransportError::TimedOut => Self::TooSlow { during },
            TransportError::Violation(violation) => Self::Protocol { during, violation },
            TransportError::Io(source) => Self::Io { during, source },
        }
    }
}

/// A server, which serves one client at a time.
#[derive(Debug)]
pub struct Server {
    options: Options,
    stop: StopHandle,
}

impl Server {
    /// A server that is not serving anybody yet.
    ///
    /// # Errors
    /// What the kernel says when it has no descriptor to spare.
    pub fn new(mut options: Options) -> io::Result<Self> {
        options.max_data_xfer_size = options.max_data_xfer_size.max(1);
        Ok(Self {
            options,
            stop: StopHandle::new()?,
        })
    }

    /// What ends this server from another thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Serves the clients that come to `listener`, one after the other, until the server is stopped or, if
    /// given, `until`. Who comes while another is served is told that the device is in use. A client that
    /// misbehaves is disconnected, which the log tells, and the next one is served.
    ///
    /// # Errors
    /// What the kernel says when it cannot wait for clients.
    pub fn serve(
        &self,
        listener: &Listener,
        device: &mut dyn Device,
        until: Option<Instant>,
    ) -> io::Result<Ended> {
        let mut door = Door::new(&self.stop, Some(listener), until);
        loop {
            let fd = match door.next_client()? {
                Ok(fd) => fd,
                Err(ended) => return Ok(ended),
            };
            match self.session(fd, device, &mut door) {
                Ok(Ended::Disconnected) => {}
                Ok(ended) => return Ok(ended),
                Err(error) => tracing::warn!(%error, "a vfio-user client was disconnected"),
            }
        }
    }

    /// Serves the client at the other end of a connected Unix stream socket until it goes, the server is
    /// stopped or, if given, `until`.
    ///
    /// # Errors
    /// [`SessionError`] when the client misbehaves.
    pub fn serve_fd(
        &self,
        fd: OwnedFd,
        device: &mut dyn Device,
        until: Option<Instant>,
    ) -> Result<Ended, SessionError> {
        self.session(fd, device, &mut Door::new(&self.stop, None, until))
    }

    fn session(
        &self,
        fd: OwnedFd,
        device: &mut dyn Device,
        door: &mut Door<'_>,
    ) -> Result<Ended, SessionError> {
        let socket = Socket::new(fd).map_err(SessionError::NotASocket)?;
        session::serve(socket, device, &self.options, door)
    }
}
