//! The control socket: one line a request, one line an answer. Nothing that comes from it can hurt the host.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::HostError;
use crate::inject::{Answer, InjectError, Injection, MAX_LINE};

/// How long a client may take for a line, or to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests on one connection.
const MOST_REQUESTS: usize = 1000;

struct Stop {
    raised: AtomicBool,
    wake: EventFd,
}

/// The thread that answers. Dropping it removes the socket.
pub(crate) struct Control {
    path: PathBuf,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`, which does not exist, and hands requests to `inject`.
    pub(crate) fn start(
        path: &Path,
        inject: impl Fn(&Injection) -> Result<(), InjectError> + Send + 'static,
    ) -> Result<Self, HostError> {
        let failed = HostError::io("listen at", path);
        let listener = UnixListener::bind(path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(failed)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| HostError::io("make an eventfd for", path)(errno.into()))?;
        let stop = Arc::new(Stop {
            raised: AtomicBool::new(false),
            wake,
        });
        let theirs = Arc::clone(&stop);
        let name = "auk-sim-control".to_owned();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || serve(&listener, &theirs, &inject))
            .map_err(|source| HostError::Thread { name, source })?;
        Ok(Self {
            path: path.to_owned(),
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.raised.store(true, Ordering::Release);
        // Fails only when the counter is full, and then the thread is awake.
        let _ = self.stop.wake.write(1);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the control thread of the simulated host panicked");
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

type Inject<'a> = dyn Fn(&Injection) -> Result<(), InjectError> + 'a;

fn serve(listener: &UnixListener, stop: &Stop, inject: &Inject<'_>) {
    while !stop.raised.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(&stream, stop, inject) {
                    tracing::debug!(%error, "a control connection ended");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [
                    PollFd::new(listener.as_fd(), PollFlags::POLLIN),
                    PollFd::new(stop.wake.as_fd(), PollFlags::POLLIN),
                ];
                // Interrupted or not, the loop looks again.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket of the simulated host");
                std::thread::sleep(PATIENCE);
            }
        }
    }
}

fn answer(stream: &UnixStream, stop: &Stop, inject: &Inject<'_>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    for _ in 0..MOST_REQUESTS {
        if stop.raised.load(Ordering::Acquire) {
            break;
        }
        let mut line = Vec::new();
        let length = (&mut reader)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        let result = if whole {
            request(&line, inject)
        } else {
            Err(format!("a request is one line of at most {MAX_LINE} bytes"))
        };
        let answer = Answer {
            ok: result.is_ok(),
            error: result.err(),
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        (&*stream).write_all(text.as_bytes())?;
        if !whole {
            break;
        }
    }
    Ok(())
}

fn request(line: &[u8], inject: &Inject<'_>) -> Result<(), String> {
    let injection: Injection = serde_json::from_slice(line).map_err(|error| {
        format!(
            "not a request ({error}); one is {{\"verb\": \"ecc-ue\", \"target\": \"0000:01:00.0\"}}"
        )
    })?;
    tracing::info!(target = %injection.target, verb = injection.verb.name(), "inject");
    inject(&injection).map_err(|error| error.to_string())
}
