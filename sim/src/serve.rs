//! A chip behind a vfio-user server, on a thread of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use auk_vfio_user::server::{ListenError, Listener, Options, Server, StopHandle};

use crate::chip::Chip;
use crate::device::ChipDevice;

/// Why a chip cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no descriptor or thread.
    #[error("cannot serve simulated chip {serial:#018x}: {what}: {source}")]
    System {
        /// The chip's serial number.
        serial: u64,
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A chip that is being served. Dropping it disconnects the client, ends the thread and removes the
/// socket; the chip itself stays powered on.
#[derive(Debug)]
pub struct Serving {
    stop: StopHandle,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Whether the thread has ended by itself: the one client of [`Chip::serve_fd`] has gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the thread of a vfio-user server panicked");
        }
    }
}

impl Chip {
    /// Serves the chip to the clients that connect to `path`, one after the other.
    ///
    /// # Errors
    /// [`ServeError`] when the path is taken or cannot be made, or the system has no thread.
    pub fn serve(&self, path: &Path) -> Result<Serving, ServeError> {
        let listener = Listener::bind(path)?;
        self.serve_with(move |server, mut device, serial| {
            if let Err(error) = server.serve(&listener, &mut device, None) {
                tracing::error!(%error, serial, "the vfio-user server failed");
            }
        })
    }

    /// Serves the chip to the client at the other end of a connected Unix stream socket, until it
    /// goes.
    ///
    /// # Errors
    /// [`ServeError`] when the system has no thread.
    pub fn serve_fd(&self, fd: OwnedFd) -> Result<Serving, ServeError> {
        self.serve_with(move |server, mut device, serial| {
            if let Err(error) = server.serve_fd(fd, &mut device, None) {
                tracing::warn!(%error, serial, "a client was disconnected");
            }
        })
    }

    /// Serves the chip to this process: the socket is for a vfio-user client.
    ///
    /// # Errors
    /// [`ServeError`] when the system has no descriptors or no thread.
    pub fn connect(&self) -> Result<(Serving, OwnedFd), ServeError> {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|source| self.serve_error("making a socket pair", source))?;
        Ok((self.serve_fd(ours.into())?, theirs.into()))
    }

    fn serve_with(
        &self,
        serve: impl FnOnce(Server, ChipDevice, u64) + Send + 'static,
    ) -> Result<Serving, ServeError> {
        let server = Server::new(Options::default())
            .map_err(|source| self.serve_error("making a vfio-user server", source))?;
        let stop = server.stop_handle();
        let closing = Arc::new(AtomicBool::new(false));
        let device = self.device_until(Arc::clone(&closing));
        let serial = self.serial();
        let thread = std::thread::Builder::new()
            .name("auk-sim-server".to_owned())
            .spawn(move || serve(server, device, serial))
            .map_err(|source| self.serve_error("starting a thread", source))?;
        Ok(Serving {
            stop,
            closing,
            thread: Some(thread),
        })
    }

    fn serve_error(&self, what: &'static str, source: std::io::Error) -> ServeError {
        ServeError::System {
            serial: self.serial(),
            what,
            source,
        }
    }
}
